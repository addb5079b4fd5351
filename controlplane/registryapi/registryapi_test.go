package registryapi

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/probe"
	"github.com/agentry/agentry/controlplane/reseal"
	"github.com/agentry/agentry/controlplane/specapi"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// alone is a fleet without instances, for the service that applies files.
type alone struct{}

func (alone) Live(string, string) bool                 { return false }
func (alone) Capabilities(string, string) [][]string   { return nil }
func (alone) Condition(string, string) phase.Condition { return phase.CondSynced }

// reports is what instances say, by agent.
type reports map[string][]fleet.ServerReport

func (r reports) ServerReports(_, agent, server string) []fleet.ServerReport {
	var out []fleet.ServerReport
	for _, x := range r[agent] {
		if x.Name == server {
			out = append(out, x)
		}
	}
	return out
}

// rig is a Service over a store in memory that holds an agent with a prompt, an MCP entry and two credentials.
type rig struct {
	*Service
	t      *testing.T
	store  *memstore.Store
	files  *specapi.Service
	vault  *specapi.Vault
	fleet  reports
	target probe.Target // of the last probe
	found  probe.Result // what a probe finds
	heard  []audit.Event
}

// Record implements audit.Recorder.
func (r *rig) Record(e audit.Event) { r.heard = append(r.heard, e) }

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, store: memstore.New(), fleet: reports{}}
	kek, err := secret.CreateFileKEK(filepath.Join(t.TempDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := view.Init(t.Context(), r.store); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	v, err := view.Open(t.Context(), view.Config{Store: r.store, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	if r.vault, err = specapi.OpenVault(t.Context(), specapi.VaultConfig{Store: r.store, KEK: kek}); err != nil {
		t.Fatal(err)
	}
	if r.files, err = specapi.New(specapi.Config{Store: r.store, View: v, Vault: r.vault, Fleet: alone{}, Logger: log, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	look := func(_ context.Context, target probe.Target) probe.Result {
		r.target = target
		return r.found
	}
	anew, err := reseal.New(reseal.Config{Store: r.store, View: v, Vault: r.vault})
	if err != nil {
		t.Fatal(err)
	}
	if r.Service, err = New(Config{Store: r.store, View: v, Vault: r.vault, Reseal: anew, Fleet: r.fleet, Probe: look, Audit: r, Logger: log, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := v.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = r.store.Close()
	})
	r.apply("prompts/bot.json", `{"promptKey": "bot", "version": "1.0.0", "template": "one"}`)
	r.apply("prompts/bot.json", `{"promptKey": "bot", "version": "1.0.1", "template": "two"}`)
	r.apply("mcp/tools.json", `{"name": "tools", "endpoint": "http://127.0.0.1:2/mcp", "parameters": {"headers": {"X-Key": {}, "X-Number": {"secret": false}}}}`)
	return r
}

func (r *rig) ctx() context.Context {
	return access.With(r.t.Context(), access.Principal{Name: "dev", Admin: true})
}

// apply writes files: path, content pairs.
func (r *rig) apply(pairs ...string) {
	r.t.Helper()
	req := &specv1.ApplyRequest{}
	for i := 0; i < len(pairs); i += 2 {
		req.Files = append(req.Files, &specv1.File{Path: pairs[i], Content: []byte(pairs[i+1])})
	}
	if _, err := r.files.Apply(r.ctx(), connect.NewRequest(req)); err != nil {
		r.t.Fatal(err)
	}
}

// agent writes an agent that refers to everything, to the prompt by a label.
func (r *rig) agent(name, label string) {
	r.t.Helper()
	r.apply(
		name+"/agent-base.json", fmt.Sprintf(`{"promptKey": "bot", "promptLabel": %q}`, label),
		name+"/model.json", `{"model": "m", "apiKey": {"credentialRef": "key"}}`,
		name+"/mcp-servers.json", `{"mcpServers": [{"mcpServerName": "tools", "headers": {"X-Number": "7", "X-Key": {"credentialRef": "key"}}}]}`,
	)
}

func (r *rig) newest() int64 {
	r.t.Helper()
	rev, err := r.store.Commit(r.t.Context(), store.Txn{})
	if err != nil {
		r.t.Fatal(err)
	}
	return rev
}

// moves gives the newest move of a head: "actor cause message: PART from>to, ...".
func (r *rig) lastMove(kind, name string) string {
	r.t.Helper()
	m := r.cfg.View.Moves("default", kind, name)[0]
	var parts []string
	for _, h := range m.Heads {
		parts = append(parts, fmt.Sprintf("%s %s>%s", h.Part, h.From, h.To))
	}
	return fmt.Sprintf("%s %s %s: %s", m.Actor, m.Cause, m.Message, strings.Join(parts, ", "))
}

func (r *rig) setLabel(label, version string, change func(*registryv1.SetLabelRequest)) (*registryv1.SetLabelResponse, error) {
	r.t.Helper()
	m := &registryv1.SetLabelRequest{Prompt: "bot", Label: label, Version: version, Message: "why"}
	if change != nil {
		change(m)
	}
	resp, err := r.SetLabel(r.ctx(), connect.NewRequest(m))
	if err != nil {
		return nil, err
	}
	return resp.Msg, nil
}

func TestLabels(t *testing.T) {
	r := newRig(t)
	if _, err := r.setLabel("prod", "1.0.0", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Create(r.ctx(), connect.NewRequest(&registryv1.CreateRequest{Name: "key", Value: []byte("secret-value")})); err != nil {
		t.Fatal(err)
	}
	r.agent("first", "prod")
	r.agent("second", "latest")
	before := r.newest()
	got, err := r.setLabel("prod", "1.0.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.newest() != before+1 || got.GetStoreRevision() != before+1 || got.GetFrom() != "1.0.0" || got.GetTo() != "1.0.1" {
		t.Errorf("a move: %v, store %d -> %d", got, before, r.newest())
	}
	if diff := cmp.Diff([]string{"first"}, got.GetAgents()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("dev label why: label prod 1.0.0>1.0.1", r.lastMove("prompt", "bot")); diff != "" {
		t.Error(diff)
	}
	if same, err := r.setLabel("prod", "1.0.1", nil); err != nil || same.GetStoreRevision() != 0 {
		t.Errorf("the same again: %v, %v", same, err)
	}
	dry, err := r.setLabel("prod", "1.0.0", func(m *registryv1.SetLabelRequest) { m.DryRun = true })
	if err != nil || dry.GetFrom() != "1.0.1" || r.newest() != before+1 {
		t.Errorf("dry run: %v, %v", dry, err)
	}

	unset := func(force bool) error {
		_, err := r.UnsetLabel(r.ctx(), connect.NewRequest(&registryv1.UnsetLabelRequest{Prompt: "bot", Label: "prod", Force: force}))
		return err
	}
	if err := unset(false); !errs.Is(err, errs.Precondition) || !strings.Contains(err.Error(), "first") {
		t.Errorf("a label in use: %v", err)
	}
	if err := unset(true); err != nil {
		t.Error(err)
	}
	if err := unset(true); !errs.Is(err, errs.NotFound) {
		t.Errorf("a label that isn't: %v", err)
	}
	history, err := r.LabelHistory(r.ctx(), connect.NewRequest(&registryv1.LabelHistoryRequest{Prompt: "bot"}))
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, m := range history.Msg.GetMoves() {
		rows = append(rows, fmt.Sprintf("%s %s>%s %s", m.GetLabel(), m.GetFrom(), m.GetTo(), m.GetMessage()))
	}
	want := []string{"prod 1.0.1> ", "prod 1.0.0>1.0.1 why", "prod >1.0.0 why", "latest 1.0.0>1.0.1 ", "latest >1.0.0 "}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Error(diff)
	}
}

func TestLabelRefusals(t *testing.T) {
	stale := int64(1)
	cases := map[string]struct {
		label, version string
		change         func(*registryv1.SetLabelRequest)
		want           errs.Kind
	}{
		"latest is the server's":  {"latest", "1.0.0", nil, errs.Precondition},
		"no name":                 {"-prod", "1.0.0", nil, errs.Invalid},
		"shaped like a version":   {"1.0.0", "1.0.0", nil, errs.Invalid},
		"no such version":         {"prod", "2.0.0", nil, errs.NotFound},
		"no such prompt":          {"prod", "1.0.0", func(m *registryv1.SetLabelRequest) { m.Prompt = "nobody" }, errs.NotFound},
		"another spelling":        {"prod", "1.0.0", func(m *registryv1.SetLabelRequest) { m.Prompt = "BOT" }, errs.NotFound},
		"a head that moved since": {"prod", "1.0.0", func(m *registryv1.SetLabelRequest) { m.CheckRevision = &stale }, errs.Conflict},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			before := r.newest()
			if _, err := r.setLabel(c.label, c.version, c.change); !errs.Is(err, c.want) {
				t.Errorf("got %v, want kind %v", err, c.want)
			}
			if r.newest() != before {
				t.Error("something was written")
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	r := newRig(t)
	create := func(name, value string) (*registryv1.CreateResponse, error) {
		resp, err := r.Create(r.ctx(), connect.NewRequest(&registryv1.CreateRequest{Name: name, Value: []byte(value), Message: "why"}))
		if err != nil {
			return nil, err
		}
		return resp.Msg, nil
	}
	rotate := func(value string, check *int64) (*registryv1.RotateResponse, error) {
		resp, err := r.Rotate(r.ctx(), connect.NewRequest(&registryv1.RotateRequest{Name: "key", Value: []byte(value), CheckRevision: check}))
		if err != nil {
			return nil, err
		}
		return resp.Msg, nil
	}
	if _, err := rotate("value-before-it-was", nil); !errs.Is(err, errs.NotFound) {
		t.Errorf("rotate what isn't: %v", err)
	}
	if got, err := create("key", "secret-value-1"); err != nil || got.GetVersion() != 1 || got.GetStoreRevision() == 0 {
		t.Fatalf("create: %v, %v", got, err)
	}
	r.agent("bot", "latest")
	before := r.newest()
	for n := int64(2); n <= 4; n++ {
		got, err := rotate(fmt.Sprintf("secret-value-%d", n), nil)
		if err != nil || got.GetFrom() != n-1 || got.GetVersion() != n || len(got.GetAgents()) != 1 {
			t.Fatalf("rotate: %v, %v", got, err)
		}
	}
	if r.newest() != before+3 {
		t.Errorf("three rotations took %d revisions", r.newest()-before)
	}
	head, _, _ := r.cfg.View.Credential("default", "key")
	for n := int64(1); n <= 4; n++ {
		v, err := r.vault.Reveal("default", "key", head, n)
		if kept := n > 1; kept != (err == nil) || (kept && v.Reveal() != fmt.Sprintf("secret-value-%d", n)) {
			t.Errorf("version %d: %v", n, err)
		}
	}
	if !head.Rotated {
		t.Error("the head doesn't say that it was rotated")
	}
	stale := int64(3)
	for name, c := range map[string]struct {
		err  func() error
		want errs.Kind
	}{
		"it exists":       {func() error { _, err := create("key", "x"); return err }, errs.Exists},
		"no name":         {func() error { _, err := create("a/b", "x"); return err }, errs.Invalid},
		"no value":        {func() error { _, err := create("other", ""); return err }, errs.Invalid},
		"a large value":   {func() error { _, err := create("other", strings.Repeat("x", maxValue+1)); return err }, errs.Invalid},
		"a stale version": {func() error { _, err := rotate("x", &stale); return err }, errs.Conflict},
	} {
		if err := c.err(); !errs.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	used, err := r.UsedBy(r.ctx(), connect.NewRequest(&registryv1.UsedByRequest{Name: "key"}))
	if err != nil {
		t.Fatal(err)
	}
	var places []string
	for _, u := range used.Msg.GetUses() {
		places = append(places, fmt.Sprintf("%s %d %s %s", u.GetAgent(), u.GetRevision(), u.GetRole(), u.GetPath()))
	}
	if diff := cmp.Diff([]string{"bot 1 stable model.apiKey", "bot 1 stable mcpServers[0].headers.X-Key"}, places); diff != "" {
		t.Error(diff)
	}
	listed, err := r.List(r.ctx(), connect.NewRequest(&registryv1.ListRequest{}))
	if err != nil || len(listed.Msg.GetCredentials()) != 1 || listed.Msg.GetCredentials()[0].GetVersion() != 4 || listed.Msg.GetCredentials()[0].GetAgents() != 1 {
		t.Errorf("list: %v, %v", listed, err)
	}
	page, err := r.store.List(t.Context(), "/", store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range page.KVs {
		if strings.Contains(string(kv.Value), "secret-value") {
			t.Errorf("a value lies in clear under %s", kv.Key)
		}
	}
	if _, err := r.files.Delete(r.ctx(), connect.NewRequest(&specv1.DeleteRequest{Kind: "credential", Name: "key", Force: true})); err != nil {
		t.Fatal(err)
	}
	if got, err := create("key", "secret-value-5"); err != nil || got.GetVersion() != 5 {
		t.Errorf("numbers go on: %v, %v", got, err)
	}
}
