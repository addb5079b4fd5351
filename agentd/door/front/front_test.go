package front_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// config is what serves, as a test changes it between requests.
type config struct {
	in  run.Inbound
	err error
}

func (c *config) Inbound() (run.Inbound, error) { return c.in, c.err }

func key(name, value string, approver bool) run.InboundKey {
	return run.InboundKey{Name: name, Approver: approver, Value: func() secret.Value { return secret.NewValue(value) }}
}

// door is a guarded door that says who called, or what the front refused.
type door struct {
	config *config
	now    time.Time
	header http.Header // of the last request, as the door saw it
	http.Handler
}

func newDoor(t *testing.T, in run.Inbound) *door {
	t.Helper()
	d := &door{config: &config{in: in}, now: time.Unix(1_000_000, 0)}
	f, err := front.New(front.Config{Source: d.config, Now: func() time.Time { return d.now }})
	if err != nil {
		t.Fatal(err)
	}
	d.Handler = f.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.header = r.Header
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusTeapot)
			return
		}
		_, _ = fmt.Fprintf(w, "%+v", front.CallerOf(r.Context()))
	}), func(w http.ResponseWriter, _ *http.Request, r front.Refusal) {
		w.WriteHeader(r.Status)
		_, _ = io.WriteString(w, r.Code+": "+r.Message)
	})
	return d
}

// call asks from an address under a name; header holds names and values.
func (d *door) call(t *testing.T, method, from, host, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "/v1/x", strings.NewReader(body))
	r.RemoteAddr, r.Host = from, host
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

func TestWhoMayCall(t *testing.T) {
	t.Parallel()
	keys := []run.InboundKey{key("ci", "k-ci", false), key("boss", "k-boss", true), key("lost", "", true)}
	const local, far = "127.0.0.1:5000", "192.0.2.7:5000"
	for name, c := range map[string]struct {
		keys   []run.InboundKey
		from   string
		host   string
		header []string
		status int
		says   string
	}{
		"open":                          {nil, local, "127.0.0.1:8800", nil, 200, "{Principal:anonymous Approver:true Authenticated:false}"},
		"open, IPv6":                    {nil, "[::1]:9", "[::1]:8800", nil, 200, "anonymous"},
		"open, IPv4 in IPv6":            {nil, "[::ffff:127.0.0.1]:9", "localhost", nil, 200, "anonymous"},
		"open, something shown":         {nil, local, "localhost:8800", []string{"Authorization", "Bearer x"}, 200, "{Principal:key-2d711642b726b044 Approver:true Authenticated:false}"},
		"open, shown otherwise":         {nil, local, "localhost:8800", []string{"X-Api-Key", "x"}, 200, "key-2d711642b726b044"},
		"open, from elsewhere":          {nil, far, "127.0.0.1:8800", nil, 403, "forbidden: this agent asks for no key"},
		"open, from nowhere":            {nil, "@", "127.0.0.1:8800", nil, 403, "forbidden"},
		"open, a rebound name":          {nil, local, "evil.example.com:8800", nil, 403, `forbidden: this agent asks for no key, so it doesn't answer under the name "evil.example.com:8800"`},
		"open, from a container":        {nil, local, "host.docker.internal:8800", nil, 200, "anonymous"},
		"open, a name without a dot":    {nil, local, "agent1:8800", nil, 200, "anonymous"},
		"open, an address":              {nil, local, "192.0.2.1:8800", nil, 200, "anonymous"},
		"bearer":                        {keys, far, "agents.example.com", []string{"Authorization", "Bearer k-ci"}, 200, "{Principal:ci Approver:false Authenticated:true}"},
		"bearer, small":                 {keys, local, "localhost", []string{"Authorization", "bearer  k-boss"}, 200, "{Principal:boss Approver:true Authenticated:true}"},
		"X-API-Key":                     {keys, far, "agents.example.com", []string{"X-API-Key", "k-boss"}, 200, "Principal:boss"},
		"the second of both":            {keys, far, "agents.example.com", []string{"Authorization", "Basic abc", "X-API-Key", "k-ci"}, 200, "Principal:ci"},
		"two bearers":                   {keys, local, "localhost", []string{"Authorization", "Bearer k-ci", "Authorization", "Bearer k-boss"}, 401, "unauthenticated: the request has more than one Authorization header"},
		"a bearer twice":                {keys, local, "localhost", []string{"Authorization", "Bearer k-ci", "authorization", "Bearer k-ci"}, 401, "more than one Authorization"},
		"two X-API-Key":                 {keys, local, "localhost", []string{"X-API-Key", "k-ci", "X-Api-Key", "x"}, 401, "more than one X-Api-Key"},
		"open, two bearers":             {nil, local, "localhost", []string{"Authorization", "Bearer x", "Authorization", "Bearer y"}, 401, "more than one Authorization"},
		"none shown":                    {keys, local, "localhost", nil, 401, "unauthenticated: this agent asks for a key"},
		"a wrong one":                   {keys, local, "localhost", []string{"Authorization", "Bearer k-c"}, 401, "unauthenticated: the key is not one"},
		"a longer one":                  {keys, local, "localhost", []string{"Authorization", "Bearer k-ci2"}, 401, "unauthenticated"},
		"an empty one":                  {keys, local, "localhost", []string{"Authorization", "Bearer "}, 401, "unauthenticated"},
		"the name instead":              {keys, local, "localhost", []string{"Authorization", "Bearer ci"}, 401, "unauthenticated"},
		"a key whose credential is not": {keys[2:], local, "localhost", []string{"X-API-Key", ""}, 401, "unauthenticated"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, run.Inbound{Keys: c.keys})
			w := d.call(t, http.MethodPost, c.from, c.host, "", c.header...)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if (w.Code == http.StatusUnauthorized) != strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("headers %v", w.Header())
			}
			for _, h := range c.header {
				if len(h) > 2 && strings.HasPrefix(h, "k-") && strings.Contains(w.Body.String(), h) {
					t.Errorf("the answer holds what was shown: %s", w.Body)
				}
			}
		})
	}
}

