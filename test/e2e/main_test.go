// Package e2e runs the whole product as real processes: real binaries, a real etcd, real MCP servers, real kills. The one
// stand-in is the scripted model server. `make e2e` builds the binaries first.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/internal/scriptmodel"
	"github.com/agentry/agentry/test/harness"
	"github.com/agentry/agentry/test/harness/badmcp"
	"github.com/agentry/agentry/test/harness/herd"
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

// TestMain fails early where the binaries are missing: nothing here may be passed over in silence. Every process of every test logs at
// debug level, and the run fails where one of the product's own secrets is in a log.
func TestMain(m *testing.M) {
	badmcp.Main()
	if herd.Main() {
		os.Exit(0)
	}
	if _, err := os.Stat(filepath.Join(binDir, "agentd")); err != nil {
		_, _ = os.Stderr.WriteString("no binaries: run `make build` first\n")
		os.Exit(1)
	}
	os.Exit(watched(m))
}

// watched runs the tests and reads what was found in the logs.
func watched(m *testing.M) int {
	dir, err := os.MkdirTemp("", "agentry-leaks-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "leaks")
	if err := errors.Join(os.Setenv(harness.LeaksVar, file), os.Setenv(harness.LogLevelVar, "debug")); err != nil {
		panic(err)
	}
	code := m.Run()
	found, err := os.ReadFile(file)
	switch {
	case err == nil:
		_, _ = fmt.Fprintf(os.Stderr, "--- FAIL: secrets in logs of processes:\n%s", found)
		return 1
	case !errors.Is(err, os.ErrNotExist):
		panic(err)
	}
	return code
}

// What is searched for in every log is found there, and is not shown.
func TestLeaksAreFound(t *testing.T) {
	t.Parallel()
	_, key := certificate(t, t.TempDir())
	private, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	random := strings.Repeat("Zm9v-_", 7)
	log := strings.Join([]string{
		`time=now level=INFO msg=ready`, `token=agt_` + random, `{"join":"agj_` + random + `.00ff"}`, "Bearer agb_" + random, string(private),
		`usage: agt_..., agj_SECRET.PIN`,
	}, "\n")
	found := harness.Leaks([]byte(log))
	if len(found) != 5 || strings.Contains(strings.Join(found, "\n"), random) {
		t.Errorf("found %q", found)
	}
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if env.LeaksFile == "" || env.LogLevel != "debug" {
		t.Error("the suite isn't watched")
	}
	env.LeaksFile = filepath.Join(t.TempDir(), "leaks")
	p, err := env.Start("careless", "/bin/echo", nil, "agt_"+random)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	env.Close()
	if b, err := os.ReadFile(env.LeaksFile); err != nil || !strings.Contains(string(b), "careless.log: <agt_...>") {
		t.Errorf("found %q, %v", b, err)
	}
}
