package app

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/agentry/agentry/controlplane/access"
	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/gen/agentry/access/v1/accessv1connect"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/gen/agentry/spec/v1/specv1connect"
)

// verdict is what a caller should be answered.
type verdict string

// The verdicts.
const (
	allowed   verdict = "allowed"         // as an administrator is
	denied    verdict = "denied"          // PERMISSION_DENIED
	absent    verdict = "doesn't exist"   // NOT_FOUND, in the words for what isn't there
	unknown   verdict = "unauthenticated" // by the door, not by the method
	unmounted verdict = "not on this door"
)

// method is one RPC with its rule.
type method struct {
	name string
	desc protoreflect.MethodDescriptor
	rule *accessv1.Access
	ask
}

// methods gives every RPC of our APIs. One without a rule, or without an entry in asks, fails.
func methods(t *testing.T) []method {
	t.Helper()
	known := asks()
	var out []method
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				if !strings.HasPrefix(string(f.Package()), "agentry.") {
					continue
				}
				name := "/" + string(s.FullName()) + "/" + string(m.Name())
				rule, ok := proto.GetExtension(m.Options(), accessv1.E_Access).(*accessv1.Access)
				if !ok || rule.GetOn() == accessv1.On_ON_UNSPECIFIED {
					t.Errorf("%s carries no rule", name)
				}
				a, ok := known[name]
				if !ok {
					t.Errorf("%s: nobody says in asks() how to ask it", name)
				}
				delete(known, name)
				on := rule.GetOn()
				if a.elsewhere != (on == accessv1.On_ON_INSTANCE || on == accessv1.On_ON_REPLICA || (on == accessv1.On_ON_PUBLIC && s.Name() == "EnrollService")) {
					t.Errorf("%s: the runtime door serves instances, enrollment and peers, the people door the rest; its rule is %s", name, on)
				}
				out = append(out, method{name: name, desc: m, rule: rule, ask: a})
			}
		}
		return true
	})
	for name := range known {
		t.Errorf("%s is in asks(), but there is no such method", name)
	}
	slices.SortFunc(out, func(a, b method) int { return strings.Compare(a.name, b.name) })
	return out
}

// targets gives what a method is asked about.
func (m method) targets() []target {
	kinds := m.kinds
	if kinds == nil {
		kinds = []string{m.rule.GetKind()}
	}
	var out []target
	switch {
	case m.elsewhere:
		return []target{{}}
	case m.named:
		for _, t := range []target{{namespace: "mine", name: "bot"}, {namespace: "mine", name: "other"}, {namespace: "theirs", name: "bot"}} {
			t.kind, t.several = "agent", true
			out = append(out, t)
		}
		return out
	}
	switch m.rule.GetOn() {
	case accessv1.On_ON_OBJECT:
		for _, kind := range kinds {
			for _, t := range []target{{namespace: "mine", name: "bot"}, {namespace: "mine", name: "other"}, {namespace: "mine", name: "ghost"}, {namespace: "theirs", name: "bot"}, {namespace: "mine"}} {
				t.kind = kind
				out = append(out, t)
			}
		}
		return out
	case accessv1.On_ON_OBJECTS:
		out = []target{{namespace: "mine", several: true}, {namespace: "theirs", several: true}}
		if m.desc.Input().Fields().ByName("all_namespaces") != nil {
			out = append(out, target{namespace: everywhere, several: true})
		}
		return out
	case accessv1.On_ON_NAMESPACE:
		return []target{{namespace: "mine"}, {namespace: "theirs"}, {namespace: everywhere}}
	default:
		return []target{{namespace: everywhere}}
	}
}

// expected is the answer by the rule and the roles, as they are written down in this test.
func (m method) expected(p *person, t target) verdict {
	permission := m.rule.GetPermission()
	switch on := m.rule.GetOn(); {
	case m.elsewhere:
		return unmounted
	case on == accessv1.On_ON_PUBLIC:
		return allowed
	case p.stranger:
		return unknown
	case on == accessv1.On_ON_CALLER:
		return allowed
	case on == accessv1.On_ON_OBJECTS && !p.somewhere(permission, t.namespace):
		return denied
	case on == accessv1.On_ON_OBJECTS:
	case on == accessv1.On_ON_OBJECT && !p.holds(permission, t) && t.name != "" && !p.holds("spec.read", t):
		return absent
	case !p.holds(permission, t):
		return denied
	}
	if m.fine != nil {
		return m.fine(p, t)
	}
	return allowed
}

