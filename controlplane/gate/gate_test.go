package gate

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/gen/agentry/access/v1/accessv1connect"
	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	"github.com/agentry/agentry/gen/agentry/registry/v1/registryv1connect"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/gen/agentry/release/v1/releasev1connect"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
	"github.com/agentry/agentry/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// people knows callers by their tokens.
type people struct {
	mu      sync.Mutex
	known   map[string]access.Principal // by bearer
	changed chan struct{}
}

// Authenticate knows who is in the map.
func (p *people) Authenticate(_ context.Context, bearer string) (access.Principal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	who, ok := p.known[bearer]
	if !ok {
		return access.Principal{}, errs.New(errs.Unauthenticated, "the token is nobody's")
	}
	return who, nil
}

// Changed is closed by set.
func (p *people) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

func (p *people) set(bearer string, who access.Principal, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, bearer)
	if known {
		p.known[bearer] = who
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// rules hold what they list, as "permission kind/name", on every namespace.
type rules []string

// Allowed looks the permission up.
func (r rules) Allowed(_ access.Principal, permission string, o access.Object) bool {
	return slices.Contains(r, permission) || slices.Contains(r, permission+" "+o.Kind+"/"+o.Name) || slices.Contains(r, permission+" team="+o.Labels["team"])
}

// Somewhere looks for any of them.
func (r rules) Somewhere(_ access.Principal, permission, _ string) bool {
	return slices.ContainsFunc(r, func(have string) bool { return strings.HasPrefix(have+" ", permission+" ") })
}

// heard keeps events.
type heard struct {
	mu     sync.Mutex
	events []audit.Event
}

// Record keeps one.
func (h *heard) Record(e audit.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

func (h *heard) of(kind audit.Type) []audit.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.events), func(e audit.Event) bool { return e.Type != kind })
}

// labels are those of every agent whose name begins with the team.
type labels struct{}

// AgentLabels gives the team.
func (labels) AgentLabels(_, agent string) map[string]string {
	team, _, ok := strings.Cut(agent, "-")
	if !ok {
		return nil
	}
	return map[string]string{"team": team}
}

// service answers as its functions do.
type service struct {
	releasev1connect.UnimplementedStatusServiceHandler
	registryv1connect.UnimplementedPromptServiceHandler
	accessv1connect.UnimplementedAccessServiceHandler

	get   func(context.Context) error
	label func(context.Context) error
}

