package a2aclient_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/a2aclient"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// seen is a request that came.
type seen struct {
	path   string
	query  string
	header http.Header
	body   string
}

// agent is a server with a card and one answer for everything else.
type agent struct {
	*httptest.Server

	mu   sync.Mutex // guards seen
	seen []seen
}

// serve answers the card, with $SELF for its own address, and everything else by answer.
func serve(t *testing.T, card string, answer http.HandlerFunc) *agent {
	t.Helper()
	a := &agent{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == a2a.CardPath {
			_, _ = io.WriteString(w, strings.ReplaceAll(card, "$SELF", "http://"+r.Host))
			return
		}
		b, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		a.seen = append(a.seen, seen{r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Clone(), string(b)})
		a.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *agent) requests() []seen {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen
}

func config(t *testing.T, change func(*a2aclient.Config)) a2aclient.Config {
	t.Helper()
	policy, err := egress.ParsePolicy("loopback")
	if err != nil {
		t.Fatal(err)
	}
	cfg := a2aclient.Config{Egress: egress.Config{Policy: policy}, CardTimeout: 5 * time.Second}
	if change != nil {
		change(&cfg)
	}
	return cfg
}

func open(t *testing.T, at string, change func(*a2aclient.Config)) *a2aclient.Agent {
	t.Helper()
	a, err := a2aclient.Open(t.Context(), at, config(t, change))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func card(interfaces, more string) string {
	return `{"name":"a","description":"d","version":"1","capabilities":{"streaming":true},"defaultInputModes":["text/plain"],"defaultOutputModes":["text/plain"],"skills":[],"supportedInterfaces":[` +
		interfaces + `]` + more + `}`
}

const (
	rpcFace  = `{"url":"$SELF/rpc","protocolBinding":"JSONRPC","protocolVersion":"1.0"}`
	restFace = `{"url":"$SELF/rest","protocolBinding":"HTTP+JSON","protocolVersion":"1.0"}`
	done     = `{"task":{"id":"t","contextId":"c","status":{"state":"TASK_STATE_COMPLETED"}}}`
)

func hello() *pb.SendMessageRequest {
	return &pb.SendMessageRequest{Message: &pb.Message{MessageId: "m", Role: pb.Role_ROLE_USER, Parts: []*pb.Part{{Content: &pb.Part_Text{Text: "hi"}}}}}
}

func TestTheFirstInterfaceThatBothSpeak(t *testing.T) {
	t.Parallel()
	answer := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/gone"):
			http.NotFound(w, r)
		case r.URL.Path == "/rpc":
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":"1","result":`+done+`}`)
		case r.URL.Path == "/old":
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":"1","error":{"code":-32009,"message":"not that"}}`)
		default:
			_, _ = io.WriteString(w, done)
		}
	}
	at := func(url, binding, version string) string {
		return fmt.Sprintf(`{"url":%q,"protocolBinding":%q,"protocolVersion":%q}`, url, binding, version)
	}
	for name, c := range map[string]struct{ faces, want string }{
		"its order":                      {restFace + "," + rpcFace, "/rest/message:send"},
		"a binding of tomorrow":          {at("$SELF/x", "QUIC", "1.0") + "," + rpcFace, "/rpc"},
		"a version of tomorrow":          {at("$SELF/rest", "HTTP+JSON", "2.0") + "," + rpcFace, "/rpc"},
		"a patch of the version":         {at("$SELF/rest", "HTTP+JSON", "1.0.1") + "," + rpcFace, "/rest/message:send"},
		"nobody listens there":           {at("http://127.0.0.1:1", "JSONRPC", "1.0") + "," + restFace, "/rest/message:send"},
		"nobody listens there, gRPC":     {at("127.0.0.1:1", "GRPC", "1.0") + "," + restFace, "/rest/message:send"},
		"nothing is served there":        {at("$SELF/gone", "HTTP+JSON", "1.0") + "," + rpcFace, "/rpc"},
		"it says that it is another one": {at("$SELF/old", "JSONRPC", "1.0") + "," + restFace, "/rest/message:send"},
		"an address that isn't for us":   {at("http://10.1.2.3/", "JSONRPC", "1.0") + "," + restFace, "/rest/message:send"},
		"a URL that is none":             {at("://", "JSONRPC", "1.0") + "," + restFace, "/rest/message:send"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, card(c.faces, ""), answer)
			a := open(t, s.URL, nil)
			for range 2 { // the second time it's known
				if _, err := a.Send(t.Context(), hello()); err != nil {
					t.Fatal(err)
				}
			}
			got := s.requests()
			if last := got[len(got)-1]; last.path != c.want || last.header.Get("A2A-Version") != "1.0" {
				t.Errorf("asked at %s with %v", last.path, last.header)
			}
			if before := got[:len(got)-1]; len(before) > 2 {
				t.Errorf("asked %d times", len(got))
			}
		})
	}
}

func TestCardsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		card string
		kind errs.Kind
	}{
		"no card":                      {`<html>`, errs.Invalid},
		"no interface":                 {card("", ""), errs.Invalid},
		"no interface that we speak":   {card(`{"url":"$SELF","protocolBinding":"QUIC","protocolVersion":"1.0"}`, ""), errs.Unsupported},
		"0.3 alone":                    {`{"name":"a","url":"$SELF/a2a","protocolVersion":"0.3.0","preferredTransport":"JSONRPC"}`, errs.Unsupported},
		"an extension that it demands": {strings.Replace(card(rpcFace, ""), `"streaming":true`, `"extensions":[{"uri":"urn:x","required":true}]`, 1), errs.Unsupported},
		"larger than a card may be":    {card(rpcFace, `,"x":"`+strings.Repeat("x", 2<<20)+`"`), errs.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, c.card, http.NotFound)
			a, err := a2aclient.Open(t.Context(), s.URL, config(t, nil))
			if err == nil {
				a.Close()
			}
			if errs.KindOf(err) != c.kind || err == nil {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestWhereTheCredentialGoes(t *testing.T) {
	t.Parallel()
	ok := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, done) }
	scheme := func(s string) string {
		return card(restFace, `,"securitySchemes":{"k":`+s+`},"securityRequirements":[{"schemes":{"k":{"list":[]}}}]`)
	}
	for name, c := range map[string]struct{ card, header, want, query string }{
		"no scheme":     {card: card(restFace, ""), header: "Authorization", want: "Bearer top:secret"},
		"bearer":        {card: scheme(`{"httpAuthSecurityScheme":{"scheme":"bearer"}}`), header: "Authorization", want: "Bearer top:secret"},
		"basic":         {card: scheme(`{"httpAuthSecurityScheme":{"scheme":"Basic"}}`), header: "Authorization", want: "Basic dG9wOnNlY3JldA=="},
		"oauth2":        {card: scheme(`{"oauth2SecurityScheme":{"flows":{}}}`), header: "Authorization", want: "Bearer top:secret"},
		"key in header": {card: scheme(`{"apiKeySecurityScheme":{"location":"header","name":"X-Api-Key"}}`), header: "X-Api-Key", want: "top:secret"},
		"key in query":  {card: scheme(`{"apiKeySecurityScheme":{"location":"query","name":"key"}}`), query: "key=top%3Asecret"},
		"key in cookie": {card: scheme(`{"apiKeySecurityScheme":{"location":"cookie","name":"sid"}}`), header: "Cookie", want: "sid=top:secret"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, c.card, ok)
			a := open(t, s.URL, func(cfg *a2aclient.Config) { cfg.Credential = secret.NewValue("top:secret") })
			if _, err := a.Send(t.Context(), hello()); err != nil {
				t.Fatal(err)
			}
			got := s.requests()[0]
			if (c.header != "" && got.header.Get(c.header) != c.want) || got.query != c.query {
				t.Errorf("%s: %q, query %q", c.header, got.header.Get(c.header), got.query)
			}
		})
	}
	t.Run("another origin", func(t *testing.T) {
		t.Parallel()
		other := serve(t, "", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			ok(w, r)
		})
		s := serve(t, card(`{"url":"`+other.URL+`","protocolBinding":"HTTP+JSON","protocolVersion":"1.0"}`, ""), http.NotFound)
		credential := func(cfg *a2aclient.Config) { cfg.Credential = secret.NewValue("top:secret") }
		_, err := open(t, s.URL, credential).Send(t.Context(), hello())
		if !errs.Is(err, errs.Unauthenticated) || !strings.Contains(err.Error(), "was not shown") || strings.Contains(err.Error(), "secret") {
			t.Errorf("error is %v", err)
		}
		a := open(t, s.URL, func(cfg *a2aclient.Config) { credential(cfg); cfg.CredentialOrigins = []string{other.URL} })
		if _, err := a.Send(t.Context(), hello()); err != nil {
			t.Error(err)
		}
	})
	t.Run("a card that a redirect led to", func(t *testing.T) {
		t.Parallel()
		other := serve(t, card(restFace, ""), func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			ok(w, r)
		})
		s := httptest.NewServer(http.RedirectHandler(other.URL+a2a.CardPath, http.StatusFound))
		t.Cleanup(s.Close)
		credential := func(cfg *a2aclient.Config) { cfg.Credential = secret.NewValue("top:secret") }
		_, err := open(t, s.URL, credential).Send(t.Context(), hello())
		if !errs.Is(err, errs.Unauthenticated) || !strings.Contains(err.Error(), "was not shown") {
			t.Errorf("error is %v", err)
		}
		if got := other.requests(); len(got) != 1 || got[0].header.Get("Authorization") != "" {
			t.Errorf("it saw %v", got)
		}
		a := open(t, s.URL, func(cfg *a2aclient.Config) { credential(cfg); cfg.CredentialOrigins = []string{other.URL} })
		if _, err := a.Send(t.Context(), hello()); err != nil {
			t.Error(err)
		}
	})
	t.Run("a scheme that nobody here has", func(t *testing.T) {
		t.Parallel()
		s := serve(t, scheme(`{"mtlsSecurityScheme":{}}`), ok)
		_, err := a2aclient.Open(t.Context(), s.URL, config(t, func(cfg *a2aclient.Config) { cfg.Credential = secret.NewValue("top:secret") }))
		if !errs.Is(err, errs.Unsupported) || strings.Contains(err.Error(), "secret") {
			t.Errorf("error is %v", err)
		}
	})
}

