package specapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeFleet is a fleet that a test sets.
type fakeFleet struct {
	live         bool
	capabilities [][]string
}

func (f *fakeFleet) Live(string, string) bool                 { return f.live }
func (f *fakeFleet) Capabilities(string, string) [][]string   { return f.capabilities }
func (f *fakeFleet) Condition(string, string) phase.Condition { return phase.CondSynced }

// rig is a Service over a store in memory.
type rig struct {
	*Service
	t     *testing.T
	store *memstore.Store
	fleet *fakeFleet
	mu    sync.Mutex
	clock time.Time // guarded by mu
}

func newRig(t *testing.T) *rig {
	t.Helper()
	s := memstore.New()
	kek, err := secret.CreateFileKEK(filepath.Join(t.TempDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, store: s, fleet: &fakeFleet{}, clock: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	if _, err := view.Init(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	v, err := view.Open(t.Context(), view.Config{Store: s, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	vault, err := OpenVault(t.Context(), VaultConfig{Store: s, KEK: kek})
	if err != nil {
		t.Fatal(err)
	}
	r.Service, err = New(Config{
		Store: s, View: v, Vault: vault, Fleet: r.fleet, Logger: slog.New(slog.DiscardHandler),
		Now: r.tick,
	})
	if err != nil {
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
		_ = s.Close()
	})
	return r
}

// tick is a clock on which every reading is a second later.
func (r *rig) tick() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock = r.clock.Add(time.Second)
	return r.clock
}

func (r *rig) ctx() context.Context {
	return access.With(r.t.Context(), access.Principal{Name: "dev", Admin: true})
}

func (r *rig) newest() int64 {
	r.t.Helper()
	rev, err := r.store.Commit(r.t.Context(), store.Txn{})
	if err != nil {
		r.t.Fatal(err)
	}
	return rev
}

// files makes a set of path, content pairs.
func files(pairs ...string) []*specv1.File {
	var out []*specv1.File
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, &specv1.File{Path: pairs[i], Content: []byte(pairs[i+1])})
	}
	return out
}

const (
	basePath   = "set/bot/agent-base.json"
	modelPath  = "set/bot/model.json"
	serverPath = "set/bot/mcp-servers.json"
	promptPath = "set/prompts/bot.json"
	mcpPath    = "set/mcp/tools.json"

	base    = `{"promptKey": "bot"}`
	model   = `{"model": "m", "baseUrl": "http://127.0.0.1:1/v1", "apiKey": "sk-canary-0123456789"}`
	promptA = `{"promptKey": "bot", "version": "1.0.0", "template": "You are a bot."}`
	promptB = `{"promptKey": "bot", "version": "1.0.1", "template": "You are another bot."}`
	tools   = `{"name": "tools", "endpoint": "http://127.0.0.1:2/mcp", "parameters": {"headers": {"X-Number": {"required": true, "secret": false}, "X-Key": {}}}}`
	servers = `{"mcpServers": [{"mcpServerName": "tools", "headers": {"X-Number": "7", "X-Key": "key-canary-987654321"}}]}`
)

func whole() []*specv1.File {
	return files(basePath, base, modelPath, model, serverPath, servers, promptPath, promptA, mcpPath, tools)
}

func (r *rig) apply(set []*specv1.File) (*specv1.ApplyResponse, error) {
	r.t.Helper()
	resp, err := r.Apply(r.ctx(), connect.NewRequest(&specv1.ApplyRequest{Files: set, Message: "why"}))
	if err != nil {
		return nil, err
	}
	return resp.Msg, nil
}

func (r *rig) mustApply(set []*specv1.File) *specv1.ApplyResponse {
	r.t.Helper()
	resp, err := r.apply(set)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp
}

func actions(resp *specv1.ApplyResponse) map[string]string {
	out := map[string]string{}
	for _, x := range resp.GetResults() {
		out[x.GetKind()+"/"+x.GetName()] = fmt.Sprintf("%s %d", x.GetAction(), x.GetRevision())
	}
	return out
}

func TestApply(t *testing.T) {
	cases := map[string]struct {
		before [][]*specv1.File
		set    []*specv1.File
		want   map[string]string
	}{
		"a whole set": {
			set: whole(),
			want: map[string]string{
				"agent/bot": "created 1", "prompt/bot": "created 1", "mcp/tools": "created 1",
				"credential/bot.model.apiKey": "created 1", "credential/bot.mcp.tools.headers.X-Key": "created 1",
			},
		},
		"the same set twice": {
			before: [][]*specv1.File{whole()}, set: whole(),
			want: map[string]string{"agent/bot": "unchanged 1", "prompt/bot": "unchanged 1", "mcp/tools": "unchanged 1"},
		},
		"a prompt alone": {
			before: [][]*specv1.File{whole()}, set: files(promptPath, promptB),
			want: map[string]string{"prompt/bot": "updated 2"},
		},
		"a prompt goes back to an older version": {
			before: [][]*specv1.File{whole(), files(promptPath, promptB)}, set: files(promptPath, promptA),
			want: map[string]string{"prompt/bot": "updated 1"},
		},
		"an unnamed MCP version changes": {
			before: [][]*specv1.File{whole()}, set: files(mcpPath, strings.Replace(tools, ":2/", ":3/", 1)),
			want: map[string]string{"mcp/tools": "updated 2"},
		},
		"a tool is switched off": {
			before: [][]*specv1.File{whole()}, set: files(mcpPath, strings.Replace(tools, `"name"`, `"tools": {"x": {"enabled": false}}, "name"`, 1)),
			want: map[string]string{"mcp/tools": "updated 1"},
		},
		"the agent's own spec changes": {
			before: [][]*specv1.File{whole()}, set: files(basePath, `{"promptKey": "bot", "maxIterations": 3}`, modelPath, model),
			want: map[string]string{"agent/bot": "updated 2"},
		},
		"a secret changes and the spec doesn't": {
			before: [][]*specv1.File{files(basePath, base, modelPath, model, promptPath, promptA)},
			set:    files(basePath, base, modelPath, strings.Replace(model, "sk-canary", "sk-other", 1)),
			want:   map[string]string{"agent/bot": "unchanged 1", "credential/bot.model.apiKey": "updated 2"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			for _, set := range c.before {
				r.mustApply(set)
			}
			got := r.mustApply(c.set)
			if diff := cmp.Diff(c.want, actions(got)); diff != "" {
				t.Error(diff)
			}
			unchanged := true
			for _, a := range c.want {
				unchanged = unchanged && strings.HasPrefix(a, actionUnchanged)
			}
			if (got.GetStoreRevision() == 0) != unchanged {
				t.Errorf("store revision %d", got.GetStoreRevision())
			}
		})
	}
}

func TestApplyFaultsAreListedAtOnceAndNothingIsStored(t *testing.T) {
	cases := map[string]struct {
		set  []*specv1.File
		want []string // file:line and part of the text
	}{
		"missing references": {
			set: files(basePath, `{"promptKey": "nobody"}`, modelPath, `{"model": "m", "apiKey": {"credentialRef": "gone"}}`,
				serverPath, "{\"mcpServers\": [\n{\"mcpServerName\": \"nowhere\"}]}"),
			want: []string{basePath + ":1 prompt nobody", serverPath + ":2 MCP server nowhere", modelPath + ":1 credential gone"},
		},
		"missing version and label": {
			set: files(basePath, `{"promptKey": "bot", "promptLabel": "lates"}`, modelPath, model, promptPath, promptA, mcpPath, tools,
				serverPath, `{"mcpServers": [{"mcpServerName": "tools", "version": "9", "headers": {"X-Number": "1"}}]}`),
			want: []string{basePath + ":1 no label lates", serverPath + ":1 no version 9"},
		},
		"a required parameter": {
			set:  files(basePath, base, modelPath, model, promptPath, promptA, mcpPath, tools, serverPath, `{"mcpServers": [{"mcpServerName": "tools"}]}`),
			want: []string{serverPath + ":1 MCP server tools requires it"},
		},
		"parse faults beside reference faults": {
			set:  files(basePath, `{"promptKey": "nobody"}`, modelPath, model, promptPath, `{"promptKey" "bot"}`),
			want: []string{basePath + ":1 prompt nobody", promptPath + ":1 "},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			before := r.newest()
			_, err := r.apply(c.set)
			var ce *connect.Error
			if !errors.As(err, &ce) || ce.Code() != connect.CodeInvalidArgument {
				t.Fatalf("got %v", err)
			}
			var got []string
			for _, d := range ce.Details() {
				v, err := d.Value()
				if err != nil {
					t.Fatal(err)
				}
				fs, ok := v.(*specv1.Faults)
				if !ok {
					t.Fatalf("detail %T", v)
				}
				for _, f := range fs.GetFaults() {
					got = append(got, fmt.Sprintf("%s:%d %s", f.GetFile(), f.GetLine(), f.GetMessage()))
				}
			}
			for _, want := range c.want {
				where, text, _ := strings.Cut(want, " ")
				found := false
				for _, g := range got {
					found = found || (strings.HasPrefix(g, where+" ") && strings.Contains(g, text))
				}
				if !found {
					t.Errorf("no fault %q in\n%s", want, strings.Join(got, "\n"))
				}
			}
			if r.newest() != before {
				t.Error("something was stored")
			}
		})
	}
}

