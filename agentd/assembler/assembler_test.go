package assembler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/configclient"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/spec"
)

func TestApplyServes(t *testing.T) {
	_, a := newWorld(t)
	if _, _, err := a.Acquire(); !errs.Is(err, errs.Unavailable) {
		t.Fatalf("before the first config: %v", err)
	}
	d := newDraft()
	d.agent.PromptVariables = map[string]string{"mood": "calm"}
	d.agent.Limits = &spec.Limits{ToolCalls: 3, Tokens: 500}
	u := d.update(t)
	if v := a.Apply(t.Context(), u); v.Phase != phase.Applied || len(v.Faults) != 0 {
		t.Fatalf("verdict %+v", v)
	}
	rt, release, err := a.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	got := map[string]any{
		"system": rt.System, "config": rt.Config, "prompt": rt.PromptKey + "@" + rt.PromptVersion, "calls": rt.ToolCalls,
		"tokens": rt.Tokens, "wall": rt.WallTime, "tools": offered(t, a),
	}
	want := map[string]any{
		"system": "be calm", "config": u.Config(), "prompt": "p@1.0.0", "calls": 3, "tokens": int64(500), "wall": defaultWallTime, "tools": "a__x a__y",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("runtime (-want +got):\n%s", diff)
	}
	token := u.Token
	token.Generation = 9
	a.Restamp(token, 4)
	again, release2, err := a.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer release2()
	if again.Revision != 4 || !strings.HasPrefix(again.Config, "4-") || rt.Revision != 1 {
		t.Errorf("restamped %d %s, before %d", again.Revision, again.Config, rt.Revision)
	}
}

func TestClientsAreShared(t *testing.T) {
	w, a := newWorld(t)
	w.set("http://b", func(s *fakeServer) { s.tools["z"] = "d" })
	d := newDraft()
	apply(t, a, d, phase.Applied)
	d.prompt.Template, d.prompt.Version = "other", "2.0.0"
	apply(t, a, d, phase.Applied)
	d.agent.MCPServers[0].Tools = &spec.ToolFilter{Deny: []string{"x"}}
	apply(t, a, d, phase.Applied)
	d.key, d.keyAt = "k2", 2
	apply(t, a, d, phase.Applied)
	if made, closed := w.counts(); made != 1 || closed != 0 || w.models != 1 {
		t.Errorf("%d server clients made, %d closed, %d models, want one client each", made, closed, w.models)
	}
	rt, release, err := a.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if tools := offered(t, a); tools != "a__y" {
		t.Errorf("tools %s", tools)
	}
	if r, err := rt.Tools.Tools()[0].Call(t.Context(), nil); err != nil || r.Text != "http://a k2" {
		t.Errorf("a call after the rotation: %+v, %v", r, err)
	}
	for c := range rt.Model.Generate(t.Context(), model.Request{}) {
		if c.Text != "http://model/v1 k2" {
			t.Errorf("a model call after the rotation: %q", c.Text)
		}
	}
	d.entries = []spec.MCPServer{entry("a", "http://b")}
	d.agent.MCPServers[0].Tools = nil
	apply(t, a, d, phase.Applied)
	if r, err := rt.Tools.Tools()[0].Call(t.Context(), nil); err != nil || r.Text != "http://a k2" {
		t.Errorf("a running request lost its server: %+v, %v", r, err)
	}
	release()
	eventually(t, "the old client was not closed", func() bool { _, closed := w.counts(); return closed == 1 })
}

