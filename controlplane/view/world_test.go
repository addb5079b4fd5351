package view_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// world is a store, a view that follows it, and short ways to write.
type world struct {
	*testing.T

	store *memstore.Store
	view  *view.View
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, store: memstore.New()}
	if _, err := view.Init(t.Context(), w.store); err != nil {
		t.Fatal(err)
	}
	w.view = openView(t, w.store)
	return w
}

// openView loads a view and runs it until the test ends.
func openView(t *testing.T, s store.Store) *view.View {
	t.Helper()
	v, err := view.Open(t.Context(), view.Config{Store: s, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return v
}

// commit writes and waits until the view shows it.
func (w *world) commit(txn store.Txn) int64 {
	w.Helper()
	rev, err := w.store.Commit(w.Context(), txn)
	if err != nil {
		w.Fatal(err)
	}
	w.wait(rev)
	return rev
}

func (w *world) wait(rev int64) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	if err := w.view.WaitFor(ctx, rev); err != nil {
		w.Fatal(err)
	}
}

func (w *world) put(kvs ...store.KV) int64 {
	w.Helper()
	return w.commit(store.Txn{Puts: kvs})
}

func kv(key string, value []byte) store.KV { return store.KV{Key: key, Value: value} }

func blob(content []byte) store.KV { return kv(view.BlobKey(manifest.Sum(content)), content) }

// agentSpec gives canonical-enough bytes of a spec that refers to a prompt, MCP entries and a credential.
func agentSpec(t *testing.T, name, prompt, credential string, mcp ...string) []byte {
	t.Helper()
	a := spec.Agent{AgentName: name, PromptKey: prompt, Model: spec.Model{Model: "m", APIKey: spec.Value{Ref: credential}}}
	for _, m := range mcp {
		a.MCPServers = append(a.MCPServers, spec.MCPServerRef{MCPServerName: m})
	}
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func agentHead(name string, stable, candidate int64, specs ...[]byte) view.AgentHead {
	h := view.AgentHead{Name: name, State: release.State{Last: int64(len(specs)), Stable: stable, LastMove: release.MoveApply}}
	for i, s := range specs {
		h.State.Revisions = append(h.State.Revisions, release.Revision{N: int64(i + 1), Spec: manifest.Sum(s)})
	}
	if candidate != 0 {
		h.State.Candidate = &release.Candidate{Revision: candidate}
	}
	return h
}

func agentKV(namespace string, h view.AgentHead) store.KV {
	return kv(view.HeadKey(manifest.KindAgent, namespace, h.Name), view.Encode(h))
}

func promptKV(namespace, key string, versions ...string) store.KV {
	h := view.PromptHead{Name: key, Labels: map[string]string{}}
	for i, v := range versions {
		h.Versions = append(h.Versions, view.VersionRef{Version: v, Ordinal: int64(i + 1), Hash: manifest.Sum([]byte(key + v)), Online: true})
		h.Labels["latest"] = v
	}
	return kv(view.HeadKey(manifest.KindPrompt, namespace, key), view.Encode(h))
}

func mcpKV(namespace string, h view.MCPHead) store.KV {
	return kv(view.HeadKey(manifest.KindMCP, namespace, h.Name), view.Encode(h))
}

func credentialKV(namespace, name string, version int64) store.KV {
	h := view.CredentialHead{Name: name, Version: version, Sealed: map[int64][]byte{version: []byte("sealed")}}
	return kv(view.HeadKey(manifest.KindCredential, namespace, name), view.Encode(h))
}

func same(t *testing.T, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func keys(names ...string) []view.AgentKey {
	var out []view.AgentKey
	for _, n := range names {
		out = append(out, view.AgentKey{Namespace: "default", Name: n})
	}
	return out
}

// touched waits until the subscription has something and takes it.
func (w *world) touched(s *view.Subscription) []view.AgentKey {
	w.Helper()
	select {
	case <-s.C:
	default:
	}
	agents, rev := s.Take()
	if at := w.view.Revision(); rev > at {
		w.Errorf("subscription at %d, view at %d", rev, at)
	}
	return agents
}

func name(i int) string { return fmt.Sprintf("agent-%05d", i) }
