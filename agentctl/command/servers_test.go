package command

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentry/agentry/agentctl/command/commandtest"
)

// replica is a control plane's people door that answers from files, and keeps the headers that matter.
type replica struct {
	url  string
	dir  string
	quit func()

	mu   sync.Mutex // guards what follows
	keys []string
	asks []string // METHOD consistency
}

func newReplica(t *testing.T, files map[string]string) *replica {
	t.Helper()
	r := &replica{dir: t.TempDir()}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	inner := commandtest.New(r.dir, "").Handler()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		if key := req.Header.Get("Idempotency-Key"); key != "" {
			r.keys = append(r.keys, key)
		}
		if strings.Contains(req.URL.Path, "Service/") {
			r.asks = append(r.asks, strings.TrimSpace(filepath.Base(req.URL.Path)+" "+req.Header.Get("Agentry-Consistency")))
		}
		r.mu.Unlock()
		w.Header().Set("Agentry-Replica", "r")
		w.Header().Set("Agentry-Store-Revision", "41")
		inner.ServeHTTP(w, req)
	}))
	r.url, r.quit = srv.URL, srv.Close
	t.Cleanup(srv.Close)
	return r
}

func (r *replica) asked(name string) string {
	b, _ := os.ReadFile(filepath.Join(r.dir, name+".request.json"))
	return string(b)
}

// ctl runs agentctl against replicas.
func ctl(t *testing.T, args []string, replicas ...*replica) (stdout, stderr string, code int) {
	t.Helper()
	var urls []string
	for _, r := range replicas {
		urls = append(urls, r.url)
	}
	vars := map[string]string{"HOME": t.TempDir(), "AGENTCTL_SERVER": strings.Join(urls, ", ")}
	var out, err bytes.Buffer
	code = Run(t.Context(), Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &err, Getenv: func(n string) string { return vars[n] }}, args)
	return out.String(), err.String(), code
}

const (
	nowhere  = `{"error": {"code": "unavailable", "message": "the store has no leader"}}`
	rolled   = `{"response": {"to": "8"}}`
	promptIs = `{"response": {"object": {"kind": "prompt", "namespace": "default", "name": "p", "revision": "2", "storeRevision": "7"}}}`
)

func TestTheNextReplicaAnswers(t *testing.T) {
	t.Parallel()
	dead, busy, well := newReplica(t, nil), newReplica(t, map[string]string{"Get.json": nowhere}), newReplica(t, map[string]string{"Get.json": promptIs})
	dead.quit()
	out, told, code := ctl(t, []string{"get", "prompt/p", "-o", "name"}, dead, busy, well)
	if code != exitOK || out != "prompt/p\n" || told != "" {
		t.Errorf("exit %d, %q, %q", code, out, told)
	}
	if len(well.asks) != 1 || well.asks[0] != "Get linearizable" {
		t.Errorf("the replica that is well was asked %q", well.asks)
	}
}

func TestAllReplicasAreNamed(t *testing.T) {
	t.Parallel()
	one, two := newReplica(t, nil), newReplica(t, nil)
	one.quit()
	two.quit()
	_, told, code := ctl(t, []string{"get", "prompts"}, one, two)
	if code != exitUnreachable || !strings.Contains(told, one.url) || !strings.Contains(told, two.url) {
		t.Errorf("exit %d, %q", code, told)
	}
}

// What changes something is asked under one key wherever it is asked, and under another the next time.
func TestOneKeyOverAllTries(t *testing.T) {
	t.Parallel()
	busy, well := newReplica(t, map[string]string{"Rollback.json": nowhere}), newReplica(t, map[string]string{"Rollback.json": rolled})
	for range 2 {
		if _, told, code := ctl(t, []string{"rollback", "helper"}, busy, well); code != exitOK {
			t.Fatalf("exit %d, %q", code, told)
		}
	}
	if len(busy.keys) != 2 || len(well.keys) != 2 || busy.keys[0] != well.keys[0] || busy.keys[1] != well.keys[1] || well.keys[0] == well.keys[1] {
		t.Errorf("keys %q and %q", busy.keys, well.keys)
	}
}

