package view_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

func TestInitOnce(t *testing.T) {
	s := memstore.New()
	got := make([]view.Cluster, 8)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			c, err := view.Init(t.Context(), s)
			if err != nil {
				t.Error(err)
			}
			got[i] = c
		})
	}
	wg.Wait()
	if len(got[0].ID) != 32 || got[0].Epoch != 1 {
		t.Fatalf("cluster %+v", got[0])
	}
	for _, c := range got {
		same(t, got[0], c)
	}
}

func TestInitRefusesForeignRecord(t *testing.T) {
	for name, value := range map[string]string{"no json": "{", "no id": `{"epoch":1}`, "no epoch": `{"id":"00000000000000000000000000000000"}`} {
		s := memstore.New()
		if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{kv(view.ClusterKey, []byte(value))}}); err != nil {
			t.Fatal(err)
		}
		if c, err := view.Init(t.Context(), s); err == nil {
			t.Errorf("%s: cluster %+v", name, c)
		}
	}
}

func TestHeads(t *testing.T) {
	w := newWorld(t)
	off := false
	stable := agentSpec(t, "Helper", "team/Greeting", "model-key", "nacos")
	candidate := agentSpec(t, "Helper", "other", "model-key", "nacos", "search")
	prompt1 := []byte("team/Greeting1.0.0")
	w.put(blob(stable), blob(candidate), blob(prompt1))
	promptRev := w.put(promptKV("default", "team/Greeting", "1.0.0"))
	w.put(promptKV("default", "unrelated", "1.0.0"), promptKV("elsewhere", "other", "1.0.0"))
	mcpRev := w.put(mcpKV("default", view.MCPHead{
		Name: "nacos", Current: "1.0.0",
		Versions: []view.VersionRef{{Version: "1.0.0", Hash: manifest.Sum([]byte("x")), Online: true}},
		Tools: map[string]spec.ToolSwitch{
			"write": {Enabled: &off},
			"read":  {Description: "reads", Approved: []string{"bb", "aa", "bb"}},
		},
	}))
	searchRev := w.put(mcpKV("default", view.MCPHead{Name: "search", Enabled: &off}))
	credRev := w.put(credentialKV("default", "model-key", 3))
	head := agentHead("Helper", 1, 2, stable, candidate)
	head.State.LastMove = release.MoveRollback
	agentRev := w.put(agentKV("default", head))

	got, immutables := w.view.Heads("default", "Helper")
	same(t, snapshot.Heads{
		Epoch: 1,
		Agent: snapshot.AgentHead{ModRevision: agentRev, Exists: true, Stable: 1, Candidate: 2, Returned: true, MovedAt: agentRev},
		Prompts: map[string]snapshot.PromptHead{"team/Greeting": {
			ModRevision: promptRev, Labels: map[string]string{"latest": "1.0.0"},
			Versions: map[string]manifest.Hash{"1.0.0": manifest.Sum(prompt1)},
		}},
		MCP: map[string]snapshot.MCPHead{
			"nacos": {
				ModRevision: mcpRev, Current: "1.0.0", Versions: map[string]manifest.Hash{"1.0.0": manifest.Sum([]byte("x"))},
				Policy: []byte(`{"server":"nacos","tools":{"read":{"approved":["aa","bb"],"description":"reads"}}}`),
				Denied: []string{"write"},
			},
			"search": {ModRevision: searchRev, Versions: map[string]manifest.Hash{}, Denied: []string{"*"}},
		},
		Credentials: map[string]snapshot.CredentialHead{"model-key": {ModRevision: credRev, Version: 3, Kept: []int64{3}}},
		Stamp:       agentRev,
	}, got)

	raw, hash, ok := immutables.Spec(2)
	if !ok || hash != manifest.Sum(candidate) || string(raw) != string(candidate) {
		t.Errorf("spec 2: %s, %v", raw, ok)
	}
	if _, _, ok := immutables.Spec(3); ok {
		t.Error("spec 3 is there")
	}
	if b, ok := immutables.Blob(manifest.Sum(prompt1)); !ok || string(b) != string(prompt1) {
		t.Errorf("blob %q, %v", b, ok)
	}
	names, rev := w.view.Denied("default", "Helper")
	same(t, []string{"nacos/write", "search"}, names)
	same(t, max(mcpRev, searchRev), rev)

	if unknown, _ := w.view.Heads("default", "helper"); unknown.Agent.Exists {
		t.Error("a name that differs in case found the agent")
	}
	if _, _, ok := w.view.Agent("default", "helper"); !ok {
		t.Error("Agent must find names without case")
	}
}

func TestMovedAt(t *testing.T) {
	w := newWorld(t)
	s := agentSpec(t, "a", "p", "c")
	w.put(blob(s))
	first := w.put(agentKV("default", agentHead("a", 1, 0, s)))
	movedAt := func() int64 {
		h, _ := w.view.Heads("default", "a")
		return h.Agent.MovedAt
	}
	same(t, first, movedAt())
	for range 2 { // a note doesn't count, nor does a note after a note
		head, mod, _ := w.view.Agent("default", "a")
		w.put(agentKV("default", head.Noted(head.State, mod)))
		same(t, first, movedAt())
	}
	head, _, _ := w.view.Agent("default", "a")
	last := w.put(agentKV("default", head.Moved(head.State)))
	same(t, last, movedAt())
}