// request makes a method's request about a target.
func (m method) request(t *testing.T, about target) *dynamicpb.Message {
	t.Helper()
	msg := dynamicpb.NewMessage(m.desc.Input())
	if err := protojson.Unmarshal([]byte(m.fill(about)), msg); err != nil {
		t.Fatalf("%s: %v", m.name, err)
	}
	set := func(name, value string) {
		if f := m.desc.Input().Fields().ByName(protoreflect.Name(name)); f != nil && value != "" {
			msg.Set(f, protoreflect.ValueOfString(value))
		}
	}
	all := m.desc.Input().Fields().ByName("all_namespaces")
	switch {
	case about.namespace == everywhere && all != nil:
		msg.Set(all, protoreflect.ValueOfBool(true))
	default:
		set("namespace", about.namespace)
	}
	if m.rule.GetOn() == accessv1.On_ON_OBJECT {
		name := m.rule.GetNameField()
		if name == "" {
			name = "name"
		}
		set(name, about.name)
		if m.rule.GetKind() == "" {
			set("kind", about.kind)
		}
	}
	return msg
}

// matrixWorld is a control plane with two namespaces of the same objects, and everybody's tokens.
type matrixWorld struct {
	*controlPlane
	access accessv1connect.AccessServiceClient
	admin  *person
	people []*person
}

