package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/scriptmodel"
	"github.com/agentry/agentry/test/harness"
)

func TestAnUnknownAgentWaitsAndComesUpWhenItsSpecArrives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)
	a, err := w.StartAgent(w.cp, "helper", harness.AgentOptions{ModelBaseURL: w.url})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func(ctx context.Context) error {
		code, body, err := harness.Get(ctx, a.URL()+"/readyz")
		if err == nil && (code != 503 || !strings.Contains(body, "helper")) {
			err = fmt.Errorf("readyz %d %q, want 503 that names the agent", code, body)
		}
		return err
	})
	if _, err := a.Chat(t.Context(), "", "hello"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a question to an agent without a spec: %v, want 503", err)
	}
	w.apply(t, helper(stub.URL, `"alpha"`))
	if err := a.WaitReady(t.Context(), 5*time.Second); err != nil {
		t.Fatalf("%v\n%s", err, a.Output())
	}
	w.settled(t, "helper")
}

func TestADeadModelIsATypedErrorAndHurtsNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)
	dead, err := harness.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	set := helper(stub.URL, `"alpha"`)
	set["lost/agent-base.json"] = `{"promptKey": "helper"}`
	set["lost/model.json"] = fmt.Sprintf(`{"model": "scripted", "baseUrl": "http://%s", "retry": {"attempts": 2, "backoff": "50ms"}}`, dead)
	w.apply(t, set)
	a := w.agent(t, "helper")
	lost, err := w.StartAgent(w.cp, "lost", harness.AgentOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := lost.WaitReady(t.Context(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	ans, err := lost.Chat(t.Context(), "", "hello")
	if err == nil || ans.Status != 502 || !strings.Contains(ans.Body, "unreachable") || !strings.Contains(ans.Body, "2 attempts") && !strings.Contains(ans.Body, `"attempts"`) {
		t.Errorf("got status %d, body %s; want 502 with code unreachable and the attempts made", ans.Status, ans.Body)
	}
	if ans, err := a.Chat(t.Context(), "", "hello"); err != nil || ans.Text != "be helpful | hello" {
		t.Errorf("the other agent: %+v, %v", ans, err)
	}
}

func TestBadFilesAreRefusedWholeWithEveryFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	dir := t.TempDir()
	set := harness.Files{
		"a/agent-base.json":  `{"promptKey": "nope", "maxIteration": 3}`,
		"a/model.json":       "{\n  \"model\": \"m\"\n  \"temperature\": 1\n}",
		"b/agent-base.json":  `{"promptKey": "missing"}`,
		"b/model.json":       `{"model": "m", "temperature": 3, "apiKey": "${credential:ghost}"}`,
		"b/mcp-servers.json": `{"mcpServers": [{"mcpServerName": "unknown"}]}`,
		"prompts/good.json":  `{"promptKey": "good", "version": "1.0.0", "template": "x"}`,
	}
	if err := set.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	out, err := w.Ctl(t.Context(), w.cp, "apply", "-f", dir)
	if err != nil {
		t.Fatal(err)
	}
	if out.Code != 65 {
		t.Errorf("exit %d, want 65", out.Code)
	}
	for _, want := range []string{"model.json:3:3", "^", "did you mean", "maxIterations", "temperature", "missing", "unknown", "ghost"} {
		if !strings.Contains(out.Stderr, want) {
			t.Errorf("stderr does not hold %q", want)
		}
	}
	if t.Failed() {
		t.Logf("stderr:\n%s", out.Stderr)
	}
	list, err := w.api.Spec.List(t.Context(), connect.NewRequest(&specv1.ListRequest{Kind: "prompt"}))
	if err != nil || len(list.Msg.GetObjects()) != 0 {
		t.Errorf("something of a refused set was stored: %v, %v", list, err)
	}
}

// kill -9 of the control plane at any moment loses nothing that it acknowledged.
func TestKillingTheControlPlaneLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	var mu sync.Mutex
	acked := map[string]string{}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for writer := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key, version := fmt.Sprintf("p%d", writer), fmt.Sprintf("1.0.%d", i)
				call, done := context.WithTimeout(ctx, 2*time.Second)
				_, err := w.api.Apply(call, harness.Files{"prompts/" + key + ".json": fmt.Sprintf(`{"promptKey": %q, "version": %q, "template": "t %d"}`, key, version, i)})
				done()
				if err == nil {
					mu.Lock()
					acked[key] = version
					mu.Unlock()
				}
			}
		})
	}
	for range 5 {
		<-time.After(700 * time.Millisecond) // traffic between the kills
		w.cp.Kill()
		if err := w.cp.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		want := maps.Clone(acked)
		mu.Unlock()
		for key, version := range want {
			if _, err := w.api.Spec.Get(t.Context(), connect.NewRequest(&specv1.GetRequest{Kind: "prompt", Name: key, Version: version})); err != nil {
				t.Errorf("acknowledged %s %s is gone: %v", key, version, err)
			}
		}
	}
	cancel()
	wg.Wait()
	if len(acked) == 0 {
		t.Error("nothing was acknowledged")
	}
}