func TestNoLiteralSecretIsStored(t *testing.T) {
	r := newRig(t)
	resp := r.mustApply(whole())
	page, err := r.store.List(t.Context(), "/", store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	plain := false
	for _, kv := range page.KVs {
		if strings.Contains(string(kv.Value), "canary") {
			t.Errorf("a secret lies under %s", kv.Key)
		}
		plain = plain || strings.Contains(string(kv.Value), `"X-Number":"7"`)
	}
	if !plain {
		t.Error("a parameter with secret: false is not literal in the spec")
	}
	if strings.Contains(fmt.Sprint(resp), "canary") {
		t.Error("a secret is in the answer")
	}
	notes := strings.Join(resp.GetNotes(), "\n")
	if !strings.Contains(notes, "bot.model.apiKey") {
		t.Errorf("notes: %s", notes)
	}
	v, err := r.Reveal("default", "bot.model.apiKey", 1)
	if err != nil || v.Reveal() != "sk-canary-0123456789" {
		t.Errorf("reveal: %v", err)
	}
	if _, err := r.Reveal("default", "bot.model.apiKey", 2); !errs.Is(err, errs.NotFound) {
		t.Errorf("a version that isn't there: %v", err)
	}
}

func TestApplyRefusals(t *testing.T) {
	r := newRig(t)
	r.mustApply(whole())
	check := func(n int64) error {
		_, err := r.Apply(r.ctx(), connect.NewRequest(&specv1.ApplyRequest{Files: whole(), CheckRevision: &n}))
		return err
	}
	if err := check(1); err != nil {
		t.Error(err)
	}
	if err := check(7); !errs.Is(err, errs.Conflict) {
		t.Errorf("stale revision: %v", err)
	}
	if _, err := r.apply(files(promptPath, strings.Replace(promptA, "a bot", "changed", 1))); err == nil || !strings.Contains(err.Error(), "other content") {
		t.Errorf("a changed version: %v", err)
	}
	if _, err := r.apply(files("set/BOT/agent-base.json", base, "set/BOT/model.json", model)); err == nil || !strings.Contains(err.Error(), "exists as bot") {
		t.Errorf("a name that differs by case: %v", err)
	}
	var many []string
	for i := range 101 {
		many = append(many, fmt.Sprintf("set/prompts/p%d.json", i), fmt.Sprintf(`{"promptKey": "p%d", "version": "1.0.0", "template": "x"}`, i))
	}
	if _, err := r.apply(files(many...)); !errs.Is(err, errs.Precondition) {
		t.Errorf("101 heads: %v", err)
	}
}

func TestDryRunWritesNothingAndShowsTheChange(t *testing.T) {
	r := newRig(t)
	r.mustApply(whole())
	before := r.newest()
	resp, err := r.Apply(r.ctx(), connect.NewRequest(&specv1.ApplyRequest{Files: files(promptPath, promptB), DryRun: true}))
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Msg.GetDiffs()) != 1 || len(resp.Msg.GetDiffs()[0].GetChanges()) != 2 {
		t.Errorf("diffs: %v", resp.Msg.GetDiffs())
	}
	if r.newest() != before {
		t.Error("something was written")
	}
}

func TestUnsupportedFieldsAreNoted(t *testing.T) {
	set := append(whole(), files("set/bot/knowledge.json", `{"knowledgeBases": [{"name": "faq"}]}`)...)
	r := newRig(t)
	notes := strings.Join(r.mustApply(set).GetNotes(), "\n")
	if !strings.Contains(notes, "not_supported") || !strings.Contains(notes, "knowledgeBases") {
		t.Errorf("notes: %s", notes)
	}
	r = newRig(t)
	r.fleet.capabilities = [][]string{{"knowledge"}}
	if notes := strings.Join(r.mustApply(set).GetNotes(), "\n"); strings.Contains(notes, "knowledgeBases") {
		t.Errorf("a live instance can do it, but: %s", notes)
	}
}
