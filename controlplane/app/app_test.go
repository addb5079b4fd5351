package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/access"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/gen/agentry/release/v1/releasev1connect"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/gen/agentry/spec/v1/specv1connect"
)

// asControlPlane makes the test binary a control plane: the processes of these tests are real ones.
const asControlPlane = "AGENTRY_TEST_AS_CONTROLPLANE"

func TestMain(m *testing.M) {
	if os.Getenv(asControlPlane) != "" {
		os.Exit(Main(os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

// controlPlane is one of its own.
type controlPlane struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *bytes.Buffer // complete after ended
	dir  string
	info struct{ People, Runtime, TokenFile string }

	ended chan struct{}
	err   error // of the process, after ended
}

// patience is how long a process may take to start, to end, or to do what it does soon.
const patience = 2 * time.Minute

// wait waits for the process's end and gives its error. One that doesn't end shows its goroutines and fails the test.
func (p *controlPlane) wait() error {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.err
	case <-time.After(patience):
	}
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	<-p.ended
	p.t.Fatalf("it didn't end within %s:\n%s", patience, p.out)
	return nil
}

func command(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asControlPlane+"=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

func start(t *testing.T, dir string, more ...string) *controlPlane {
	t.Helper()
	info := filepath.Join(dir, "info.json")
	if err := os.Remove(info); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	p := &controlPlane{t: t, dir: dir}
	args := []string{"--data-dir", filepath.Join(dir, "data"), "--people-addr", "127.0.0.1:0", "--runtime-addr", "127.0.0.1:0", "--info-file", info, "--log-level", "debug"}
	p.cmd, p.out = command(t, append(args, more...)...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.ended = make(chan struct{})
	go func() { p.err = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	wait(t, func() bool {
		select {
		case <-p.ended:
			t.Fatalf("it ended at its start: %v\n%s", p.err, p.out)
		default:
		}
		b, err := os.ReadFile(info)
		if err != nil || json.Unmarshal(b, &p.info) != nil {
			return false
		}
		code, _ := p.page("/readyz")
		return code == http.StatusOK
	})
	return p
}

// wait looks until f holds.
func wait(t *testing.T, f func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !f() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("it didn't come within %s", patience)
		}
	}
}

func (p *controlPlane) page(path string) (int, string) {
	resp, err := http.Get(p.info.People + path)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	var b bytes.Buffer
	_, _ = b.ReadFrom(resp.Body)
	return resp.StatusCode, b.String()
}

// bearer sends the token of the control plane's file.
func (p *controlPlane) bearer() connect.Option {
	token, err := access.LoadToken(p.info.TokenFile)
	if err != nil {
		p.t.Fatal(err)
	}
	return bearer(token.Reveal())
}

func bearer(token string) connect.Option {
	return connect.WithInterceptors(connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
			r.Header().Set("Authorization", "Bearer "+token)
			return next(ctx, r)
		}
	}))
}

func set() []*specv1.File {
	return []*specv1.File{
		{Path: "set/bot/agent-base.json", Content: []byte(`{"promptKey": "bot"}`)},
		{Path: "set/bot/model.json", Content: []byte(`{"model": "m", "apiKey": "sk-canary-0123456789"}`)},
		{Path: "set/prompts/bot.json", Content: []byte(`{"promptKey": "bot", "version": "1.0.0", "template": "You are a bot."}`)},
	}
}

func TestAcknowledgedWritesSurviveAKill(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	client := specv1connect.NewSpecServiceClient(http.DefaultClient, p.info.People, p.bearer(), connect.WithGRPCWeb())
	resp, err := client.Apply(t.Context(), connect.NewRequest(&specv1.ApplyRequest{Files: set()}))
	if err != nil {
		t.Fatal(err, p.out)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.wait()
	first := p.out.String()

	p = start(t, dir)
	client = specv1connect.NewSpecServiceClient(http.DefaultClient, p.info.People, p.bearer())
	got, err := client.Get(t.Context(), connect.NewRequest(&specv1.GetRequest{Kind: "agent", Name: "bot"}))
	if err != nil || got.Msg.GetObject().GetStoreRevision() != resp.Msg.GetStoreRevision() {
		t.Errorf("after the kill: %v, %v", got, err)
	}
	again, err := client.Apply(t.Context(), connect.NewRequest(&specv1.ApplyRequest{Files: set()}))
	if err != nil || again.Msg.GetStoreRevision() != 0 {
		t.Errorf("the same set after the kill: %v, %v", again, err)
	}
	status := releasev1connect.NewStatusServiceClient(http.DefaultClient, p.info.People, p.bearer())
	st, err := status.GetStatus(t.Context(), connect.NewRequest(&releasev1.GetStatusRequest{Agent: "bot"}))
	if err != nil || st.Msg.GetStatus().GetCondition() != "Unproven" || st.Msg.GetStatus().GetConfig() == "" {
		t.Errorf("status: %v, %v", st, err)
	}
	unauthorised(t, p)
	readable(t, p)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(); err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, p.out)
	}
	noSecret(t, filepath.Join(dir, "data"), first+p.out.String())
}

