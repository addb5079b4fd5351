package releaseapi

import (
	"fmt"
	"testing"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/internal/manifest"
)

const manyAgents = 1200

func botName(i int) string { return fmt.Sprintf("bot-%04d", i) }

func botHead(i int, revision int64) store.KV {
	h := view.AgentHead{Name: botName(i), State: release.State{Last: revision, Stable: revision}}
	return store.KV{Key: view.HeadKey(manifest.KindAgent, "default", h.Name), Value: view.Encode(h)}
}

// newLargeRig has manyAgents agents and counts how often a config is resolved.
func newLargeRig(t *testing.T) (r *rig, resolved *int) {
	t.Helper()
	r = newRig(t)
	resolved = new(int)
	r.desired.resolve = func(string, string) (fleet.Ref, error) { // called under desired's mutex
		*resolved++
		return ref(1, "a"), nil
	}
	for from := 0; from < manyAgents; from += store.MaxOps {
		var puts []store.KV
		for i := from; i < min(from+store.MaxOps, manyAgents); i++ {
			puts = append(puts, botHead(i, 1))
		}
		r.write(t, store.Txn{Puts: puts})
	}
	return r, resolved
}

func (r *rig) write(t *testing.T, txn store.Txn) {
	t.Helper()
	rev, err := r.store.Commit(t.Context(), txn)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cfg.View.WaitFor(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
}

func TestListingResolvesWhatChangedOnly(t *testing.T) {
	r, resolved := newLargeRig(t)
	for _, c := range []struct {
		name   string
		change func()
		want   int
	}{
		{"the first listing", func() {}, manyAgents},
		{"again", func() {}, 0},
		{"an agent moved", func() { r.write(t, store.Txn{Puts: []store.KV{botHead(7, 2)}}) }, 1},
		{"an instance came", func() { r.hello("i") }, 0},
	} {
		*resolved = 0
		c.change()
		resp, err := r.ListStatus(admin(t), connect.NewRequest(&releasev1.ListStatusRequest{}))
		if err != nil || len(resp.Msg.GetStatuses()) != manyAgents {
			t.Fatalf("%s: %d statuses, %v", c.name, len(resp.Msg.GetStatuses()), err)
		}
		if *resolved != c.want {
			t.Errorf("%s: %d configs resolved, want %d", c.name, *resolved, c.want)
		}
	}
}

// TestAWatchLooksAtWhatChanged drives a watch by hand and counts what it looks at and sends.
func TestAWatchLooksAtWhatChanged(t *testing.T) {
	r, _ := newLargeRig(t)
	var sent []string
	w := statusWatch{svc: r.Service, namespace: "default", sent: map[view.AgentKey]*sentStatus{}, visible: everybody, send: func(st *releasev1.AgentStatus) error {
		sent = append(sent, st.GetAgent()+" "+st.GetCondition())
		return nil
	}}
	changes := r.cfg.View.Subscribe()
	defer changes.Close()
	key := func(i int) view.AgentKey { return view.AgentKey{Namespace: "default", Name: botName(i)} }
	step := func(name string, want []string, f func() error) {
		t.Helper()
		sent = nil
		if err := f(); err != nil {
			t.Fatal(err)
		}
		if len(sent) != len(want) || (len(want) < 5 && fmt.Sprint(sent) != fmt.Sprint(want)) {
			t.Errorf("%s: sent %d %v, want %v", name, len(sent), sent[:min(3, len(sent))], want)
		}
	}
	step("present ones", make([]string, manyAgents), w.all)
	step("time passes", nil, w.tick)
	step("an agent moves", []string{botName(3) + " Synced"}, func() error {
		r.write(t, store.Txn{Puts: []store.KV{botHead(3, 2)}})
		touched, _ := changes.Take()
		if len(touched) != 1 {
			t.Errorf("touched %v", touched)
		}
		return w.look(touched)
	})
	step("nothing differs", nil, func() error { return w.look([]view.AgentKey{key(3), key(4), {Namespace: "other", Name: botName(3)}}) })
	step("an agent is deleted", []string{botName(5) + " Deleted"}, func() error {
		r.write(t, store.Txn{Puts: []store.KV{{
			Key: view.HeadKey(manifest.KindAgent, "default", botName(5)), Value: view.Encode(view.AgentHead{Name: botName(5), Deleted: true}),
		}}})
		touched, _ := changes.Take()
		return w.look(touched)
	})
	step("it stays deleted", nil, func() error { return w.look([]view.AgentKey{key(5)}) })
	if len(w.sent) != manyAgents-1 {
		t.Errorf("%d statuses are remembered", len(w.sent))
	}
}
