package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// agentry is the real control plane with its embedded etcd.
type agentry struct {
	env     *harness.Env
	cp      *harness.ControlPlane
	api     harness.API
	secret  string
	debug   string
	version int
}

// mcpEntries is how many each agent refers to: with its own spec and its prompt that makes eight resources.
const mcpEntries = 6

func startServer(ctx context.Context, o options, name, dir string, content []byte) (server, error) {
	if name != nameAgentry {
		return startCompared(o, name, content)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	env, err := harness.New(o.bin, dir)
	if err != nil {
		return nil, err
	}
	env.CA, env.CACert, env.CAKey = o.ca.ca, o.ca.cert, o.ca.key
	a := &agentry{env: env}
	if err := a.start(ctx, o); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *agentry) start(ctx context.Context, o options) (err error) {
	if a.debug, err = harness.FreeAddr(); err != nil {
		return err
	}
	if a.cp, err = a.env.StartControlPlane(ctx, "--pprof-addr", a.debug); err != nil {
		return err
	}
	return a.fill(ctx, o)
}

// fill applies the bench's agents.
func (a *agentry) fill(ctx context.Context, o options) (err error) {
	if a.secret, err = a.cp.Token(); err != nil {
		return err
	}
	if a.api, err = a.cp.API(); err != nil {
		return err
	}
	shared := harness.Files{}
	for i := range mcpEntries {
		shared[fmt.Sprintf("mcp/tools-%d.json", i)] = fmt.Sprintf(
			`{"name": "tools-%d", "endpoint": "http://127.0.0.1:9/mcp", "description": "Entry %d of the bench. %s"}`, i, i, strings.Repeat("It is never called. ", 3))
	}
	for _, p := range []string{scopeAll, soloAgent, refuserAgent} {
		a.prompt(shared, p)
	}
	a.agent(shared, soloAgent, soloAgent)
	a.agent(shared, refuserAgent, refuserAgent)
	if _, err := a.api.Apply(ctx, shared); err != nil {
		return err
	}
	files := harness.Files{}
	for i := range o.agents {
		a.agent(files, agentName(i), scopeAll)
		if (i+1)%90 == 0 || i == o.agents-1 { // one transaction moves at most 100 heads
			if _, err := a.api.Apply(ctx, files); err != nil {
				return err
			}
			files = harness.Files{}
		}
	}
	return nil
}

func (a *agentry) agent(files harness.Files, name, prompt string) {
	var servers []string
	for i := range mcpEntries {
		servers = append(servers, fmt.Sprintf(`{"mcpServerName": "tools-%d"}`, i))
	}
	files[name+"/agent-base.json"] = fmt.Sprintf(`{"promptKey": %q}`, prompt)
	files[name+"/model.json"] = `{"model": "scripted", "baseUrl": "http://127.0.0.1:9/v1"}`
	files[name+"/mcp-servers.json"] = fmt.Sprintf(`{"mcpServers": [%s]}`, strings.Join(servers, ", "))
}

// prompt gives the file of the next version of a prompt.
func (a *agentry) prompt(files harness.Files, key string) {
	a.version++
	files["prompts/"+key+".json"] = fmt.Sprintf(`{"promptKey": %q, "version": "1.0.%d", "template": "%s Version %018d"}`, key, a.version,
		strings.Repeat("You are an agent of the bench and are never asked. ", 5), a.version)
}

func (a *agentry) process() int { return a.cp.PID() }
func (a *agentry) at() place    { return place{push: a.cp.Runtime, tls: true, profiles: a.debug} }

// change applies the next version of the prompt of a scope at the people door, as agentctl apply does.
func (a *agentry) change(ctx context.Context, scope string) error {
	files := harness.Files{}
	a.prompt(files, scope)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err := a.api.Apply(ctx, files)
	return err
}

func (a *agentry) close() {
	_ = a.env.Remove()
}
