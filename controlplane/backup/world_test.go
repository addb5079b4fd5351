package backup_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/backup"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const namespace = "default"

// world writes to a store what the control plane writes, at random.
type world struct {
	*testing.T

	store store.Store
	rand  *rand.Rand
	at    int // counts what was made, so that nothing is made twice
}

func newWorld(t *testing.T, s store.Store, seed uint64) *world {
	t.Helper()
	if _, err := view.Init(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return &world{T: t, store: s, rand: rand.New(rand.NewPCG(seed, 1))}
}

func (w *world) commit(txn store.Txn) {
	w.Helper()
	if _, err := w.store.Commit(w.Context(), txn); err != nil {
		w.Fatal(err)
	}
}

func (w *world) put(kvs ...store.KV) {
	w.Helper()
	w.commit(store.Txn{Puts: kvs})
}

func kv(key string, value []byte) store.KV { return store.KV{Key: key, Value: value} }

// now is a time that differs each time.
func (w *world) now() time.Time {
	w.at++
	return time.Unix(1_700_000_000+int64(w.at), 0).UTC()
}

func name(kind string, i int) string { return fmt.Sprintf("%s-%d", kind, i) }

const each = 4 // agents, prompts, MCP entries and credentials

// step makes one random change.
func (w *world) step() {
	w.Helper()
	i := w.rand.IntN(each)
	switch w.rand.IntN(12) {
	case 0, 1, 2:
		w.apply(name("Agent", i))
	case 3:
		w.note(name("Agent", i))
	case 4:
		w.applied(name("Agent", i))
	case 5:
		w.refusal(name("Agent", i))
	case 6:
		w.prompt(name("prompt", i))
	case 7:
		w.mcp(name("mcp", i))
	case 8:
		w.credential(name("key", i))
	case 9:
		w.put(kv(view.SettingKey(name("setting", i)), []byte(w.now().String())))
	case 10:
		w.remove(name("Agent", i))
	case 11:
		w.collect()
	}
}

func (w *world) agent(name string) (view.AgentHead, store.KV, bool) {
	got, err := w.store.Get(w.Context(), view.HeadKey(manifest.KindAgent, namespace, name))
	if err != nil {
		return view.AgentHead{}, store.KV{}, false
	}
	h, err := view.DecodeAgent(got)
	if err != nil {
		w.Fatal(err)
	}
	return h, got, true
}

func (w *world) move(kind, name, cause string, revision int64) store.KV {
	w.at++
	return kv(view.MoveKey(namespace, fmt.Sprintf("%020d-%d", w.at, w.rand.IntN(10))), view.Encode(view.MoveRecord{
		Actor: "user:x", Cause: cause, Time: w.now(), Heads: []view.HeadMove{{Kind: kind, Namespace: namespace, Name: name, Revision: revision}},
	}))
}

// apply writes a revision of an agent and its move, with or without a return to it.
func (w *world) apply(name string) {
	i := w.rand.IntN(each)
	raw, err := json.Marshal(spec.Agent{
		AgentName: name, Description: w.now().String(), PromptKey: fmt.Sprintf("prompt-%d", i),
		Model:      spec.Model{Model: "m", APIKey: spec.Value{Ref: fmt.Sprintf("key-%d", w.rand.IntN(each))}},
		MCPServers: []spec.MCPServerRef{{MCPServerName: fmt.Sprintf("mcp-%d", w.rand.IntN(each))}},
	})
	if err != nil {
		w.Fatal(err)
	}
	w.put(kv(view.BlobKey(manifest.Sum(raw)), raw))
	h, _, ok := w.agent(name)
	if !ok {
		h = view.AgentHead{Name: name}
	}
	s := h.State
	s.Last++
	s.Stable, s.LastMove, s.LastMoveAt = s.Last, release.MoveApply, w.now()
	if w.rand.IntN(3) == 0 {
		s.LastMove = release.MoveRollback
	}
	s.Revisions = append(s.Revisions, release.Revision{N: s.Last, Spec: manifest.Sum(raw)})
	again := h.Deleted
	h = h.Moved(s)
	h.Deleted = false
	if again || w.rand.IntN(4) == 0 {
		h.ResetEpoch, h.ResetGeneration, h.ResetHere = 1, 0, true
	}
	w.put(kv(view.HeadKey(manifest.KindAgent, namespace, name), view.Encode(h)), w.move(manifest.KindAgent, name, "apply", s.Last))
}

// note writes a head without a move, perhaps with a refusal of what it gives now.
func (w *world) note(name string) {
	h, at, ok := w.agent(name)
	if !ok {
		return
	}
	s := h.State
	s.LastMoveAt = w.now()
	if w.rand.IntN(2) == 0 {
		s.LastRefusal = &release.LastRefusal{Revision: s.Stable, At: w.now(), Generation: 1 + w.rand.Int64N(at.ModRevision)}
	}
	w.put(kv(view.HeadKey(manifest.KindAgent, namespace, name), view.Encode(h.Noted(s, at.ModRevision))))
}

func (w *world) applied(name string) {
	lines := []manifest.Line{{Kind: manifest.KindPrompt, Name: fmt.Sprintf("prompt-%d", w.rand.IntN(each)), Version: "1", SHA256: manifest.Sum([]byte(w.now().String()))}}
	h := manifest.Of(lines)
	w.put(kv(view.AppliedKey(namespace, name, h), view.Encode(view.Applied{Revision: 1, Config: manifest.ConfigName(1, h), Lines: lines, Instance: "i", Time: w.now()})))
}

func (w *world) refusal(name string) {
	h := manifest.Sum([]byte(w.now().String()))
	w.put(kv(view.RefusalKey(namespace, name, h), view.Encode(view.RefusalRecord{Revision: 1, Instance: "i", Time: w.now()})))
}

func (w *world) prompt(name string) {
	content := []byte(name + w.now().String())
	h := view.PromptHead{
		Name: name, Labels: map[string]string{"latest": "1"}, Updated: w.now(),
		Versions: []view.VersionRef{{Version: "1", Ordinal: 1, Hash: manifest.Sum(content), Online: true}},
	}
	w.put(kv(view.BlobKey(manifest.Sum(content)), content), kv(view.HeadKey(manifest.KindPrompt, namespace, name), view.Encode(h)), w.move(manifest.KindPrompt, name, "apply", 1))
}

func (w *world) mcp(name string) {
	content := []byte(`{"name":"` + name + w.now().String() + `"}`)
	h := view.MCPHead{Name: name, Current: "1", Versions: []view.VersionRef{{Version: "1", Ordinal: 1, Hash: manifest.Sum(content), Online: true}}}
	w.put(kv(view.BlobKey(manifest.Sum(content)), content), kv(view.HeadKey(manifest.KindMCP, namespace, name), view.Encode(h)), w.move(manifest.KindMCP, name, "apply", 1))
}

func (w *world) credential(name string) {
	w.at++
	h := view.CredentialHead{Name: name, Version: int64(w.at), Sealed: map[int64][]byte{int64(w.at): []byte("sealed")}}
	w.put(kv(view.HeadKey(manifest.KindCredential, namespace, name), view.Encode(h)))
}

func (w *world) remove(name string) {
	h, _, ok := w.agent(name)
	if !ok {
		return
	}
	s := h.State
	s.Stable, s.LastMove = 0, release.MoveDelete
	h = h.Moved(s)
	h.Deleted = true
	w.put(kv(view.HeadKey(manifest.KindAgent, namespace, name), view.Encode(h)), w.move(manifest.KindAgent, name, "delete", 0))
}

// collect removes the oldest move and applied config, as the collector does.
func (w *world) collect() {
	for _, prefix := range []string{view.MovePrefix, view.AppliedPrefix} {
		page, err := w.store.List(w.Context(), prefix, store.ListOptions{})
		if err != nil {
			w.Fatal(err)
		}
		if len(page.KVs) > 3 {
			w.commit(store.Txn{Deletes: []string{page.KVs[w.rand.IntN(3)].Key}})
		}
	}
}

// others writes to the prefixes that have rules of their own.
func (w *world) others(text string) {
	w.put(
		kv(view.AccessPrefix+"token/1", []byte(text)), kv(view.IdentityPrefix+"trust/authority", []byte(text)),
		kv(view.IdentityPrefix+"join/"+text, []byte(text)), kv(view.AuditPrefix+"head", []byte(text)),
		kv(view.ReplicaPrefix+"r1", []byte(text)), kv(view.LeaderKey, []byte(text)), kv(view.OncePrefix+"x/1", []byte(text)),
	)
}

// openView gives the view of a store as it is.
func openView(t *testing.T, s store.Store) *view.View {
	t.Helper()
	v, err := view.Open(t.Context(), view.Config{Store: s, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// copied gives a store with the same history of keys, at the same revisions.
func copied(t *testing.T, s store.Store) *memstore.Store {
	t.Helper()
	out := memstore.New()
	after, err := s.Commit(t.Context(), store.Txn{})
	if err != nil {
		t.Fatal(err)
	}
	done := fmt.Errorf("done")
	err = s.Watch(t.Context(), "", 1, func(b store.Batch) error {
		var txn store.Txn
		for _, e := range b.Events {
			if e.Deleted {
				txn.Deletes = append(txn.Deletes, e.Key)
			} else {
				txn.Puts = append(txn.Puts, kv(e.Key, e.Value))
			}
		}
		if rev, err := out.Commit(t.Context(), txn); err != nil || rev != b.Revision {
			t.Fatalf("copy at revision %d: %d, %v", b.Revision, rev, err)
		}
		if b.Revision == after {
			return done
		}
		return nil
	})
	if err != done { //nolint:errorlint // its own
		t.Fatal(err)
	}
	return out
}

func restorer(t *testing.T, s store.Store, more func(*backup.Config)) *backup.Restorer {
	t.Helper()
	cfg := backup.Config{Store: s, Audited: s, Logger: slog.New(slog.DiscardHandler), Replica: "here", Now: time.Now}
	if more != nil {
		more(&cfg)
	}
	r, err := backup.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
