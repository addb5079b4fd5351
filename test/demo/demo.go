package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/agentry/agentry/internal/scriptmodel"
	"github.com/agentry/agentry/test/harness"
)

// agentName is the example's one agent.
const agentName = "mse-nacos-helper"

// demo is the state that the steps share.
type demo struct {
	env   *harness.Env
	cp    *harness.ControlPlane
	agent *harness.Agent
	mcp   *harness.Proc
	model *scriptmodel.Server
	url   string // of the scripted model server
	calls string // the MCP server's call log
	spec  string // the copy of the example that the steps edit
}

// step is one thing shown. do answers the sentence that is printed.
type step struct {
	id string
	do func(context.Context, *demo) (string, error)
}

func run(ctx context.Context, bin string, keep bool, out io.Writer) (err error) {
	env, err := harness.New(bin, "")
	if err != nil {
		return err
	}
	defer func() {
		if keep || err != nil {
			env.Close()
			fmt.Fprintf(out, "data and logs are kept in %s\n", env.Dir)
			return
		}
		err = errors.Join(err, env.Remove())
	}()
	d := &demo{env: env, calls: filepath.Join(env.Dir, "mcp-calls.jsonl"), spec: filepath.Join(env.Dir, "nacos-helper")}
	script, err := os.ReadFile("examples/nacos-helper/model-script.yaml")
	if err != nil {
		return fmt.Errorf("run it from the repository's root: %w", err)
	}
	parsed, err := scriptmodel.ParseScript(script)
	if err != nil {
		return err
	}
	d.model = scriptmodel.New(parsed)
	server := httptest.NewServer(d.model)
	defer server.Close()
	d.url = server.URL + "/v1"

	for _, s := range steps() {
		began := time.Now()
		sentence, err := s.do(ctx, d)
		if err != nil {
			return fmt.Errorf("step %s: %w", s.id, err)
		}
		fmt.Fprintf(out, "ok %s %d %s\n", s.id, time.Since(began).Milliseconds(), sentence)
	}
	return nil
}

func steps() []step {
	return []step{
		{"control-plane", startControlPlane},
		{"apply", applyExample},
		{"agent-ready", startAgent},
		{"question", askQuestion},
		{"prompt-push", pushPrompt},
		{"tool-added", addTool},
		{"tool-removed", removeTool},
		{"refused", breakIt},
		{"rolled-back", seeRollback},
		{"last-good", restartWithoutControlPlane},
		{"resume", controlPlaneReturns},
		{"stop", stopAll},
	}
}

// ctl runs agentctl and wants exit code 0.
func (d *demo) ctl(ctx context.Context, args ...string) (string, error) {
	return d.env.CtlOK(ctx, d.cp, args...)
}

// apply applies the edited copy and waits until it is settled.
func (d *demo) apply(ctx context.Context, message string) error {
	_, err := d.ctl(ctx, "apply", "-f", d.spec, "--wait", "--timeout", "30s", "--message", message)
	return err
}

// edit replaces text in a file of the copy; text that isn't there is an error.
func (d *demo) edit(file, before, after string) error {
	path := filepath.Join(d.spec, file)
	b, err := os.ReadFile(path) //nolint:gosec // a file of the demo's own folder
	if err != nil {
		return err
	}
	if !strings.Contains(string(b), before) {
		return fmt.Errorf("%s does not hold %q", file, before)
	}
	return os.WriteFile(path, []byte(strings.ReplaceAll(string(b), before, after)), 0o600) //nolint:gosec // a file of the demo's own folder
}

// lastSeen answers the newest chat request that the scripted model server got.
func (d *demo) lastSeen() (scriptmodel.Seen, error) {
	seen := d.model.Requests()
	if len(seen) == 0 {
		return scriptmodel.Seen{}, errors.New("the scripted model server saw no request")
	}
	return seen[len(seen)-1], nil
}

// toolCalls counts the calls of a tool that the MCP server logged.
func (d *demo) toolCalls(tool string) (int, error) {
	b, err := os.ReadFile(d.calls)
	if err != nil && !os.IsNotExist(err) {
		return 0, err
	}
	return strings.Count(string(b), `"tool":"`+tool+`"`), nil
}
