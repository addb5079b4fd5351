package registryapi

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/probe"
	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
)

// digest is a whole one that begins with text.
func digest(text string) string { return text + strings.Repeat("0", 64-len(text)) }

func (r *rig) enable(tool string, on bool) (*registryv1.SetEnabledResponse, error) {
	r.t.Helper()
	resp, err := r.SetEnabled(r.ctx(), connect.NewRequest(&registryv1.SetEnabledRequest{Server: "tools", Tool: tool, Enabled: on, Message: "why"}))
	if err != nil {
		return nil, err
	}
	return resp.Msg, nil
}

func (r *rig) withAgent() *rig {
	r.t.Helper()
	if _, err := r.Create(r.ctx(), connect.NewRequest(&registryv1.CreateRequest{Name: "key", Value: []byte("secret-value")})); err != nil {
		r.t.Fatal(err)
	}
	r.agent("bot", "latest")
	return r
}

// says makes an instance of bot report tools: name, digest pairs.
func (r *rig) says(instance string, pairs ...string) {
	s := fleet.Server{Name: "tools", Healthy: true}
	for i := 0; i < len(pairs); i += 2 {
		s.Tools = append(s.Tools, fleet.ServerTool{Name: pairs[i], Description: "does " + pairs[i], Digest: digest(pairs[i+1])})
	}
	r.fleet["bot"] = append(r.fleet["bot"], fleet.ServerReport{Instance: instance, Server: s})
}