func unauthorised(t *testing.T, p *controlPlane) {
	t.Helper()
	for name, opt := range map[string]connect.ClientOption{"connect": connect.WithProtoJSON(), "grpc-web": connect.WithGRPCWeb()} {
		c := specv1connect.NewSpecServiceClient(http.DefaultClient, p.info.People, opt)
		_, err := c.List(t.Context(), connect.NewRequest(&specv1.ListRequest{Kind: "agent"}))
		if connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("%s without a token: %v", name, err)
		}
	}
}

func readable(t *testing.T, p *controlPlane) {
	t.Helper()
	for path, want := range map[string]string{
		"/healthz": "ok", "/metrics": "agentry_push_marshals_total", "/debug": "default/bot", "/debug/": "default/bot" /* was a 404 */, "/debug/events": "Events",
	} {
		if code, body := p.page(path); code != http.StatusOK || !strings.Contains(body, want) || strings.Contains(body, "canary") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.info.People+"/debug", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "rebound.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("/debug under a foreign name: %d", resp.StatusCode)
	}
}

func noSecret(t *testing.T, dir, output string) {
	t.Helper()
	if strings.Contains(output, "sk-canary-01") {
		t.Error("the secret is in the log")
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("sk-canary-01")) {
			t.Errorf("the secret is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestStartFaults(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	p := start(t, t.TempDir())
	used := filepath.Join(p.dir, "data")
	free := []string{"--people-addr", "127.0.0.1:0", "--runtime-addr", "127.0.0.1:0"}
	keyless := keylessDir(t)
	cases := map[string]struct {
		args []string
		code int
		want string
	}{
		"port taken":       {args: []string{"--data-dir", t.TempDir(), "--people-addr", taken.Addr().String()}, code: exitError, want: "is in use by another process"},
		"data dir in use":  {args: append([]string{"--data-dir", used}, free...), code: exitError, want: used},
		"key file gone":    {args: append([]string{"--data-dir", keyless}, free...), code: exitError, want: "key file"},
		"no key file":      {args: append([]string{"--data-dir", t.TempDir(), "--kek-file", filepath.Join(t.TempDir(), "none")}, free...), code: exitError, want: "--kek-file"},
		"not the loopback": {args: []string{"--people-addr", "0.0.0.0:0"}, code: exitUsage, want: "loopback"},
		"unknown flag":     {args: []string{"--what"}, code: exitUsage, want: "-what"},
		"no etcd there":    {args: append([]string{"--data-dir", t.TempDir(), "--etcd-endpoints", "http://127.0.0.1:1"}, free...), code: exitError, want: "--etcd-endpoints"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cmd, out := command(t, c.args...)
			err := cmd.Run()
			if cmd.ProcessState.ExitCode() != c.code {
				t.Errorf("exit %d (%v), want %d: %s", cmd.ProcessState.ExitCode(), err, c.code, out)
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if last := lines[len(lines)-1]; !strings.Contains(out.String(), c.want) || !strings.HasPrefix(last, "controlplane: ") && c.code == exitError {
				t.Errorf("it said: %s", out)
			}
		})
	}
}

// keylessDir is a data directory in which something is sealed and whose key file is gone.
func keylessDir(t *testing.T) string {
	t.Helper()
	p := start(t, t.TempDir())
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(); err != nil {
		t.Fatal(err, p.out)
	}
	data := filepath.Join(p.dir, "data")
	if err := os.Remove(filepath.Join(data, "kek")); err != nil {
		t.Fatal(err)
	}
	return data
}