func newMatrixWorld(t *testing.T) *matrixWorld {
	t.Helper()
	w := &matrixWorld{controlPlane: start(t, t.TempDir(), "--caller-rate", "1e6", "--address-rate", "1e6"), people: matrixPeople()}
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	token, err := access.LoadToken(w.info.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	w.admin = &person{name: "dev", grants: []grant{{role: "admin", namespace: everywhere}}, bearer: token.Reveal()}
	w.access = accessv1connect.NewAccessServiceClient(client, w.info.People, w.bearer())
	specs := specv1connect.NewSpecServiceClient(client, w.info.People, w.bearer())
	for _, namespace := range []string{"mine", "theirs"} {
		var files []*specv1.File
		add := func(path, content string) {
			files = append(files, &specv1.File{Path: path, Content: []byte(content)})
		}
		for name, team := range map[string]string{"bot": "a", "other": "b"} {
			add("set/"+name+"/agent-base.json", `{"promptKey": "bot", "labels": {"team": "`+team+`"}}`)
			add("set/"+name+"/model.json", `{"model": "m", "baseUrl": "http://127.0.0.1:1/v1"}`)
			add("set/prompts/"+name+".json", `{"promptKey": "`+name+`", "version": "1.0.0", "template": "You are a bot."}`)
			add("set/mcp/"+name+".json", `{"name": "`+name+`", "endpoint": "http://127.0.0.1:2/mcp"}`)
			add("set/"+name+".yaml", "kind: Credential\nmetadata: {name: "+name+"}\nspec: {value: sk-canary-matrix-1}\n")
		}
		if _, err := specs.Apply(t.Context(), connect.NewRequest(&specv1.ApplyRequest{Namespace: namespace, Files: files})); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range w.people {
		if !p.stranger {
			p.bearer = w.token(t, i, p)
		}
	}
	return w
}

// token makes a token that holds exactly what a person holds. A token without scopes would hold what its maker, an administrator, holds.
func (w *matrixWorld) token(t *testing.T, i int, p *person) string {
	t.Helper()
	name := strings.NewReplacer(" ", "-", ",", "").Replace(p.name) + "-" + string(rune('a'+i%26)) + time.Now().Format("150405.000000000")
	req := &accessv1.CreateTokenRequest{Name: name[:min(len(name), 64)]}
	var bind []grant
	for _, g := range p.grants {
		if g.scope {
			req.Scopes = append(req.Scopes, &accessv1.Scope{Namespace: g.namespace, Role: g.role})
		} else {
			bind = append(bind, g)
		}
	}
	if len(req.GetScopes()) == 0 {
		req.Scopes = []*accessv1.Scope{{Namespace: "nowhere", Role: "credential-user"}}
	}
	made, err := w.access.CreateToken(t.Context(), connect.NewRequest(req))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range bind {
		b := &accessv1.Binding{
			Name: made.Msg.GetToken().GetId(), Namespace: g.namespace, Role: g.role, Kind: g.kind, Object: g.object,
			Subjects: []string{"token:" + made.Msg.GetToken().GetId()},
		}
		if g.team != "" {
			b.Selector = []string{"team=" + g.team}
		}
		if _, err := w.access.SetBinding(t.Context(), connect.NewRequest(&accessv1.SetBindingRequest{Namespace: g.namespace, Binding: b})); err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
	}
	p.actor = "token:" + made.Msg.GetToken().GetName()
	return made.Msg.GetSecret()
}

// TestMatrix asks every method as everybody about everything on every transport.
func TestMatrix(t *testing.T) {
	all := methods(t)
	if t.Failed() {
		return
	}
	w := newMatrixWorld(t)
	kinds := matrixTransports(t)
	answers := make([]map[string]answer, len(kinds))
	t.Run("transports", func(t *testing.T) {
		for i, tr := range kinds {
			t.Run(tr.name, func(t *testing.T) {
				t.Parallel()
				answers[i] = map[string]answer{}
				for _, m := range all {
					for _, about := range m.targets() {
						w.compare(t, tr, m, about, answers[i])
					}
				}
				t.Logf("%d calls", len(answers[i]))
			})
		}
	})
	for i := 1; i < len(answers); i++ {
		if d := cmp.Diff(answers[0], answers[i]); d != "" {
			t.Errorf("%s and %s answer differently: %s", kinds[0].name, kinds[i].name, d)
		}
	}
}

// compare asks a method about a target as everybody. Whoever may is answered what an administrator is answered.
func (w *matrixWorld) compare(t *testing.T, tr transport, m method, about target, answers map[string]answer) {
	t.Helper()
	public := m.rule.GetOn() == accessv1.On_ON_PUBLIC && !m.elsewhere
	admins := answer{}
	if !m.once && !public {
		admins = m.call(t, w.info.People, tr, w.admin.bearer, about, len(m.seen(w.admin, about)))
		if want := m.expected(w.admin, about); !admins.is(want, about) {
			t.Errorf("%s %s as administrator: %+v, want %s", m.name, about, admins, want)
		}
	}
	for i, p := range w.people {
		want := m.expected(p, about)
		bearer := p.bearer
		switch {
		case public && i > 0:
			continue // who calls isn't looked at
		case m.once && !p.stranger:
			spent := *p
			bearer = w.token(t, i, &spent)
		}
		seen := m.seen(p, about)
		if want != allowed {
			seen = nil
		}
		got := m.call(t, w.info.People, tr, bearer, about, len(seen))
		switch {
		case public:
			if strings.Contains(got.Message, "no token") || got.Code == connect.CodePermissionDenied {
				t.Errorf("%s as %s: %+v", m.name, p.name, got)
			}
		case !got.is(want, about):
			t.Errorf("%s %s as %s: %+v, want %s", m.name, about, p.name, got, want)
		case want == allowed && !m.once && (got.Code != admins.Code || strings.ReplaceAll(got.Message, p.actor, "dev") != admins.Message):
			t.Errorf("%s %s as %s: %+v, an administrator is answered %+v", m.name, about, p.name, got, admins)
		}
		slices.Sort(got.Objects)
		if d := cmp.Diff(seen, got.Objects); d != "" {
			t.Errorf("%s %s as %s lists: %s", m.name, about, p.name, d)
		}
		if m.elsewhere {
			got.Message = "" // the client's own words for a page that isn't there
		}
		answers[m.name+" "+about.String()+" as "+p.name] = got
	}
}

// TestNotYoursIsByteForByteNotThere compares the raw answers about an object that isn't the caller's and about one that isn't there.
func TestNotYoursIsByteForByteNotThere(t *testing.T) {
	all := methods(t)
	w := newMatrixWorld(t)
	who := w.people[slices.IndexFunc(w.people, func(p *person) bool { return p.name == "operator of agent bot" })]
	formats := map[string]string{"connect": "application/json", "grpc-web": "application/grpc-web+json", "grpc": "application/grpc+json"}
	client := matrixTransports(t)[0].client
	for _, m := range all {
		if m.rule.GetOn() != accessv1.On_ON_OBJECT || m.elsewhere || m.desc.IsStreamingServer() {
			continue
		}
		for name, contentType := range formats {
			t.Run(strings.TrimPrefix(m.name, "/")+"/"+name, func(t *testing.T) {
				raw := func(object string) (int, string, http.Header) {
					kind := m.rule.GetKind()
					if kind == "" {
						kind = "agent"
					}
					body, err := protojson.Marshal(m.request(t, target{namespace: "mine", kind: kind, name: object}))
					if err != nil {
						t.Fatal(err)
					}
					if name != "connect" { // the envelope: no compression, and the length
						body = append([]byte{0, 0, 0, byte(len(body) >> 8), byte(len(body))}, body...)
					}
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.info.People+m.name, bytes.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Content-Type", contentType)
					req.Header.Set("Authorization", "Bearer "+who.bearer)
					resp, err := client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					defer func() { _ = resp.Body.Close() }()
					text, err := io.ReadAll(resp.Body)
					if err != nil {
						t.Fatal(err)
					}
					h := resp.Header.Clone()
					maps.Copy(h, resp.Trailer)
					h.Del("Date")
					h.Del("X-Request-Id")
					if h.Get("Agentry-Store-Revision") != "" { // the store goes on between two calls: its audit log is chained
						h.Set("Agentry-Store-Revision", "N")
					}
					for _, v := range h {
						for i := range v {
							v[i] = strings.ReplaceAll(v[i], object, "NAME")
						}
					}
					return resp.StatusCode, strings.ReplaceAll(string(text), object, "NAME"), h
				}
				code, body, head := raw("other")
				code2, body2, head2 := raw("ghost")
				if d := cmp.Diff([]any{code, body, head}, []any{code2, body2, head2}); d != "" {
					t.Error(d)
				}
				if !strings.Contains(body+strings.Join(head.Values("Grpc-Message"), ""), " mine/NAME doesn") && !strings.Contains(body+head.Get("Grpc-Message"), "needs ") {
					t.Errorf("it answered %s %v", body, head)
				}
			})
		}
	}
}
