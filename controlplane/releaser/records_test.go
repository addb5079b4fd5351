package releaser

import (
	"fmt"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
)

// What many agents applied goes into few writes, at most maxTogether agents in each, and nothing is lost or left in memory.
func TestRecordsOfManyAgentsGoTogether(t *testing.T) {
	within(t, func(r *rig) {
		const agents = maxTogether + maxTogether/2
		keys := make([]view.AgentKey, agents)
		r.rel.memo.mu.Lock()
		for i := range keys {
			keys[i] = view.AgentKey{Namespace: "d", Name: fmt.Sprintf("many-%03d", i)}
			line := manifest.Line{Kind: manifest.KindAgent, Name: keys[i].Name, Version: "-", SHA256: manifest.Sum([]byte(keys[i].Name))}
			r.rel.memo.of(keys[i]).held = []heldApplied{{since: time.Now(), KeepApplied: release.KeepApplied{
				Config:   release.Config{Revision: 1, Hash: manifest.Of([]manifest.Line{line}), Lines: []manifest.Line{line}},
				Instance: "i", At: time.Now(),
			}}}
		}
		r.rel.memo.mu.Unlock()
		before := r.view.Revision()
		for _, k := range keys {
			r.rel.records.add(k)
		}
		r.pass(10 * gather)
		if writes := r.view.Revision() - before; writes != 2 {
			t.Errorf("%d writes for the records of %d agents, want 2", writes, agents)
		}
		r.rel.memo.mu.Lock()
		defer r.rel.memo.mu.Unlock()
		for _, k := range keys {
			if got := r.view.AppliedConfigs(k.Namespace, k.Name); len(got) != 1 {
				t.Errorf("%s: %d records, want 1", k.Name, len(got))
			}
			if a := r.rel.memo.agents[k]; a != nil && len(a.held) > 0 {
				t.Errorf("%s: its record is written and still held", k.Name)
			}
		}
	})
}

// etcd keeps the newest writes in memory whatever their size, so records that take much room are spread over more of them.
func TestWritesOfRecordsAreBoundedByTheirBytes(t *testing.T) {
	within(t, func(r *rig) {
		const agents = 20
		lines := make([]manifest.Line, 100)
		for i := range lines {
			lines[i] = manifest.Line{Kind: manifest.KindPrompt, Name: fmt.Sprintf("p-%03d", i), Version: "1", SHA256: manifest.Sum([]byte{byte(i)})}
		}
		r.rel.memo.mu.Lock()
		keys := make([]view.AgentKey, agents)
		size := 0
		for i := range keys {
			keys[i] = view.AgentKey{Namespace: "d", Name: fmt.Sprintf("large-%03d", i)}
			k := release.KeepApplied{Config: release.Config{Revision: 1, Hash: manifest.Sum([]byte(keys[i].Name)), Lines: lines}, Instance: "i", At: time.Now()}
			r.rel.memo.of(keys[i]).held = []heldApplied{{since: time.Now(), KeepApplied: k}}
			size = len(view.Encode(view.Applied{Revision: 1, Lines: lines, Instance: "i", Time: k.At}))
		}
		r.rel.memo.mu.Unlock()
		var writes []int
		for due := keys; len(due) > 0; {
			var txn store.Txn
			n := r.rel.memo.collect(&txn, due, r.rel.cfg.View)
			bytes := 0
			for _, p := range txn.Puts {
				bytes += len(p.Value)
			}
			if bytes > 64<<10+2*size {
				t.Errorf("a write of %d bytes", bytes)
			}
			writes = append(writes, n)
			due = due[n:]
		}
		if len(writes) < 2 || len(writes) > agents/2 {
			t.Errorf("agents in each write: %v, want a few writes of several", writes)
		}
	})
}
