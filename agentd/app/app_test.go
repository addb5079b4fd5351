package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// joinToken can be one; nobody made it.
const joinToken = "agj_c2VjcmV0.0000000000000000000000000000000000000000000000000000000000000000"

func TestParseConfig(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	type want struct {
		Agent, Namespace, Listen, State, Roots string
		Control                                []string
		Fault                                  string
	}
	cases := map[string]struct {
		env  func(string) string
		args []string
		want want
	}{
		"name alone": {
			env:  env("AGENT_NAME", "helper", "HOME", "/h"),
			want: want{Agent: "helper", Namespace: "default", Listen: "127.0.0.1:8800", State: "/h/.local/state/agentry/agentd/default/helper", Control: []string{"127.0.0.1:7701"}},
		},
		"flags win": {
			env:  env("AGENT_NAME", "helper", "XDG_STATE_HOME", "/x", "AGENTD_LISTEN", "127.0.0.1:1", "CONTROL_PLANE", "a:1, b:2", "AGENTD_ROOTS_FILE", "/t"),
			args: []string{"--listen", "127.0.0.1:0", "--namespace", "blue"},
			want: want{Agent: "helper", Namespace: "blue", Listen: "127.0.0.1:0", State: "/x/agentry/agentd/blue/helper", Roots: "/t", Control: []string{"a:1", "b:2"}},
		},
		"no name":           {env: env("HOME", "/h"), want: want{Fault: "AGENT_NAME"}},
		"bad name":          {env: env("AGENT_NAME", "../x"), want: want{Fault: "AGENT_NAME"}},
		"open to the world": {env: env("AGENT_NAME", "a"), args: []string{"--listen", "0.0.0.0:8800"}, want: want{Fault: "--listen"}},
		"to the world by TLS": {
			env:  env("AGENT_NAME", "a", "HOME", "/h", "AGENTD_TLS_CERT", "/c"),
			args: []string{"--listen", "0.0.0.0:8800", "--tls-key", "/k"},
			want: want{Agent: "a", Namespace: "default", Listen: "0.0.0.0:8800", State: "/h/.local/state/agentry/agentd/default/a", Control: []string{"127.0.0.1:7701"}},
		},
		"half a certificate": {env: env("AGENT_NAME", "a"), args: []string{"--tls-cert", "/c"}, want: want{Fault: "--tls-key"}},
		"a key alone":        {env: env("AGENT_NAME", "a"), args: []string{"--listen", "0.0.0.0:8800", "--tls-key", "/k"}, want: want{Fault: "--listen"}},
		"bad persist":        {env: env("AGENT_NAME", "a"), args: []string{"--persist-secrets", "clear"}, want: want{Fault: "--persist-secrets"}},
		"bad model URL":      {env: env("AGENT_NAME", "a", "AGENTD_MODEL_BASE_URL", "nonsense"), want: want{Fault: "--model-base-url"}},
		"stray argument":     {env: env("AGENT_NAME", "a"), args: []string{"x"}, want: want{Fault: "unexpected argument"}},
		"no control plane":   {env: env("AGENT_NAME", "a"), args: []string{"--control-plane", ","}, want: want{Fault: "CONTROL_PLANE"}},
		"half a proof":       {env: env("AGENT_NAME", "a", "AGENTD_X509POP_CERT", "/c"), want: want{Fault: "AGENTD_X509POP_KEY"}},
		"proof to anybody":   {env: env("AGENT_NAME", "a", "AGENTD_KUBERNETES_TOKEN_FILE", "/c"), want: want{Fault: "AGENTD_ROOTS_FILE"}},
		"cut join token":     {env: env("AGENT_NAME", "a", "AGENTD_JOIN_TOKEN", "agj_abc.12"), want: want{Fault: "join token"}},
		"deadline of zero":   {env: env("AGENT_NAME", "a"), args: []string{"--apply-deadline", "0s"}, want: want{Fault: "--apply-deadline"}},
		"unknown log level":  {env: env("AGENT_NAME", "a"), args: []string{"--log-level", "loud"}, want: want{Fault: "--log-level"}},
		"unknown log format": {env: env("AGENT_NAME", "a"), args: []string{"--log-format", "xml"}, want: want{Fault: "--log-format"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cfg, err := ParseConfig(c.args, c.env, io.Discard)
			if c.want.Fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.want.Fault) {
					t.Fatalf("error %v, want one that names %s", err, c.want.Fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := want{Agent: cfg.Agent, Namespace: cfg.Namespace, Listen: cfg.Listen, State: cfg.StateDir, Roots: cfg.Identity.Proof.RootsFile, Control: cfg.ControlPlane}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMainExits(t *testing.T) {
	none := func(string) string { return "" }
	cases := map[string]struct {
		args []string
		want int
	}{
		"usage": {want: exitUsage}, "help": {args: []string{"--help"}, want: exitOK}, "version": {args: []string{"--version"}, want: exitOK},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if got := Main(c.args, none, &out, &errs); got != c.want {
				t.Errorf("exit %d, want %d: %s%s", got, c.want, out.String(), errs.String())
			}
		})
	}
}

// Without a control plane and without last good agentd is alive, not ready, and says why; it ends cleanly.
// What broke: that the door's port is taken was told in the system's words, without the flag that chooses another.
func TestRunOnATakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	dir := t.TempDir()
	cfg, err := ParseConfig([]string{
		"--listen", taken.Addr().String(), "--control-plane", "127.0.0.1:1", "--state-dir", filepath.Join(dir, "state"),
	}, func(name string) string {
		return map[string]string{"AGENT_NAME": "helper", "HOME": dir, "AGENTD_JOIN_TOKEN": joinToken}[name]
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), cfg, io.Discard); err == nil || !strings.Contains(err.Error(), "choose another with --listen") {
		t.Errorf("error %v", err)
	}
}

func TestRunWithoutControlPlane(t *testing.T) {
	dir := t.TempDir()
	infoFile := filepath.Join(dir, "info.json")
	cfg, err := ParseConfig([]string{
		"--listen", "127.0.0.1:0", "--control-plane", "127.0.0.1:1", "--state-dir", filepath.Join(dir, "state"), "--info-file", infoFile,
	}, func(name string) string {
		return map[string]string{"AGENT_NAME": "helper", "HOME": dir, "AGENTD_JOIN_TOKEN": joinToken}[name]
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, io.Discard) }()
	var i info
	deadline, tick := time.After(20*time.Second), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i.Address == "" {
		select {
		case <-tick.C:
			if b, err := os.ReadFile(infoFile); err == nil {
				if err := json.Unmarshal(b, &i); err != nil {
					t.Fatal(err)
				}
			}
		case err := <-done:
			t.Fatalf("ended: %v", err)
		case <-deadline:
			t.Fatal("no info file")
		}
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	get := func(path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+i.Address+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if code, body := get("/healthz"); code != 200 {
		t.Errorf("healthz %d %s", code, body)
	}
	if code, body := get("/readyz"); code != 503 || !strings.Contains(body, "default/helper") {
		t.Errorf("readyz %d %s", code, body)
	}
	if code, body := get("/v1/models"); code != 503 || !strings.Contains(body, "control plane") {
		t.Errorf("a request is not told why: %d %s", code, body)
	}
	if code, body := get("/metrics"); code != 200 || !strings.Contains(body, "agentry_agentd_ready") {
		t.Errorf("metrics %d %s", code, body)
	}
	if code, body := get("/admin/config"); code != 200 || !strings.Contains(body, `"loaded": null`) {
		t.Errorf("config %d %s", code, body)
	}
	if err := Run(ctx, cfg, io.Discard); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second agentd on the state directory: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestRunWithoutIdentity(t *testing.T) {
	cfg, err := ParseConfig([]string{"--listen", "127.0.0.1:0", "--control-plane", "127.0.0.1:1", "--state-dir", filepath.Join(t.TempDir(), "state")},
		func(name string) string { return map[string]string{"AGENT_NAME": "helper"}[name] }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), cfg, io.Discard); err == nil || !strings.Contains(err.Error(), "agentctl identity join-token create helper") {
		t.Errorf("error %v, want one that says what to run", err)
	}
}