func TestTheTenantOfTheInterface(t *testing.T) {
	t.Parallel()
	tenanted := func(face string) string { return strings.Replace(face, "}", `,"tenant":"acme/1"}`, 1) }
	for name, c := range map[string]struct{ face, path, body string }{
		"JSONRPC":   {tenanted(rpcFace), "/rpc", `"tenant":"acme/1"`},
		"HTTP+JSON": {tenanted(restFace), "/rest/acme%2F1/message:send", `"messageId":"m"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, card(c.face, ""), func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/rpc" {
					_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":"1","result":`+done+`}`)
					return
				}
				_, _ = io.WriteString(w, done)
			})
			req := hello()
			if _, err := open(t, s.URL, nil).Send(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			if got := s.requests()[0]; got.path != c.path || !strings.Contains(got.body, c.body) || req.GetTenant() != "" {
				t.Errorf("asked at %s with %s", got.path, got.body)
			}
		})
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		media  string
		body   string
		reason a2a.Reason // "": no answer of the agent
	}{
		"no JSON":                     {200, "application/json", "<html>", a2a.InvalidAgentResponse},
		"neither result nor error":    {200, "application/json", `{"jsonrpc":"2.0","id":"1"}`, a2a.InvalidAgentResponse},
		"a plain error for a stream":  {200, "application/json", `{"jsonrpc":"2.0","id":"1","error":{"code":-32602,"message":"bad"}}`, a2a.InvalidParams},
		"the error of another status": {401, "application/json", `{"jsonrpc":"2.0","id":"1","error":{"code":-31401,"message":"who?"}}`, a2a.Unauthenticated},
		"a status alone":              {403, "text/plain", `go away`, a2a.PermissionDenied},
		"a proxy's status":            {502, "text/html", `<html>`, ""},
		"an event that is none":       {200, "text/event-stream", "data: {\n\n", a2a.InvalidAgentResponse},
		"an event of nothing":         {200, "text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":{}}\n\n", a2a.InvalidAgentResponse},
		"an error in the stream":      {200, "text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"id\":\"1\",\"error\":{\"code\":-32602,\"message\":\"bad\"}}\n\n", a2a.InvalidParams},
		"an event that never ends":    {200, "text/event-stream", "data: " + strings.Repeat("x", 1<<20), a2a.InvalidAgentResponse},
		"nothing at all":              {200, "text/event-stream", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, card(rpcFace, ""), func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.media)
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			a := open(t, s.URL, func(cfg *a2aclient.Config) { cfg.MaxTask = 64 << 10 })
			var last error
			for _, err := range a.Follow(t.Context(), hello()) {
				last = err
			}
			var e *a2a.Error
			var unsure *a2aclient.UncertainError
			switch {
			case c.reason == "" && !errors.As(last, &unsure):
				t.Errorf("error is %v", last)
			case c.reason != "" && (!errors.As(last, &e) || e.Reason != c.reason):
				t.Errorf("error is %v", last)
			}
			if n := len(s.requests()); n != 1 {
				t.Errorf("the message was sent %d times", n)
			}
		})
	}
}