// An etcd of one's own: the same code path; when it is gone writes fail fast and agents go on.
func TestExternalEtcdGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bin := buildEtcd(t, dir)
	addr, err := harness.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	env, err := harness.New(binDir, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	etcd, err := env.Start("etcd", bin, nil, "--dir", filepath.Join(dir, "etcd"), "--listen", addr)
	if err != nil {
		t.Fatal(err)
	}
	w := worldIn(t, env, echoScript, "--etcd-endpoints", "http://"+addr)
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)
	w.apply(t, helper(stub.URL, `"alpha"`))
	a := w.agent(t, "helper")
	w.settled(t, "helper")
	etcd.Kill()
	began := time.Now()
	_, err = w.api.Apply(t.Context(), harness.Files{"prompts/x.json": `{"promptKey": "x", "version": "1.0.0", "template": "x"}`})
	var ce *connect.Error
	if !errors.As(err, &ce) || ce.Code() != connect.CodeUnavailable {
		t.Errorf("apply without etcd: %v, want UNAVAILABLE", err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("apply without etcd took %s to fail", took)
	}
	if ans, err := a.Chat(t.Context(), "", "hello"); err != nil || ans.Text != "be helpful | hello" {
		t.Errorf("the agent without etcd: %+v, %v", ans, err)
	}
	if _, err = env.Start("etcd", bin, nil, "--dir", filepath.Join(dir, "etcd"), "--listen", addr); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		_, err := w.api.Apply(ctx, harness.Files{"prompts/x.json": `{"promptKey": "x", "version": "1.0.0", "template": "x"}`})
		return err
	})
}

func TestStartErrorsAreClear(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	taken := []string{"--data-dir", t.TempDir(), "--people-addr", w.cp.People, "--runtime-addr", "127.0.0.1:0"}
	cases := map[string]struct {
		args []string
		want string
	}{
		"data directory in use":        {[]string{"--data-dir", w.cp.DataDir, "--people-addr", "127.0.0.1:0", "--runtime-addr", "127.0.0.1:0"}, "in use"},
		"port taken":                   {taken, w.cp.People},
		"not loopback and without TLS": {[]string{"--data-dir", t.TempDir(), "--people-addr", "0.0.0.0:0", "--runtime-addr", "127.0.0.1:0"}, "TLS"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := w.Start("second-"+strings.ReplaceAll(name, " ", "-"), "controlplane", nil, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Wait(10 * time.Second); err == nil {
				t.Error("it exited 0")
			}
			if out := p.Output(); !strings.Contains(out, c.want) {
				t.Errorf("want %q in:\n%s", c.want, out)
			}
		})
	}
}

// worldIn is newWorld in an Env that exists.
func worldIn(t *testing.T, env *harness.Env, script string, cpArgs ...string) *world {
	t.Helper()
	cp, err := env.StartControlPlane(t.Context(), cpArgs...)
	if err != nil {
		t.Fatal(err)
	}
	return worldAt(t, env, script, cp)
}

// worldAt is worldIn at a control plane that runs.
func worldAt(t *testing.T, env *harness.Env, script string, cp *harness.ControlPlane) *world {
	t.Helper()
	w := &world{Env: env, cp: cp}
	var err error
	if w.api, err = w.cp.API(); err != nil {
		t.Fatal(err)
	}
	parsed, err := scriptmodel.ParseScript([]byte(script))
	if err != nil {
		t.Fatal(err)
	}
	w.model = scriptmodel.New(parsed)
	srv := httptest.NewServer(w.model)
	t.Cleanup(func() { w.model.Close(); srv.Close() })
	w.url = srv.URL + "/v1"
	return w
}