// GetStatus is a unary call that reads.
func (s *service) GetStatus(ctx context.Context, _ *connect.Request[releasev1.GetStatusRequest]) (*connect.Response[releasev1.GetStatusResponse], error) {
	if s.get != nil {
		if err := s.get(ctx); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(&releasev1.GetStatusResponse{Status: &releasev1.AgentStatus{Agent: "seen"}}), nil
}

// WatchStatus sends one message and waits.
func (s *service) WatchStatus(ctx context.Context, _ *connect.Request[releasev1.WatchStatusRequest], stream *connect.ServerStream[releasev1.WatchStatusResponse]) error {
	if err := stream.Send(&releasev1.WatchStatusResponse{}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// SetLabel is a unary call that writes.
func (s *service) SetLabel(ctx context.Context, _ *connect.Request[registryv1.SetLabelRequest]) (*connect.Response[registryv1.SetLabelResponse], error) {
	if s.label != nil {
		if err := s.label(ctx); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(&registryv1.SetLabelResponse{}), nil
}

// LoginInfo is public.
func (s *service) LoginInfo(context.Context, *connect.Request[accessv1.LoginInfoRequest]) (*connect.Response[accessv1.LoginInfoResponse], error) {
	return connect.NewResponse(&accessv1.LoginInfoResponse{}), nil
}

// door is a gate with a service behind it.
type door struct {
	*service
	people *people
	heard  *heard
	url    string
	addr   string
}

const (
	ada = "agt_ada"
	bob = "agt_bob"
)

func open(t *testing.T, limits Limits, more ...func(*Config)) *door {
	t.Helper()
	d := &door{
		service: &service{}, heard: &heard{},
		people: &people{changed: make(chan struct{}), known: map[string]access.Principal{
			ada: {Name: "user:ada", Kind: access.User, Rules: rules{"release.read", "prompt.label prompt/bot", "spec.read prompt/bot", "spec.read prompt/read"}},
			bob: {Name: "user:bob", Kind: access.User, Rules: rules{"release.read agent/bob", "release.read team=blue"}},
		}},
	}
	cfg := Config{
		Logger: slog.New(slog.DiscardHandler), Auth: d.people, Labels: labels{}, Audit: d.heard, Redact: redactor("sk-canary-0123456789"), Limits: limits,
	}
	for _, m := range more {
		m(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	handle := func(path string, h http.Handler) { mux.Handle(path, g.Wrap(h)) }
	handle(releasev1connect.NewStatusServiceHandler(d.service, g.Options()...))
	handle(registryv1connect.NewPromptServiceHandler(d.service, g.Options()...))
	handle(accessv1connect.NewAccessServiceHandler(d.service, g.Options()...))
	_, bare := releasev1connect.NewStatusServiceHandler(d.service, g.Options()...)
	mux.Handle("/bare/", http.StripPrefix("/bare", bare))
	mux.Handle("/page", g.Page(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("page")) })))
	srv := httptest.NewUnstartedServer(mux)
	srv.Config = rpc.NewHTTPServer(rpc.HTTPConfig{Logger: slog.New(slog.DiscardHandler), Handler: g.Bounded(mux)})
	srv.Start()
	t.Cleanup(srv.Close)
	d.url, d.addr = srv.URL, srv.Listener.Addr().String()
	return d
}

func redactor(values ...string) *secret.Redactor {
	r := &secret.Redactor{}
	for _, v := range values {
		r.Add(secret.NewValue(v))
	}
	return r
}

// transports are the ways in which a client may speak.
func transports() map[string][]connect.ClientOption {
	return map[string][]connect.ClientOption{
		"grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}, "connect json": {connect.WithProtoJSON()}, "connect": nil,
	}
}

// client speaks HTTP/2 without TLS, which gRPC needs.
func client(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func (d *door) status(t *testing.T, opts ...connect.ClientOption) releasev1connect.StatusServiceClient {
	t.Helper()
	return releasev1connect.NewStatusServiceClient(client(t), d.url, opts...)
}

func request[M any](bearer string, m *M) *connect.Request[M] {
	r := connect.NewRequest(m)
	if bearer != "" {
		r.Header().Set("Authorization", "Bearer "+bearer)
	}
	return r
}

func TestTheSameAnswerOnEveryTransport(t *testing.T) {
	cases := map[string]struct {
		bearer, agent string
		want          connect.Code // 0: none
		says          string
	}{
		"nobody":                    {agent: "bob", want: connect.CodeUnauthenticated, says: "the token is nobody's"},
		"a stranger":                {bearer: "agt_no", agent: "bob", want: connect.CodeUnauthenticated, says: "the token is nobody's"},
		"on all":                    {bearer: ada, agent: "any"},
		"on its own":                {bearer: bob, agent: "bob"},
		"by its labels":             {bearer: bob, agent: "blue-1"},
		"on another's":              {bearer: bob, agent: "eve", want: connect.CodeNotFound, says: "agent default/eve doesn't exist"},
		"by another's labels":       {bearer: bob, agent: "red-1", want: connect.CodeNotFound, says: "agent default/red-1 doesn't exist"},
		"on all of them, by no one": {bearer: bob, want: connect.CodePermissionDenied, says: "user:bob needs release.read on every agent of default"},
	}
	d := open(t, Limits{})
	for transport, opts := range transports() {
		c := d.status(t, opts...)
		for name, x := range cases {
			t.Run(transport+"/"+name, func(t *testing.T) {
				r := request(x.bearer, &releasev1.GetStatusRequest{Agent: x.agent})
				r.Header().Set(requestIDHeader, "request-0001")
				resp, err := c.GetStatus(t.Context(), r)
				if x.want == 0 {
					if err != nil || resp.Header().Get(requestIDHeader) != "request-0001" {
						t.Errorf("%v, %v", resp, err)
					}
					return
				}
				var e *connect.Error
				if !errors.As(err, &e) || e.Code() != x.want || e.Message() != x.says || e.Meta().Get(requestIDHeader) != "request-0001" {
					t.Errorf("got %v (%v)", err, e.Meta())
				}
			})
		}
	}
}

func TestDraftsAndDenials(t *testing.T) {
	d := open(t, Limits{Denials: Rate{PerSecond: 0.001, Burst: 2}})
	drafted := false
	d.label = func(ctx context.Context) error {
		drafted = audit.From(ctx) != nil
		who, _ := access.From(ctx)
		if who.Name != "user:ada" || RequestID(ctx) == "" {
			return errs.New(errs.Internal, "%v %q", who, RequestID(ctx))
		}
		return nil
	}
	c := registryv1connect.NewPromptServiceClient(client(t), d.url)
	if _, err := c.SetLabel(t.Context(), request(ada, &registryv1.SetLabelRequest{Prompt: "bot"})); err != nil || !drafted {
		t.Fatalf("%v, drafted %v", err, drafted)
	}
	// What the caller may read but not write is denied; what it may not even read doesn't exist.
	for prompt, want := range map[string]connect.Code{"read": connect.CodePermissionDenied, "none": connect.CodeNotFound} {
		if _, err := c.SetLabel(t.Context(), request(ada, &registryv1.SetLabelRequest{Prompt: prompt, Namespace: "team"})); connect.CodeOf(err) != want {
			t.Errorf("%s: %v", prompt, err)
		}
	}
	got := d.heard.of(audit.Denied)
	if len(got) != 2 || got[0].Actor != "user:ada" || got[0].Permission != "prompt.label" || got[0].Namespace != "team" ||
		!slices.Contains([]string{"prompt/read", "prompt/none"}, got[0].Object) || got[0].RequestID == "" {
		t.Fatalf("got %+v", got)
	}
	_, _ = c.SetLabel(t.Context(), request(ada, &registryv1.SetLabelRequest{Prompt: "none"}))
	if n := len(d.heard.of(audit.Denied)); n != 2 {
		t.Errorf("%d denials were told", n)
	}
	// A handler that denies by itself is told too.
	d.label = func(context.Context) error { return errs.New(errs.Denied, "not that one") }
	d.people.set("agt_eve", access.Principal{Name: "user:eve", Admin: true}, true)
	_, err := c.SetLabel(t.Context(), request("agt_eve", &registryv1.SetLabelRequest{Prompt: "x"}))
	if n := len(d.heard.of(audit.Denied)); connect.CodeOf(err) != connect.CodePermissionDenied || n != 3 {
		t.Errorf("%v, %d denials", err, n)
	}
	// So is an object that a handler asks about, whatever the caller hears; and once.
	d.get = func(ctx context.Context) error {
		return access.Check(ctx, "spec.read", access.Object{Namespace: "default", Kind: "prompt", Name: "hidden"})
	}
	d.people.set("agt_cy", access.Principal{Name: "user:cy", Rules: rules{"release.read"}}, true)
	_, err = d.status(t).GetStatus(t.Context(), request("agt_cy", &releasev1.GetStatusRequest{Agent: "a"}))
	got = d.heard.of(audit.Denied)
	if connect.CodeOf(err) != connect.CodeNotFound || len(got) != 4 || got[3].Object != "prompt/hidden" || got[3].Permission != "spec.read" {
		t.Errorf("%v, %+v", err, got[3:])
	}
}

func TestRates(t *testing.T) {
	d := open(t, Limits{Principal: Rate{PerSecond: 0.01, Burst: 3}, Address: Rate{PerSecond: 0.01, Burst: 2}, Login: Rate{PerSecond: 0.01, Burst: 1}})
	for transport, opts := range transports() {
		name := "user:" + transport
		d.people.set(transport, access.Principal{Name: name, Admin: true}, true)
		c := d.status(t, opts...)
		for range 3 {
			if _, err := c.GetStatus(t.Context(), request(transport, &releasev1.GetStatusRequest{Agent: "a"})); err != nil {
				t.Fatal(err)
			}
		}
		_, err := c.GetStatus(t.Context(), request(transport, &releasev1.GetStatusRequest{Agent: "a"}))
		var e *connect.Error
		if !errors.As(err, &e) || e.Code() != connect.CodeResourceExhausted || e.Meta().Get("Retry-After") == "" || len(e.Details()) != 1 {
			t.Fatalf("%s: %v", transport, err)
		}
		hint, err := e.Details()[0].Value()
		if info, ok := hint.(*errdetails.RetryInfo); err != nil || !ok || info.GetRetryDelay().AsDuration() <= 0 {
			t.Errorf("%s: hint %v, %v", transport, hint, err)
		}
	}
	c := d.status(t)
	codes := func(n int, call func() error) (out []connect.Code) {
		for range n {
			out = append(out, connect.CodeOf(call()))
		}
		return out
	}
	failed := codes(4, func() error {
		_, err := c.GetStatus(t.Context(), request("guess", &releasev1.GetStatusRequest{}))
		return err
	})
	if want := []connect.Code{connect.CodeUnauthenticated, connect.CodeUnauthenticated, connect.CodeResourceExhausted, connect.CodeResourceExhausted}; !slices.Equal(failed, want) {
		t.Errorf("failed logins: %v", failed)
	}
	if n := len(d.heard.of(audit.Unauthenticated)); n != 2 {
		t.Errorf("%d failed authentications were told", n)
	}
	// The address has nothing left for public calls either; logins count apart.
	a := accessv1connect.NewAccessServiceClient(client(t), d.url)
	public := codes(1, func() error {
		_, err := a.LoginInfo(t.Context(), request("", &accessv1.LoginInfoRequest{}))
		return err
	})
	logins := codes(2, func() error {
		_, err := a.Login(t.Context(), request("", &accessv1.LoginRequest{}))
		return err
	})
	if public[0] != connect.CodeResourceExhausted || logins[0] != connect.CodeUnimplemented || logins[1] != connect.CodeResourceExhausted {
		t.Errorf("public %v, logins %v", public, logins)
	}
	// Who is known isn't held up by strangers at the same address.
	if _, err := c.GetStatus(t.Context(), request(ada, &releasev1.GetStatusRequest{Agent: "a"})); err != nil {
		t.Error(err)
	}
}

func TestAHandlerWithoutTheGateAnswersNobody(t *testing.T) {
	d := open(t, Limits{})
	c := releasev1connect.NewStatusServiceClient(client(t), d.url+"/bare")
	_, err := c.GetStatus(t.Context(), request(ada, &releasev1.GetStatusRequest{Agent: "a"}))
	if connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("unary: %v", err)
	}
	s, err := c.WatchStatus(t.Context(), request(ada, &releasev1.WatchStatusRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if s.Receive() || connect.CodeOf(s.Err()) != connect.CodePermissionDenied {
		t.Errorf("stream: %v", s.Err())
	}
}

func TestErrorsTellNoSecretAndNoFaultOfOurs(t *testing.T) {
	d := open(t, Limits{})
	c := d.status(t)
	for name, x := range map[string]struct {
		get  func(context.Context) error
		want string
	}{
		"a secret":       {get: func(context.Context) error { return errs.New(errs.Invalid, "bad sk-canary-0123456789") }, want: "invalid_argument: bad [redacted]"},
		"a fault":        {get: func(context.Context) error { return errors.New("disk on fire") }, want: "internal: internal error; see the server's log"},
		"a panic":        {get: func(context.Context) error { panic("sk-canary-0123456789") }, want: "internal: internal error; see the server's log"},
		"its own status": {get: func(context.Context) error { return connect.NewError(connect.CodeAborted, errors.New("moved")) }, want: "aborted: moved"},
	} {
		t.Run(name, func(t *testing.T) {
			d.get = x.get
			_, err := c.GetStatus(t.Context(), request(ada, &releasev1.GetStatusRequest{Agent: "a"}))
			if err == nil || err.Error() != x.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRulesAreCheckedAtTheStart(t *testing.T) {
	if _, err := New(Config{}); !errs.Is(err, errs.Invalid) {
		t.Errorf("empty: %v", err)
	}
	option := func(a *accessv1.Access) *descriptorpb.MethodOptions {
		o := &descriptorpb.MethodOptions{}
		if a != nil {
			proto.SetExtension(o, accessv1.E_Access, a)
		}
		return o
	}
	field := func(name string, kind descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{
			Name: new(name), Number: new(int32(1)), Type: kind.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
	}
	for name, c := range map[string]struct {
		rule   *accessv1.Access
		fields []*descriptorpb.FieldDescriptorProto
		want   string
	}{
		"no rule":               {want: "carries no rule"},
		"unspecified":           {rule: &accessv1.Access{Permission: "a.b"}, want: "carries no rule"},
		"no permission":         {rule: &accessv1.Access{On: accessv1.On_ON_CLUSTER}, want: "a permission is for"},
		"a needless permission": {rule: &accessv1.Access{On: accessv1.On_ON_PUBLIC, Permission: "a.b"}, want: "a permission is for"},
		"no namespace":          {rule: &accessv1.Access{On: accessv1.On_ON_NAMESPACE, Permission: "a.b"}, want: `no text field "namespace"`},
		"namespace is a number": {
			rule:   &accessv1.Access{On: accessv1.On_ON_OBJECTS, Permission: "a.b"},
			fields: []*descriptorpb.FieldDescriptorProto{field("namespace", descriptorpb.FieldDescriptorProto_TYPE_INT64)}, want: `no text field "namespace"`,
		},
		"no name": {
			rule:   &accessv1.Access{On: accessv1.On_ON_OBJECT, Permission: "a.b", Kind: "agent", NameField: "agent"},
			fields: []*descriptorpb.FieldDescriptorProto{field("namespace", descriptorpb.FieldDescriptorProto_TYPE_STRING)}, want: `no text field "agent"`,
		},
		"right": {
			rule:   &accessv1.Access{On: accessv1.On_ON_NAMESPACE, Permission: "a.b"},
			fields: []*descriptorpb.FieldDescriptorProto{field("namespace", descriptorpb.FieldDescriptorProto_TYPE_STRING)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
				Name: new("t.proto"), Package: new("agentry.t.v1"), Syntax: new("proto3"),
				MessageType: []*descriptorpb.DescriptorProto{{Name: new("M"), Field: c.fields}},
				Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("S"), Method: []*descriptorpb.MethodDescriptorProto{{
					Name: new("Do"), InputType: new(".agentry.t.v1.M"), OutputType: new(".agentry.t.v1.M"), Options: option(c.rule),
				}}}},
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = rulesOf([]protoreflect.ServiceDescriptor{f.Services().Get(0)})
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}
