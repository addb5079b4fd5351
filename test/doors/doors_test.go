// Package doors puts the clients that people really use, npm's openai and @modelcontextprotocol/sdk, to an agent's doors: real control plane,
// real agentd, a scripted model. A scenario is a script beside this file, which ends with 0 where everything was as it should be.
// `make doors-clients` installs the clients.
package doors

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/agentry/agentry/internal/scriptmodel"
	"github.com/agentry/agentry/test/harness"
)

// binDir is where `make build` puts the binaries.
const binDir = "../../bin"

// world is a control plane, a scripted model server and what Env starts beside them.
type world struct {
	*harness.Env
	cp    *harness.ControlPlane
	api   harness.API
	model *scriptmodel.Server
	url   string // of the scripted model server, without /v1
}

func newWorld(t *testing.T, script string) *world {
	t.Helper()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	w := &world{Env: env}
	if w.cp, err = env.StartControlPlane(t.Context()); err != nil {
		t.Fatal(err)
	}
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
	w.url = srv.URL
	return w
}

// agent applies a set and starts one instance of the agent on the scripted model, ready to answer.
func (w *world) agent(t *testing.T, name string, files harness.Files) *harness.Agent {
	t.Helper()
	if _, err := w.api.Apply(t.Context(), files); err != nil {
		t.Fatalf("apply: %v", err)
	}
	a, err := w.StartAgent(w.cp, name, harness.AgentOptions{ModelBaseURL: w.url + "/v1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.WaitReady(t.Context(), 20*time.Second); err != nil {
		t.Fatalf("%v\nagentd:\n%s\ncontrolplane:\n%s", err, a.Output(), w.cp.Output())
	}
	return a
}

// node runs a scenario's script with the given environment and wants it to end with 0. What it prints is shown.
func node(t *testing.T, script string, env ...string) {
	t.Helper()
	program, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("the doors' clients need Node.js in PATH")
	}
	if _, err := os.Stat(filepath.Join("node_modules", ".package-lock.json")); err != nil {
		t.Fatal("no clients: run `make doors-clients`, which runs npm ci in test/doors")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, script)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v", script, err)
	}
}