func TestSwitches(t *testing.T) {
	r := newRig(t).withAgent()
	denied := func() string {
		names, _ := r.cfg.View.Denied("default", "bot")
		return strings.Join(names, " ")
	}
	steps := []struct {
		tool    string
		on      bool
		changed bool
		denied  string
		move    string
		note    string
	}{
		{"alpha", false, true, "tools/alpha", "dev disable why: tool alpha on>off", ""},
		{"alpha", false, false, "tools/alpha", "dev disable why: tool alpha on>off", ""},
		{"", false, true, "tools", "dev disable why: server on>off", ""},
		{"alpha", true, true, "tools", "dev enable why: tool alpha off>on", "the whole server tools is switched off"},
		{"", true, true, "", "dev enable why: server off>on", ""},
		{"beta", true, false, "", "dev enable why: server off>on", ""},
	}
	for i, s := range steps {
		before := r.newest()
		got, err := r.enable(s.tool, s.on)
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		wrote := int64(0)
		if s.changed {
			wrote = 1
		}
		if got.GetChanged() != s.changed || r.newest() != before+wrote || denied() != s.denied || !strings.Contains(strings.Join(got.GetNotes(), ";"), s.note) {
			t.Errorf("step %d: %v, %d writes, denied %q", i, got, r.newest()-before, denied())
		}
		if diff := cmp.Diff(s.move, r.lastMove("mcp", "tools")); diff != "" {
			t.Errorf("step %d: %s", i, diff)
		}
		if diff := cmp.Diff([]string{"bot"}, got.GetAgents()); diff != "" {
			t.Errorf("step %d: %s", i, diff)
		}
	}
	if head, _, _ := r.cfg.View.MCP("default", "tools"); len(head.Tools) > 0 || head.Enabled != nil {
		t.Errorf("what is on again leaves traces: %+v", head)
	}
	r.says("i", "alpha", "a")
	if got, err := r.enable("nobody", false); err != nil || !strings.Contains(strings.Join(got.GetNotes(), ";"), "nobody reports") {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"*", "a b", strings.Repeat("x", 200)} {
		if _, err := r.enable(bad, false); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := r.SetEnabled(r.ctx(), connect.NewRequest(&registryv1.SetEnabledRequest{Server: "nobody"})); !errs.Is(err, errs.NotFound) {
		t.Errorf("no such server: %v", err)
	}
}

func (r *rig) approve(digests []string, tools ...string) (*registryv1.ApproveToolsResponse, error) {
	r.t.Helper()
	resp, err := r.ApproveTools(r.ctx(), connect.NewRequest(&registryv1.ApproveToolsRequest{Server: "tools", Tools: tools, Digests: digests, Message: "why"}))
	if err != nil {
		return nil, err
	}
	return resp.Msg, nil
}

// listed gives every tool: "name on|off state approved<by|by".
func (r *rig) listed() []string {
	r.t.Helper()
	resp, err := r.ListTools(r.ctx(), connect.NewRequest(&registryv1.ListToolsRequest{Server: "tools"}))
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, tool := range resp.Msg.GetTools() {
		var defs []string
		for _, d := range tool.GetDefinitions() {
			defs = append(defs, d.GetDigest()[:1]+" by "+strings.Join(d.GetSeenBy(), " "))
		}
		out = append(out, fmt.Sprintf("%s %s %s: %s", tool.GetName(), onOff(tool.GetEnabled()), tool.GetState(), strings.Join(defs, ", ")))
	}
	return out
}

func TestApprovals(t *testing.T) {
	r := newRig(t).withAgent()
	if _, err := r.approve(nil); !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "mcp probe tools") {
		t.Errorf("nothing is reported: %v", err)
	}
	r.says("i", "alpha", "a", "beta", "b")
	r.says("j", "alpha", "a", "beta", "c")
	if diff := cmp.Diff([]string{"alpha on unpinned: a by bot/i bot/j", "beta on unpinned: b by bot/i, c by bot/j"}, r.listed()); diff != "" {
		t.Error(diff)
	}
	before := r.newest()
	if _, err := r.approve(nil); !errs.Is(err, errs.Precondition) || !strings.Contains(err.Error(), "bot/j") {
		t.Errorf("two definitions of one tool: %v", err)
	}
	if _, err := r.approve(nil, "gamma"); !errs.Is(err, errs.NotFound) {
		t.Errorf("a tool that nobody reports: %v", err)
	}
	if _, err := r.approve([]string{"abc"}, "beta"); !errs.Is(err, errs.Invalid) {
		t.Errorf("no digest: %v", err)
	}
	if _, err := r.approve([]string{digest("b")}, "alpha", "beta"); !errs.Is(err, errs.Invalid) {
		t.Errorf("digests for two tools: %v", err)
	}
	if r.newest() != before {
		t.Error("a refusal wrote something")
	}
	got, err := r.approve(nil, "alpha")
	if err != nil || r.newest() != before+1 || len(got.GetTools()) != 1 || got.GetTools()[0].GetDigests()[0] != digest("a") {
		t.Fatalf("%v, %v", got, err)
	}
	if again, err := r.approve(nil, "alpha"); err != nil || again.GetStoreRevision() != 0 {
		t.Errorf("the same again: %v, %v", again, err)
	}
	if _, err := r.approve([]string{digest("c"), digest("b"), digest("c")}, "beta"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("dev approve why: tool beta >b0000000,c0000000", r.lastMove("mcp", "tools")); diff != "" {
		t.Error(diff)
	}
	r.fleet["bot"] = nil
	r.says("i", "alpha", "x")
	if diff := cmp.Diff([]string{"alpha on changed: x by bot/i", "beta on unseen: "}, r.listed()); diff != "" {
		t.Error(diff)
	}
}

func TestProbe(t *testing.T) {
	r := newRig(t).withAgent()
	look := func(agent string) (*registryv1.ProbeResponse, error) {
		resp, err := r.Probe(r.ctx(), connect.NewRequest(&registryv1.ProbeRequest{Server: "tools", Agent: agent, Timeout: durationpb.New(time.Second)}))
		if err != nil {
			return nil, err
		}
		return resp.Msg, nil
	}
	before := r.newest()
	r.found = probe.Result{Endpoint: "http://127.0.0.1:2/mcp", ServerName: "stub", Tools: []probe.Tool{{Name: "alpha", Digest: digest("a")}}}
	got, err := look("")
	if err != nil || !got.GetResult().GetHealthy() || len(got.GetTools()) != 1 || len(r.target.Headers) != 0 || r.target.Name != "tools" {
		t.Fatalf("%v, %v, target %+v", got, err, r.target)
	}
	if diff := cmp.Diff([]string{"alpha on unpinned: a by probe"}, r.listed()); diff != "" {
		t.Error(diff)
	}
	if len(r.heard) != 0 {
		t.Errorf("a probe without credentials is told: %+v", r.heard)
	}
	if _, err := look("bot"); err != nil || r.target.Headers["X-Key"].Reveal() != "secret-value" || r.target.Headers["X-Number"].Reveal() != "7" {
		t.Errorf("as an agent: %v, headers of %d", err, len(r.target.Headers))
	}
	if len(r.heard) != 1 || r.heard[0].Type != audit.CredentialUse || r.heard[0].Message != "sent to mcp/tools by a probe" ||
		!strings.HasPrefix(strings.Join(r.heard[0].Objects, " "), "credential/") {
		t.Errorf("the use of a credential is told as %+v", r.heard)
	}
	if _, err := look("nobody"); !errs.Is(err, errs.NotFound) {
		t.Errorf("as nobody: %v", err)
	}
	r.found = probe.Result{Code: phase.Unreachable, Message: "connect: refused"}
	if got, err := look(""); err != nil || got.GetResult().GetHealthy() || got.GetResult().GetCode() != "unreachable" {
		t.Errorf("a dead server: %v, %v", got, err)
	}
	if r.newest() != before {
		t.Error("a probe wrote something")
	}
	// What was found counts for the version that was probed.
	r.found = probe.Result{Tools: []probe.Tool{{Name: "alpha", Digest: digest("a")}}}
	if _, err := look(""); err != nil {
		t.Fatal(err)
	}
	r.apply("mcp/tools.json", `{"name": "tools", "endpoint": "http://127.0.0.1:3/mcp"}`)
	if got := r.listed(); len(got) != 0 {
		t.Errorf("the probe of another version counts: %v", got)
	}
}

func TestProbesAreFew(t *testing.T) {
	r := newRig(t)
	for range maxProbes {
		r.slots <- struct{}{}
	}
	_, err := r.Probe(r.ctx(), connect.NewRequest(&registryv1.ProbeRequest{Server: "tools"}))
	if !errs.Is(err, errs.Exhausted) {
		t.Errorf("got %v", err)
	}
	for range maxProbes {
		<-r.slots
	}
	ctx, cancel := context.WithCancel(r.ctx())
	cancel()
	if _, err := r.Probe(ctx, connect.NewRequest(&registryv1.ProbeRequest{Server: "tools"})); err == nil || len(r.slots) != 0 {
		t.Errorf("got %v, %d slots taken", err, len(r.slots))
	}
}