func TestResetHere(t *testing.T) {
	w := newWorld(t)
	head := agentHead("a", 0, 0)
	head.ResetHere, head.ResetEpoch = true, 1
	rev := w.put(agentKV("default", head))
	for range 2 {
		got, _, _ := w.view.Agent("default", "a")
		if got.ResetGeneration != rev || got.ResetHere {
			t.Errorf("reset generation %d, here %v; want %d", got.ResetGeneration, got.ResetHere, rev)
		}
		w.put(agentKV("default", got)) // writing it again doesn't move the reset
	}
}

func TestReturned(t *testing.T) {
	tests := map[string]struct {
		state release.State
		want  bool
	}{
		"apply":         {release.State{LastMove: release.MoveApply}, false},
		"promote":       {release.State{LastMove: release.MovePromote}, false},
		"rollback":      {release.State{LastMove: release.MoveRollback}, true},
		"return":        {release.State{LastMove: release.MoveReturn}, true},
		"abort":         {release.State{LastMove: release.MoveAbort}, true},
		"retry":         {release.State{LastMove: release.MoveRetry}, false},
		"hold":          {release.State{LastMove: release.MoveHold, Hold: &release.Hold{Revision: 2}}, true},
		"hold, serving": {release.State{LastMove: release.MoveHold, Hold: &release.Hold{Revision: 2, Served: true}}, false},
	}
	w := newWorld(t)
	for name, tt := range tests {
		w.put(agentKV("default", view.AgentHead{Name: "a", State: tt.state}))
		h, _ := w.view.Heads("default", "a")
		if h.Agent.Returned != tt.want {
			t.Errorf("%s: %v, want %v", name, h.Agent.Returned, tt.want)
		}
		wantHeld := int64(0)
		if tt.state.Hold != nil && tt.state.Hold.Served {
			wantHeld = tt.state.Hold.Revision
		}
		if h.Agent.Held != wantHeld {
			t.Errorf("%s: held %d, want %d", name, h.Agent.Held, wantHeld)
		}
	}
}

func TestListings(t *testing.T) {
	w := newWorld(t)
	rev := w.put(
		agentKV("b", view.AgentHead{Name: "x"}), agentKV("a", view.AgentHead{Name: "Y"}), agentKV("a", view.AgentHead{Name: "x", Deleted: true}),
		promptKV("a", "k/2"), promptKV("a", "k/1"), mcpKV("a", view.MCPHead{Name: "m"}), credentialKV("a", "c", 1),
		kv(view.SettingKey("s"), []byte("v")),
	)
	var got []string
	for _, e := range w.view.Agents("") {
		got = append(got, e.Namespace+"/"+e.Head.Name)
		same(t, rev, e.ModRevision)
		same(t, rev, e.CreateRevision)
	}
	same(t, []string{"a/x", "a/Y", "b/x"}, got)
	same(t, 2, len(w.view.Agents("a")))
	same(t, "k/1", w.view.Prompts("a")[0].Head.Name)
	same(t, "m", w.view.MCPs("")[0].Head.Name)
	same(t, int64(1), w.view.Credentials("a")[0].Head.Version)
	if v, ok := w.view.Setting("s"); !ok || string(v) != "v" {
		t.Errorf("setting %q, %v", v, ok)
	}
	for kind, get := range map[string]func() (int64, bool){
		"prompt":     func() (int64, bool) { _, r, ok := w.view.Prompt("a", "K/1"); return r, ok },
		"mcp":        func() (int64, bool) { _, r, ok := w.view.MCP("a", "m"); return r, ok },
		"credential": func() (int64, bool) { _, r, ok := w.view.Credential("a", "c"); return r, ok },
	} {
		if at, ok := get(); !ok || at != rev {
			t.Errorf("%s: revision %d, %v", kind, at, ok)
		}
	}
	stats := w.view.Stats()
	same(t, []int{3, 2, 1, 1}, []int{stats.Agents, stats.Prompts, stats.MCP, stats.Credentials})
}

