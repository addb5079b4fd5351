// Package e2e runs the whole product as real processes: real binaries, a real etcd, real MCP servers, real kills. The one
// stand-in is the scripted model server. `make e2e` builds the binaries first.
package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/agentry/agentry/internal/scriptmodel"
	"github.com/agentry/agentry/test/harness"
)

// binDir is where `make build` puts the binaries.
const binDir = "../../bin"

// world is what most tests need: an Env, a control plane and a scripted model server.
type world struct {
	*harness.Env
	cp    *harness.ControlPlane
	api   harness.API
	model *scriptmodel.Server
	url   string // of the scripted model server, with /v1
}

func newWorld(t *testing.T, script string) *world {
	t.Helper()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	return worldIn(t, env, script)
}

// apply applies a set and wants no error.
func (w *world) apply(t *testing.T, files harness.Files) {
	t.Helper()
	if _, err := w.api.Apply(t.Context(), files); err != nil {
		t.Fatalf("apply: %v", err)
	}
}

// agent starts an agent on the scripted model server and waits until it is ready.
func (w *world) agent(t *testing.T, name string) *harness.Agent {
	t.Helper()
	a, err := w.StartAgent(w.cp, name, harness.AgentOptions{ModelBaseURL: w.url})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.WaitReady(t.Context(), 15*time.Second); err != nil {
		t.Fatalf("%v\nagentd:\n%s\ncontrolplane:\n%s", err, a.Output(), w.cp.Output())
	}
	return a
}

// status reads an agent's status and wants no error.
func (w *world) status(t *testing.T, agent string) harness.Status {
	t.Helper()
	st, err := w.Status(t.Context(), w.cp, agent)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// eventually polls until f answers nil.
func eventually(t *testing.T, d time.Duration, f func(context.Context) error) {
	t.Helper()
	if err := harness.Poll(t.Context(), d, f); err != nil {
		t.Fatal(err)
	}
}
