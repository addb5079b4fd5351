package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// The agents: one without tools, one with the stub MCP server.
const (
	plainAgent = "plain"
	toolsAgent = "withtools"
)

// world is everything that one run starts.
type world struct {
	env    *harness.Env
	cp     *harness.ControlPlane
	api    harness.API
	stubs  *child
	floor  *child
	agents map[string]*harness.Agent
	debug  map[string]string // host:port of an agent's profiles
	pushed int
}

func newWorld(ctx context.Context, o options) (_ *world, err error) {
	w := &world{agents: map[string]*harness.Agent{}, debug: map[string]string{}}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.stubs, err = startChild("-role", "stubs"); err != nil {
		return nil, err
	}
	if w.floor, err = startChild("-role", "floor", "-upstream", w.stubs.url); err != nil {
		return nil, err
	}
	if w.env, err = harness.New(o.bin, ""); err != nil {
		return nil, err
	}
	if o.keep {
		fmt.Fprintln(os.Stderr, "folder:", w.env.Dir)
	}
	if w.cp, err = w.env.StartControlPlane(ctx); err != nil {
		return nil, err
	}
	if w.api, err = w.cp.API(); err != nil {
		return nil, err
	}
	if err = w.apply(ctx); err != nil {
		return nil, err
	}
	for _, name := range []string{plainAgent, toolsAgent} {
		if w.debug[name], err = harness.FreeAddr(); err != nil {
			return nil, err
		}
		a, err := w.env.StartAgent(w.cp, name, harness.AgentOptions{Args: []string{"--pprof-addr", w.debug[name]}})
		if err != nil {
			return nil, err
		}
		if err := a.WaitReady(ctx, 10*time.Second); err != nil {
			return nil, err
		}
		w.agents[name] = a
	}
	return w, nil
}

// prompt is the system prompt of every agent and of the floor, about as long as a small real one.
func prompt(version int) string {
	return strings.Repeat("You help operators of a configuration service. You answer briefly, with what the tools say, and never guess. ", 4) +
		fmt.Sprintf("Revision %06d.", version)
}

func (w *world) apply(ctx context.Context) error {
	files := harness.Files{
		"mcp/" + serverName + ".json": fmt.Sprintf(`{"name": %q, "endpoint": "%s/mcp"}`, serverName, w.stubs.url),
	}
	for _, name := range []string{plainAgent, toolsAgent} {
		files[name+"/agent-base.json"] = fmt.Sprintf(`{"promptKey": %q}`, name)
		files[name+"/model.json"] = fmt.Sprintf(`{"model": "stub", "baseUrl": "%s/v1"}`, w.stubs.url)
		files["prompts/"+name+".json"] = promptFile(name, 0)
	}
	files[toolsAgent+"/mcp-servers.json"] = fmt.Sprintf(`{"mcpServers": [{"mcpServerName": %q}]}`, serverName)
	_, err := w.api.Apply(ctx, files)
	return err
}

func promptFile(key string, version int) string {
	return fmt.Sprintf(`{"promptKey": %q, "version": "1.0.%d", "template": %q}`, key, version, prompt(version))
}

// revise applies the next version of an agent's prompt.
func (w *world) revise(ctx context.Context, name string) error {
	w.pushed++
	_, err := w.api.Apply(ctx, harness.Files{"prompts/" + name + ".json": promptFile(name, w.pushed)})
	return err
}

func (w *world) close() {
	if w.env != nil {
		w.env.Close()
	}
	for _, c := range []*child{w.floor, w.stubs} {
		if c != nil {
			c.close()
		}
	}
}

var errNoAnswer = errors.New("not the answer that was to come")