func TestAppliedRefusalsMoves(t *testing.T) {
	w := newWorld(t)
	line := func(name string) manifest.Line {
		return manifest.Line{Kind: manifest.KindPrompt, Name: name, Version: "1", SHA256: manifest.Sum([]byte(name))}
	}
	w.put(agentKV("default", view.AgentHead{Name: "A"}))
	one, two := manifest.Sum([]byte("1")), manifest.Sum([]byte("2"))
	_, before := w.view.Heads("default", "A")
	w.put(kv(view.AppliedKey("default", "A", one), view.Encode(view.Applied{Revision: 1, Lines: []manifest.Line{line("p"), line("q")}})))
	w.put(kv(view.AppliedKey("default", "A", two), view.Encode(view.Applied{Revision: 2, Lines: []manifest.Line{line("p"), line("r")}})))
	var hashes []manifest.Hash
	for _, a := range w.view.AppliedConfigs("default", "a") {
		hashes = append(hashes, a.Hash)
	}
	same(t, []manifest.Hash{two, one}, hashes)
	w.commit(store.Txn{Deletes: []string{view.AppliedKey("default", "A", one)}})
	_, after := w.view.Heads("default", "A")
	for name, want := range map[string]bool{"p": true, "q": false, "r": true} {
		same(t, want, w.view.AppliedLine("default", "A", line(name)))
		same(t, want, after.Applied(line(name)))
		if before.Applied(line(name)) {
			t.Errorf("%s: an older Heads shows what came later", name)
		}
	}

	w.put(kv(view.RefusalKey("default", "A", one), view.Encode(view.RefusalRecord{Revision: 1})))
	refused := w.put(kv(view.RefusalKey("default", "A", two), view.Encode(view.RefusalRecord{Revision: 2})))
	same(t, refused, w.view.Refusals("default", "A")[0].Seq)
	w.commit(store.Txn{Deletes: []string{view.RefusalKey("default", "A", two)}})
	same(t, int64(1), w.view.Refusals("default", "A")[0].Revision)

	var seqs []int64
	record := view.MoveRecord{Cause: "apply", Heads: []view.HeadMove{
		{Kind: "agent", Namespace: "default", Name: "A"}, {Kind: "prompt", Namespace: "default", Name: "p"},
	}}
	for i := range 205 {
		seqs = append(seqs, w.put(kv(view.MoveKey("default", name(i)), view.Encode(record))))
	}
	moves := w.view.Moves("default", "prompt", "P")
	same(t, 200, len(moves))
	same(t, seqs[204], moves[0].Seq)
	same(t, seqs[5], moves[199].Seq)
	w.commit(store.Txn{Deletes: []string{view.MoveKey("default", name(204)), view.MoveKey("default", name(0))}})
	same(t, seqs[203], w.view.Moves("default", "agent", "A")[0].Seq)
}

func TestUndecodableIsLeftOut(t *testing.T) {
	w := newWorld(t)
	good := view.PromptHead{Name: "p", Labels: map[string]string{"latest": "1"}}
	rev := w.put(kv(view.HeadKey("prompt", "default", "p"), view.Encode(good)))
	bad := []string{
		view.HeadKey("prompt", "default", "p"), view.HeadKey("agent", "default", "a"), view.HeadKey("mcp", "default", "m"),
		view.HeadKey("credential", "default", "c"), view.HeadKey("weather", "default", "w"), view.Root + "head/agent", view.Root + "head/agent//x",
		view.Root + "blob/zz", view.BlobKey(manifest.Sum([]byte("other"))), view.Root + "applied/x", view.AppliedKey("n", "a", manifest.Hash{}),
		view.RefusalKey("n", "a", manifest.Hash{}), view.Root + "refusal/a/b/c/d", view.MoveKey("n", "1"), view.ClusterKey,
	}
	for _, key := range bad {
		w.put(kv(key, []byte("{")))
	}
	notSpec := []byte("not a spec")
	w.put(blob(notSpec))
	w.put(agentKV("default", agentHead("b", 1, 0, notSpec)))
	w.put(kv(view.Root+"something/new", []byte("{")))
	same(t, int64(len(bad)+1), w.view.Stats().Undecodable)
	got, mod, ok := w.view.Prompt("default", "p")
	if !ok || mod != rev {
		t.Errorf("prompt at %d, %v: what was known before must stay", mod, ok)
	}
	same(t, good, got)
	if h, _ := w.view.Heads("default", "b"); !h.Agent.Exists {
		t.Error("an agent with an unreadable spec is gone")
	}
	if c := w.view.Cluster(); c.Epoch != 1 {
		t.Errorf("cluster %+v", c)
	}
}

func TestWaitForEnds(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := w.view.WaitFor(ctx, 1<<40); !errs.Is(err, errs.Timeout) {
		t.Errorf("error %v, want Timeout", err)
	}
}

func TestOpenFails(t *testing.T) {
	s := memstore.New()
	s.FailNext(errs.New(errs.Unavailable, "down"))
	if _, err := view.Open(t.Context(), view.Config{Store: s}); !errs.Is(err, errs.Unavailable) {
		t.Errorf("error %v, want Unavailable", err)
	}
}

func TestDeletedKeyOfAHead(t *testing.T) {
	w := newWorld(t)
	s := agentSpec(t, "a", "p", "c")
	w.put(blob(s), agentKV("default", agentHead("a", 1, 0, s)))
	w.commit(store.Txn{Deletes: []string{view.HeadKey("agent", "default", "a")}})
	if h, _ := w.view.Heads("default", "a"); h.Agent.Exists {
		t.Error("agent is there")
	}
	same(t, keys(), w.view.Dependents("prompt", "default", "p"))
}