func TestRefusals(t *testing.T) {
	allow := func(names ...string) *spec.ToolFilter { return &spec.ToolFilter{Allow: names} }
	dead := func(w *world) { w.set("http://dead", func(s *fakeServer) { s.code = phase.Unreachable }) }
	second := func(d *draft, required bool) {
		d.entries = append(d.entries, entry("b", "http://dead"))
		d.agent.MCPServers = append(d.agent.MCPServers, spec.MCPServerRef{MCPServerName: "b", Required: required})
	}
	cases := map[string]struct {
		world  func(*world)
		change func(*draft)
		config func(*Config)
		phase  phase.Phase
		faults []string // resource field code severity
	}{
		"allow list names a missing tool": {
			change: func(d *draft) { d.agent.MCPServers[0].Tools = allow("x", "nope") },
			phase:  phase.Rejected, faults: []string{"agent/helper mcpServers[0].tools.allow[1] tool_missing ERROR"},
		},
		"dead required server": {
			world: dead, change: func(d *draft) { second(d, true) },
			phase: phase.Received, faults: []string{"mcp/b endpoints[0].url unreachable ERROR"},
		},
		"dead optional server": {
			world: dead, change: func(d *draft) { second(d, false) },
			phase: phase.Degraded, faults: []string{"mcp/b endpoints[0].url unreachable ERROR"},
		},
		"dead server in a proven line": {
			world: dead, change: func(d *draft) { second(d, true); d.proven = []string{"mcp/b"} },
			phase: phase.Degraded, faults: []string{"mcp/b endpoints[0].url unreachable ERROR"},
		},
		"hanging server in a proven line": {
			world:  func(w *world) { w.set("http://dead", func(s *fakeServer) { s.hang = true }) },
			change: func(d *draft) { second(d, true); d.proven = []string{"mcp/b"} },
			phase:  phase.Degraded, faults: []string{"mcp/b endpoints[0].url unreachable ERROR"},
		},
		"dead server from last good": {
			world: dead, change: func(d *draft) { second(d, true); d.lastGood = true },
			phase: phase.Degraded, faults: []string{"mcp/b endpoints[0].url unreachable ERROR"},
		},
		"missing tool from last good": {
			change: func(d *draft) { d.agent.MCPServers[0].Tools = allow("nope"); d.lastGood = true },
			phase:  phase.Degraded, faults: []string{"agent/helper mcpServers[0].tools.allow[0] tool_missing ERROR"},
		},
		"unauthorized": {
			world: func(w *world) { w.set("http://dead", func(s *fakeServer) { s.code = phase.Unauthorized }) }, change: func(d *draft) { second(d, true) },
			phase: phase.Rejected, faults: []string{"mcp/b endpoints[0].url unauthorized ERROR"},
		},
		"changed headers that a known server refuses": {
			world:  func(w *world) { w.set("http://a", func(s *fakeServer) { s.code = phase.Unauthorized }) },
			change: func(d *draft) { d.agent.MCPServers[0].Headers = nil },
			phase:  phase.Rejected, faults: []string{"agent/helper mcpServers unauthorized ERROR"},
		},
		"unknown server and prompt at once": {
			change: func(d *draft) {
				d.agent.PromptKey = "q"
				d.prompt.PromptKey = "q"
				d.prompt.Template = "{{"
				d.agent.MCPServers[0].MCPServerName = "c"
			},
			phase: phase.Rejected, faults: []string{"prompt/q template invalid ERROR", "agent/helper mcpServers[0].mcpServerName invalid ERROR"},
		},
		"required variable without a value": {
			change: func(d *draft) {
				d.prompt.Template, d.prompt.Variables = "{{who}}", map[string]spec.PromptVariable{"who": {Required: true}}
			},
			phase: phase.Rejected, faults: []string{"agent/helper promptVariables.who invalid ERROR"},
		},
		"capability that is lacking": {
			change: func(d *draft) {
				d.agent.Requires = []spec.Requirement{{Capability: "partners", Field: "partnerAgents"}}
			},
			phase: phase.Applied, faults: []string{"agent/helper partnerAgents not_supported WARNING"},
		},
		"capability that is lacking and must not be": {
			change: func(d *draft) {
				d.agent.Requires = []spec.Requirement{{Capability: "partners", Field: "partnerAgents", Refuse: true}}
			},
			phase: phase.Rejected, faults: []string{"agent/helper partnerAgents not_supported ERROR"},
		},
		"capability that is there": {
			config: func(c *Config) { c.Capabilities = []string{"partners"} },
			change: func(d *draft) {
				d.agent.Requires = []spec.Requirement{{Capability: "partners", Field: "partnerAgents"}}
			},
			phase: phase.Applied,
		},
		"transport that is lacking": {
			change: func(d *draft) {
				d.entries[0].Transport = "sse"
				d.entries[0].Requires = []spec.Requirement{{Capability: spec.CapMCPSSE, Field: "transport"}}
			},
			phase: phase.Applied, faults: []string{"mcp/a transport not_supported WARNING"},
		},
		"no model endpoint": {
			change: func(d *draft) { d.agent.Model.BaseURL = "" },
			phase:  phase.Applied, faults: []string{"agent/helper model.baseUrl not_supported WARNING"},
		},
		"overridden model endpoint": {
			config: func(c *Config) { c.ModelBaseURL = "http://stub" },
			phase:  phase.Applied, faults: []string{"agent/helper model.baseUrl not_supported WARNING"},
		},
		"changed tool definition": {
			change: func(d *draft) {
				d.policies = []spec.Policy{{Server: "a", Tools: map[string]spec.ToolPolicy{"x": {Approved: []string{strings.Repeat("0", 64)}}}}}
			},
			phase: phase.Degraded, faults: []string{"mcp/a tools.x tool_changed ERROR"},
		},
		"last good that can't be written": {
			change: func(d *draft) { d.commit = func(context.Context) error { return errors.New("disk full") } },
			phase:  phase.Degraded, faults: []string{"agent/helper  not_persisted ERROR"},
		},
		"fenced": {
			change: func(d *draft) { d.commit = func(context.Context) error { return configclient.ErrFenced } },
			phase:  phase.Fenced,
		},
		"panic while building": {
			world: func(w *world) { w.boom = true }, change: func(d *draft) { d.agent.MCPServers[0].Timeout = 5 },
			phase: phase.Rejected, faults: []string{"agent/helper  invalid ERROR"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w, a := newWorld(t, func(cfg *Config) {
				if c.config != nil {
					c.config(cfg)
				}
			})
			first := newDraft()
			apply(t, a, first, phase.Applied)
			before, _ := a.Describe()
			if c.world != nil {
				c.world(w)
			}
			d := newDraft()
			d.revision = 2
			if c.change != nil {
				c.change(&d)
			}
			v := apply(t, a, d, c.phase)
			var got []string
			for _, f := range v.Faults {
				if f.Message == "" {
					t.Errorf("no message: %+v", f)
				}
				got = append(got, fmt.Sprintf("%s %s %s %s", f.Resource, f.Field, f.Code, f.Severity))
			}
			if diff := cmp.Diff(c.faults, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			after, _ := a.Describe()
			if !c.phase.Serving() && after.Config != before.Config {
				t.Errorf("a config that was not taken runs: %s", after.Config)
			}
			if c.phase.Serving() && after.Revision != 2 {
				t.Errorf("revision %d runs", after.Revision)
			}
		})
	}
}

func TestUnchangedDeadServerNeverRefuses(t *testing.T) {
	w, a := newWorld(t)
	d := newDraft()
	apply(t, a, d, phase.Applied)
	w.set("http://a", func(s *fakeServer) { s.code = phase.Unreachable })
	wantHealth(t, a, phase.Degraded)
	if tools := offered(t, a); tools != "" {
		t.Errorf("tools of a lost server: %s", tools)
	}
	d.revision, d.prompt.Template = 2, "new"
	d.prompt.Version = "1.1.0"
	apply(t, a, d, phase.Degraded)
	w.set("http://a", func(s *fakeServer) { s.code = "" })
	wantHealth(t, a, phase.Applied)
	if tools := offered(t, a); tools != "a__x a__y" {
		t.Errorf("tools after the reconnect: %s", tools)
	}
	w.set("http://a", func(s *fakeServer) { s.tools["new"] = "d3" })
	eventually(t, "a new tool is not offered", func() bool { return offered(t, a) == "a__new a__x a__y" })
}

func TestPolicyAndOverlay(t *testing.T) {
	_, a := newWorld(t)
	d := newDraft()
	d.policies = []spec.Policy{{Server: "a", Tools: map[string]spec.ToolPolicy{
		"x": {Approved: []string{strings.Repeat("0", 64)}}, "y": {Description: "better words", Approved: []string{digestY}},
	}}}
	apply(t, a, d, phase.Degraded)
	rt, release, err := a.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	tools := rt.Tools.Tools()
	if len(tools) != 1 || tools[0].Spec().Description != "better words" {
		t.Fatalf("tools %+v", tools)
	}
	a.SetDenied([]string{"a/y"})
	if len(rt.Tools.Tools()) != 0 {
		t.Error("a switched-off tool is offered")
	}
	if r, err := tools[0].Call(t.Context(), nil); err != nil || !r.IsError {
		t.Errorf("a switched-off tool was called: %+v, %v", r, err)
	}
	desc, _ := a.Describe()
	if got := desc.Servers[0].Tools[1]; !got.SwitchedOff || got.Offered || got.Pin != Approved {
		t.Errorf("described %+v", got)
	}
	a.SetDenied(nil)
	if r, err := tools[0].Call(t.Context(), nil); err != nil || r.IsError {
		t.Errorf("after it was switched on: %+v, %v", r, err)
	}
}

func TestTwoToolsUnderOneName(t *testing.T) {
	w, a := newWorld(t)
	w.set("http://b", func(s *fakeServer) { s.tools = map[string]string{"z": "d3"} })
	w.renamed = map[string]string{"http://b z": "a__x"}
	d := newDraft()
	d.entries = append(d.entries, entry("b", "http://b"))
	d.agent.MCPServers = append(d.agent.MCPServers, spec.MCPServerRef{MCPServerName: "b", Required: true})
	v := apply(t, a, d, phase.Applied)
	if len(v.Faults) != 1 || v.Faults[0].Resource != "mcp/b" || v.Faults[0].Field != "tools.z" || v.Faults[0].Severity != phase.Warning {
		t.Errorf("faults %+v", v.Faults)
	}
	rt, release, err := a.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	var got []string
	for _, tl := range rt.Tools.Tools() {
		r, err := tl.Call(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, tl.Spec().Name+" at "+r.Text)
	}
	if diff := cmp.Diff([]string{"a__x at http://a k1", "a__y at http://a k1"}, got); diff != "" {
		t.Errorf("tools (-want +got):\n%s", diff)
	}
	a.SetDenied([]string{"a/x"})
	if got := offered(t, a); got != "a__y" {
		t.Errorf("the name of a switched-off tool went to another: %s", got)
	}
	desc, _ := a.Describe()
	if tl := desc.Servers[1].Tools[0]; tl.Offered {
		t.Errorf("described as offered: %+v", tl)
	}
}

func TestRefusedCredentialStaysOut(t *testing.T) {
	_, a := newWorld(t)
	d := newDraft()
	apply(t, a, d, phase.Applied)
	d.key, d.keyAt = "bad", 2
	d.agent.MCPServers[0].Tools = &spec.ToolFilter{Allow: []string{"nope"}}
	apply(t, a, d, phase.Rejected)
	rt, release, err := a.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if r, _ := rt.Tools.Tools()[0].Call(t.Context(), nil); r.Text != "http://a k1" {
		t.Errorf("the running set calls with %q", r.Text)
	}
}