// Where nobody can say what the store holds now, what a replica knows is shown with a warning.
func TestWhatIsKnownWithoutQuorum(t *testing.T) {
	t.Parallel()
	files := map[string]string{"Get.1.json": nowhere, "Get.json": promptIs}
	one, two := newReplica(t, files), newReplica(t, files)
	out, told, code := ctl(t, []string{"get", "prompt/p", "-o", "name"}, one, two)
	if code != exitOK || out != "prompt/p\n" {
		t.Errorf("exit %d, %q", code, out)
	}
	for _, want := range []string{"warning", "may be old", "replica r", "store revision 41", "the store has no leader"} {
		if !strings.Contains(told, want) {
			t.Errorf("%q isn't told: %q", want, told)
		}
	}
}

// A watch goes on at the next replica after what was printed.
func TestAWatchGoesOn(t *testing.T) {
	t.Parallel()
	event := func(kind string, revision int, name string) string {
		if name == "" {
			return `{"type": "` + kind + `", "storeRevision": "` + itoa(int64(revision)) + `"}`
		}
		return `{"type": "` + kind + `", "storeRevision": "` + itoa(int64(revision)) + `", "object": {"kind": "prompt", "namespace": "default", "name": "` + name + `"}}`
	}
	one := newReplica(t, map[string]string{"Watch.json": `{"messages": [` + event("present", 5, "a") + `,` + event("bookmark", 5, "") + `,` + event("changed", 6, "b") + `]}`})
	two := newReplica(t, map[string]string{
		"Watch.1.json": `{"messages": [` + event("changed", 7, "c") + `]}`,
		"Watch.json":   `{"error": {"code": "permission_denied", "message": "enough"}}`,
	})
	one.quitAfterFirst(t)
	out, told, code := ctl(t, []string{"get", "prompts", "-w", "-o", "json"}, one, two)
	if code != exitPermission {
		t.Fatalf("exit %d, %q", code, told)
	}
	var printed []string
	for line := range strings.Lines(out) {
		var e changeEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		printed = append(printed, e.Type+" "+itoa(e.StoreRevision))
	}
	if got := strings.Join(printed, ", "); got != "present 5, bookmark 5, changed 6, changed 7" {
		t.Errorf("printed %s", got)
	}
	if got := two.asked("Watch.1"); !strings.Contains(got, `"sinceRevision":"6"`) {
		t.Errorf("the second replica was asked %s", got)
	}
}

// quitAfterFirst has the replica refuse every watch but the first.
func (r *replica) quitAfterFirst(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "Watch.2.json"), []byte(nowhere), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPrintedEventsOfTwoReplicas(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := func(seq int64, after time.Duration, what string) eventDoc {
		return eventDoc{Seq: seq, Time: at.Add(after), Agent: "helper", Type: what}
	}
	var p printedEvents
	p.begin()
	for _, d := range []eventDoc{e(1, 0, "applied"), e(2, time.Second, "applied"), e(3, 10*time.Second, "refused")} {
		if !p.add(d) {
			t.Errorf("%+v of the first stream isn't printed", d)
		}
	}
	p.begin()
	cases := []struct {
		event eventDoc
		want  bool
	}{
		{e(900, 10*time.Second+200*time.Millisecond, "refused"), false}, // the same, by the other's clock
		{e(899, time.Second, "connected"), false},                       // long before what was printed last
		{e(901, 9*time.Second, "applied"), true},
		{e(902, 30*time.Second, "refused"), true},
		{e(903, 30*time.Second, "refused"), true}, // a stream doesn't repeat itself: it happened twice
	}
	for _, c := range cases {
		if got := p.add(c.event); got != c.want {
			t.Errorf("%+v: printed %t, want %t", c.event, got, c.want)
		}
	}
}

func TestServersAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		text, want string // want "": refused
		local      bool
	}{
		"one":             {"localhost:7700", "http://localhost:7700", true},
		"several":         {"http://127.0.0.1:1, 127.0.0.1:2/,", "http://127.0.0.1:1,http://127.0.0.1:2", true},
		"one is far away": {"127.0.0.1:1,https://a.example", "http://127.0.0.1:1,https://a.example", false},
		"none":            {" , ", "", false},
		"another scheme":  {"http://a,ftp://b", "", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := newServers(c.text)
			switch {
			case c.want == "" && exitCode(err) != exitUsage:
				t.Errorf("error %v", err)
			case c.want != "" && (err != nil || s.String() != c.want || s.local() != c.local):
				t.Errorf("%v, local %t, %v", s, s.local(), err)
			}
		})
	}
}
