package auditapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	auditv1 "github.com/agentry/agentry/gen/agentry/audit/v1"
	"github.com/agentry/agentry/gen/agentry/audit/v1/auditv1connect"
	"github.com/agentry/agentry/internal/auditchain"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// only is who may read the log of one namespace.
type only string

func (o only) Allowed(_ access.Principal, permission string, on access.Object) bool {
	return permission == "audit.read" && on.Namespace == string(o)
}

func (o only) Somewhere(_ access.Principal, permission, namespace string) bool {
	return permission == "audit.read" && (namespace == "" || namespace == string(o))
}

// world is a service over a store that others write to.
type world struct {
	t       *testing.T
	store   *memstore.Store
	audited store.Store
	chainer *audit.Chainer
	service *Service
}

func newWorld(t *testing.T, window int64) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	w := &world{t: t, store: memstore.New()}
	w.audited = audit.Wrap(w.store, audit.Origin{Replica: "r"})
	var err error
	if w.chainer, err = audit.NewChainer(audit.ChainerConfig{Store: w.store, Logger: log, Window: window}); err != nil {
		t.Fatal(err)
	}
	if w.service, err = New(Config{Store: w.store, Chainer: w.chainer, Logger: log}); err != nil {
		t.Fatal(err)
	}
	return w
}

// change makes the entry of a change of an agent.
func (w *world) change(actor, namespace, agent string) {
	w.t.Helper()
	ctx := audit.With(w.t.Context(), audit.NewDraft(audit.Call{Actor: actor, Method: "/Apply", Namespace: namespace}))
	if _, err := w.audited.Commit(ctx, store.Txn{Puts: []store.KV{{Key: view.HeadKey("agent", namespace, agent)}}}); err != nil {
		w.t.Fatal(err)
	}
}

func admin(ctx context.Context) context.Context {
	return access.With(ctx, access.Principal{Name: "dev", Admin: true})
}

// team is who may read the log of namespace team.
func team(ctx context.Context) context.Context {
	return access.With(ctx, access.Principal{Name: "user:ada", Rules: only("team")})
}

func nobody(ctx context.Context) context.Context { return ctx }

func (w *world) list(ctx context.Context, m *auditv1.ListRequest) *auditv1.ListResponse {
	w.t.Helper()
	resp, err := w.service.List(ctx, connect.NewRequest(m))
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.Msg
}

func seqs(entries []*auditv1.Entry) []int64 {
	var out []int64
	for _, e := range entries {
		out = append(out, e.GetSeq())
	}
	return out
}

func TestListShowsWhatIsAskedForAndAllowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	for i := range 6 {
		w.change([]string{"user:ada", "user:bob"}[i%2], []string{"default", "team", "other"}[i%3], fmt.Sprintf("a%d", i))
	}
	cases := map[string]struct {
		as   func(context.Context) context.Context
		req  *auditv1.ListRequest
		want []int64
	}{
		"all":                {admin, &auditv1.ListRequest{AllNamespaces: true}, []int64{6, 5, 4, 3, 2, 1}},
		"default":            {admin, &auditv1.ListRequest{}, []int64{4, 1}},
		"a namespace":        {admin, &auditv1.ListRequest{Namespace: "team"}, []int64{5, 2}},
		"an actor":           {admin, &auditv1.ListRequest{AllNamespaces: true, Actor: "user:bob"}, []int64{6, 4, 2}},
		"an object":          {admin, &auditv1.ListRequest{AllNamespaces: true, Object: "agent/A2"}, []int64{3}},
		"a type":             {admin, &auditv1.ListRequest{AllNamespaces: true, Type: "denied"}, nil},
		"since":              {admin, &auditv1.ListRequest{AllNamespaces: true, Since: timestamppb.New(time.Now().Add(time.Minute))}, nil},
		"since an hour ago":  {admin, &auditv1.ListRequest{AllNamespaces: true, Since: timestamppb.New(time.Now().Add(-time.Hour))}, []int64{6, 5, 4, 3, 2, 1}},
		"one's own":          {team, &auditv1.ListRequest{AllNamespaces: true}, []int64{5, 2}},
		"another's":          {team, &auditv1.ListRequest{Namespace: "other"}, nil},
		"nobody":             {nobody, &auditv1.ListRequest{AllNamespaces: true}, nil},
		"nothing but a page": {team, &auditv1.ListRequest{AllNamespaces: true, PageSize: 1}, []int64{5}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, seqs(w.list(c.as(t.Context()), c.req).GetEntries())); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPagesHoldEachEntryOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	for i := range 450 {
		w.change("user:ada", []string{"default", "team"}[i%2], fmt.Sprintf("a%d", i))
	}
	ctx := team(t.Context())
	for _, size := range []int32{1, 7, 100, 225, 300} {
		var got []int64
		req := &auditv1.ListRequest{AllNamespaces: true, PageSize: size}
		for {
			page := w.list(ctx, req)
			if len(page.GetEntries()) > int(size) {
				t.Fatalf("a page of %d", len(page.GetEntries()))
			}
			got = append(got, seqs(page.GetEntries())...)
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		var want []int64
		for s := int64(450); s > 0; s -= 2 {
			want = append(want, s)
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v", size, got)
		}
	}
	for _, token := range []string{"x", "-1", "0"} {
		if _, err := w.service.List(ctx, connect.NewRequest(&auditv1.ListRequest{PageToken: token})); !errs.Is(err, errs.Invalid) {
			t.Errorf("token %q: %v", token, err)
		}
	}
}

// client calls the service over HTTP as who a context names.
func (w *world) client(as func(context.Context) context.Context) auditv1connect.AuditServiceClient {
	w.t.Helper()
	opts := rpc.HandlerOptions(slog.New(slog.DiscardHandler), func(ctx context.Context, _ string) (context.Context, error) { return as(ctx), nil })
	_, handler := auditv1connect.NewAuditServiceHandler(w.service, opts...)
	srv := httptest.NewServer(handler)
	w.t.Cleanup(srv.Close)
	return auditv1connect.NewAuditServiceClient(srv.Client(), srv.URL)
}

func TestChainSendsTheWindowThatVerifies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 100)
	for i := range 400 {
		w.change("user:ada", "default", fmt.Sprintf("a%d", i))
		if i%50 == 0 {
			if err := w.chainer.Fold(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func() (entries int, fault *auditchain.Fault) {
		stream, err := w.client(admin).Chain(t.Context(), connect.NewRequest(&auditv1.ChainRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stream.Close() }()
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		first := stream.Msg()
		v := auditchain.NewVerifier(auditchain.Point{Seq: first.GetAnchorSeq(), Hash: first.GetAnchor()})
		end := auditchain.Point{Seq: first.GetHeadSeq(), Hash: first.GetHash()}
		for stream.Receive() {
			if f := v.Next(auditchain.Link{Record: stream.Msg().GetRecord(), Hash: stream.Msg().GetHash()}); f != nil {
				return entries, f
			}
			entries++
		}
		if err := stream.Err(); err != nil {
			t.Fatal(err)
		}
		return entries, v.End(end)
	}
	if n, fault := read(); fault != nil || n < 100 || n >= 400 {
		t.Errorf("%d entries, %v", n, fault)
	}
	kv, err := w.store.Get(t.Context(), view.AuditPrefix+fmt.Sprintf("chain/%020d", 380))
	if err != nil {
		t.Fatal(err)
	}
	spoilt := strings.Replace(string(kv.Value), "user:ada", "user:eve", 1)
	if _, err := w.store.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: kv.Key, Value: []byte(spoilt)}}}); err != nil {
		t.Fatal(err)
	}
	if _, fault := read(); fault == nil || fault.Seq != 380 {
		t.Errorf("after a change: %v, want entry 380", fault)
	}
	if _, err := w.store.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: kv.Key, Value: kv.Value}}, Deletes: []string{view.AuditPrefix + fmt.Sprintf("chain/%020d", 400)}}); err != nil {
		t.Fatal(err)
	}
	if _, fault := read(); fault == nil || fault.Seq != 400 {
		t.Errorf("after a cut: %v, want entry 400", fault)
	}
}

func TestWatchFollows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- w.chainer.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()
	for i := range 6 {
		w.change("user:ada", []string{"default", "team"}[i%2], fmt.Sprintf("a%d", i))
	}
	client := w.client(team)
	stream, err := client.Watch(ctx, connect.NewRequest(&auditv1.WatchRequest{AllNamespaces: true, SinceSeq: 2}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	var got []int64
	for len(got) < 2 && stream.Receive() {
		got = append(got, stream.Msg().GetEntry().GetSeq())
	}
	for i := range 4 {
		w.change("user:ada", []string{"default", "team"}[i%2], fmt.Sprintf("b%d", i))
	}
	for len(got) < 4 && stream.Receive() {
		got = append(got, stream.Msg().GetEntry().GetSeq())
	}
	if want := []int64{4, 6, 8, 10}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v: %v", got, want, stream.Err())
	}
	for i := range 300 {
		w.change("user:ada", "team", fmt.Sprintf("c%d", i))
	}
	if err := w.chainer.Fold(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.change("user:ada", "team", "last")
	for since, want := range map[int64]connect.Code{1: connect.CodeOutOfRange, -1: connect.CodeInvalidArgument} {
		late, err := client.Watch(ctx, connect.NewRequest(&auditv1.WatchRequest{AllNamespaces: true, SinceSeq: since}))
		if err != nil {
			t.Fatal(err)
		}
		if late.Receive() || connect.CodeOf(late.Err()) != want {
			t.Errorf("since %d: %v, want %v", since, late.Err(), want)
		}
		_ = late.Close()
	}
}
