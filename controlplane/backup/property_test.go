package backup_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/backup"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

func anything(backup.Record) error { return nil }

func take(t *testing.T, s store.Store) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := backup.Take(t.Context(), backup.Taking{Store: s, Version: "test", KEK: "k", Taken: time.Unix(1_700_000_000, 0)}, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func receive(t *testing.T, b []byte) *backup.File {
	t.Helper()
	f, err := backup.Receive(t.Context(), t.TempDir(), bytes.NewReader(b), anything)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// TestComesBack: whatever happened before and after a backup, what comes back is what was there, in everything but revisions.
func TestComesBack(t *testing.T) {
	for seed := range uint64(60) {
		s := memstore.New()
		w := newWorld(t, s, seed)
		w.others("before")
		for range 30 + w.rand.IntN(120) {
			w.step()
		}
		file := take(t, s)
		old := openView(t, copied(t, s))
		for range w.rand.IntN(80) {
			w.step()
		}
		w.others("after")
		if seed%2 == 0 { // the last one was revoked
			w.commit(store.Txn{Deletes: []string{view.AccessPrefix + "token/1"}})
		}
		undone := openView(t, copied(t, s))
		r := restorer(t, s, nil)
		res, err := r.Restore(t.Context(), receive(t, file), backup.Options{By: "user:x", Message: "why"})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		now := openView(t, s)
		if diff := gocmp.Diff(told(old), told(now)); diff != "" {
			t.Fatalf("seed %d: (-backup +restored)\n%s", seed, diff)
		}
		aboveAll(t, seed, old, undone, now)
		c := now.Cluster()
		if c.Epoch != res.Cluster.Epoch || c.Epoch <= undone.Cluster().Epoch || c.ID != old.Cluster().ID || c.Restoring != nil || c.Restored.By != "user:x" {
			t.Errorf("seed %d: cluster %+v", seed, c)
		}
		// What has rules of its own stayed as it was.
		token := "after"
		if seed%2 == 0 {
			token = ""
		}
		for key, want := range map[string]string{
			view.AccessPrefix + "token/1": token, view.IdentityPrefix + "join/after": "after", view.IdentityPrefix + "join/before": "before",
			view.AuditPrefix + "head": "after", view.ReplicaPrefix + "r1": "after", view.LeaderKey: "after", view.OncePrefix + "x/1": "after",
		} {
			if got, _ := s.Get(t.Context(), key); string(got.Value) != want {
				t.Errorf("seed %d: %s is %q, want %q", seed, key, got.Value, want)
			}
		}
	}
}

// TestAgainAfterACrash: a restore that dies at any of its writes leaves a store that says so, and the next one brings all back.
func TestAgainAfterACrash(t *testing.T) {
	for seed := range uint64(6) {
		s := memstore.New()
		w := newWorld(t, s, seed)
		for range 60 {
			w.step()
		}
		file := take(t, s)
		old := told(openView(t, copied(t, s)))
		for range 30 {
			w.step()
		}
		for writes := 1; ; writes++ {
			ctx, cancel := context.WithCancel(t.Context())
			r := restorer(t, &dying{Store: s, after: writes, cancel: cancel}, nil)
			_, err := r.Restore(ctx, receive(t, file), backup.Options{})
			cancel()
			if err == nil {
				break
			}
			got := openView(t, s).Cluster()
			if got.Restoring == nil {
				t.Fatalf("seed %d, death after %d writes: the store doesn't say that it is half restored", seed, writes)
			}
			if _, err := restorer(t, s, nil).AsIs(t.Context(), backup.Options{}, false); err == nil {
				t.Fatalf("seed %d, death after %d writes: what is half restored was taken as it is", seed, writes)
			}
		}
		if diff := gocmp.Diff(old, told(openView(t, s))); diff != "" {
			t.Fatalf("seed %d: (-backup +restored)\n%s", seed, diff)
		}
	}
}

// Two changes don't go on at the same time at one replica; asking what one would do is answered all the same.
func TestADryRunWhileAnotherWrites(t *testing.T) {
	s := memstore.New()
	newWorld(t, s, 1)
	var r *backup.Restorer
	asked := 0
	r = restorer(t, &asking{Store: s, ask: func() {
		if asked++; asked > 1 {
			return
		}
		if _, err := r.AsIs(t.Context(), backup.Options{}, true); err != nil {
			t.Errorf("dry run: %v", err)
		}
		if _, err := r.AsIs(t.Context(), backup.Options{}, false); !errs.Is(err, errs.Conflict) {
			t.Errorf("two at a time: %v", err)
		}
	}}, nil)
	if _, err := r.AsIs(t.Context(), backup.Options{}, false); err != nil || asked == 0 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

// asking is a store that asks something before it writes.
type asking struct {
	store.Store

	ask func()
}

// Commit asks.
func (a *asking) Commit(ctx context.Context, t store.Txn) (int64, error) {
	a.ask()
	return a.Store.Commit(ctx, t)
}

// dying is a store whose process dies after some writes.
type dying struct {
	store.Store

	after  int
	cancel context.CancelFunc
}

// Commit counts.
func (d *dying) Commit(ctx context.Context, t store.Txn) (int64, error) {
	if d.after == 0 {
		d.cancel()
		return 0, context.Canceled
	}
	d.after--
	return d.Store.Commit(ctx, t)
}

// TestElsewhere: a backup moves to another store, whose revisions are lower, and takes its name along.
func TestElsewhere(t *testing.T) {
	for seed := range uint64(20) {
		s := memstore.New()
		w := newWorld(t, s, seed)
		w.others("there")
		for range 150 {
			w.step()
		}
		file := take(t, s)
		to := memstore.New()
		newWorld(t, to, seed+1000).others("here")
		r := restorer(t, to, func(c *backup.Config) {
			c.Identity = func(key string, theirs, _ []byte) ([]byte, error) {
				if strings.Contains(key, "/join/") {
					return nil, nil
				}
				return theirs, nil
			}
		})
		if _, err := r.Restore(t.Context(), receive(t, file), backup.Options{}); err == nil {
			t.Fatalf("seed %d: a backup of another cluster came back without being asked for", seed)
		}
		if _, err := r.Restore(t.Context(), receive(t, file), backup.Options{OtherCluster: true, Access: true}); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		old, now := openView(t, copied(t, s)), openView(t, to)
		if diff := gocmp.Diff(told(old), told(now)); diff != "" {
			t.Fatalf("seed %d: (-backup +restored)\n%s", seed, diff)
		}
		if now.Cluster().ID != old.Cluster().ID || now.Cluster().Epoch <= old.Cluster().Epoch {
			t.Errorf("seed %d: cluster %+v, was %+v", seed, now.Cluster(), old.Cluster())
		}
		for key, want := range map[string]string{
			view.AccessPrefix + "token/1": "there", view.IdentityPrefix + "trust/authority": "there", view.ReplicaPrefix + "r1": "here",
			view.IdentityPrefix + "join/there": "", view.IdentityPrefix + "join/here": "",
		} {
			if got, _ := to.Get(t.Context(), key); string(got.Value) != want {
				t.Errorf("seed %d: %s is %q, want %q", seed, key, got.Value, want)
			}
		}
	}
}

// aboveAll: a restored config is above whatever an instance may have seen.
func aboveAll(t *testing.T, seed uint64, old, undone, now *view.View) {
	t.Helper()
	for _, a := range old.Agents("") {
		after := generation(now, a.Namespace, a.Head.Name)
		for _, v := range []*view.View{old, undone} {
			if before := generation(v, a.Namespace, a.Head.Name); after != 0 && after < before {
				t.Errorf("seed %d: generation of %s fell from %d to %d", seed, a.Head.Name, before, after)
			}
		}
	}
}

// generation is 0 where nothing can be built.
func generation(v *view.View, namespace, agent string) int64 {
	heads, im := v.Heads(namespace, agent)
	s, err := snapshot.Build(heads, im, snapshot.Instance{})
	if err != nil {
		return 0
	}
	return s.Token.Generation
}

// told is everything that a view tells, with revisions replaced by how they compare.
func told(v *view.View) map[string]any {
	out := map[string]any{}
	blobs := map[string]bool{}
	for _, a := range v.Agents("") {
		id := "agent/" + a.Head.Name
		heads, im := v.Heads(a.Namespace, a.Head.Name)
		built, err := snapshot.Build(heads, im, snapshot.Instance{})
		out[id+"/config"] = []any{built.Token.Hash, built.Proven, built.Revision, built.Absent, fmt.Sprint(err)}
		moved := heads.Agent.MovedAt
		for name, p := range heads.Prompts {
			out[id+"/since/prompt/"+name] = p.ModRevision > moved
		}
		for name, m := range heads.MCP {
			out[id+"/since/mcp/"+name] = m.ModRevision > moved
		}
		for name, c := range heads.Credentials {
			out[id+"/since/key/"+name] = c.ModRevision > moved
		}
		h := a.Head
		if l := h.State.LastRefusal; l != nil {
			out[id+"/refused"] = cmp.Compare(built.Token.Generation, l.Generation)
			l.Generation = 0
		}
		h.MovedAt, h.ResetHere = 0, false
		out[id] = h
		for _, r := range h.State.Revisions {
			blobs[r.Spec.String()] = v.Knows(r.Spec)
		}
		var applied, refused []string
		for _, c := range v.AppliedConfigs(a.Namespace, h.Name) {
			applied = append(applied, c.Config+c.Time.String())
		}
		for _, r := range v.Refusals(a.Namespace, h.Name) {
			refused = append(refused, r.Hash.String()+r.Time.String())
		}
		out[id+"/applied"], out[id+"/refusals"] = applied, refused
		out[id+"/history"] = history(v, a.Namespace, h.Name, slices.Collect(maps.Keys(heads.Prompts)))
	}
	for _, p := range v.Prompts("") {
		out["prompt/"+p.Head.Name] = p.Head
	}
	for _, m := range v.MCPs("") {
		out["mcp/"+m.Head.Name] = m.Head
	}
	for _, c := range v.Credentials("") {
		out["credential/"+c.Head.Name] = c.Head
	}
	for i := range each {
		b, ok := v.Setting(name("setting", i))
		out[name("setting", i)] = fmt.Sprint(ok, string(b))
	}
	out["blobs"], out["greeted"] = blobs, v.Cluster().Greeted
	st := v.Stats()
	out["counts"] = []int{st.Keys, st.Blobs, st.Applied, st.Refusals}
	return out
}

// history merges an agent's moves with those of its prompts, as the API does.
func history(v *view.View, namespace, agent string, prompts []string) []string {
	moves := v.Moves(namespace, manifest.KindAgent, agent)
	for _, p := range prompts {
		moves = append(moves, v.Moves(namespace, manifest.KindPrompt, p)...)
	}
	slices.SortFunc(moves, func(a, b view.Move) int { return cmp.Or(cmp.Compare(b.Seq, a.Seq), b.Time.Compare(a.Time)) })
	var out []string
	for _, m := range moves {
		out = append(out, m.Time.String()+m.Cause)
	}
	return out
}