// The next request goes by what the config says then: another key, none, other limits.
func TestChangesCountAtOnce(t *testing.T) {
	t.Parallel()
	value := "one"
	d := newDoor(t, run.Inbound{Keys: []run.InboundKey{{Name: "ci", Value: func() secret.Value { return secret.NewValue(value) }}}})
	ask := func(shown string) int {
		return d.call(t, http.MethodPost, "127.0.0.1:1", "localhost", "12345", "X-Api-Key", shown).Code
	}
	got := []int{ask("one"), ask("two")}
	value = "two"
	got = append(got, ask("one"), ask("two"))
	value = ""
	got = append(got, ask("two"))
	d.config.in = run.Inbound{MaxBody: 4}
	got = append(got, ask("two"))
	d.config.in = run.Inbound{}
	got = append(got, ask("two"))
	d.config.err = errs.New(errs.Unavailable, "agent deleted")
	got = append(got, ask("two"))
	if diff := cmp.Diff([]int{200, 401, 401, 200, 401, 413, 200, 503}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatWasShownIsTakenOff(t *testing.T) {
	t.Parallel()
	for _, keys := range [][]run.InboundKey{nil, {key("ci", "k", false)}} {
		d := newDoor(t, run.Inbound{Keys: keys})
		w := d.call(t, http.MethodPost, "127.0.0.1:1", "localhost", "", "Authorization", "Bearer k", "X-Api-Key", "k", "Cookie", "k=k", "Proxy-Authorization", "k", "X-Session-Id", "s")
		if w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if diff := cmp.Diff(http.Header{"X-Session-Id": {"s"}}, d.header); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	d := newDoor(t, run.Inbound{MaxBody: 8})
	s := httptest.NewServer(d)
	t.Cleanup(s.Close)
	for name, c := range map[string]struct {
		body   io.Reader
		status int
	}{
		"fits":               {strings.NewReader("12345678"), 200},
		"says its size":      {strings.NewReader("123456789"), 413},
		"doesn't say":        {io.MultiReader(strings.NewReader("123456789")), 418}, // what the door makes of *http.MaxBytesError
		"fits, doesn't say":  {io.MultiReader(strings.NewReader("12345678")), 200},
		"far too large, too": {strings.NewReader(strings.Repeat("x", 1<<20)), 413},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, c.body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: %d %s", name, resp.StatusCode, b)
		}
	}
}

func TestCallerWithoutFront(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(front.Caller{Principal: front.Anonymous}, front.CallerOf(t.Context())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := front.New(front.Config{}); !errs.Is(err, errs.Invalid) {
		t.Errorf("%v", err)
	}
}
