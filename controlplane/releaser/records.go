package releaser

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// Bounds of one write of many agents' records.
const (
	gather      = 50 * time.Millisecond // for so long more of them are waited for
	maxTogether = 100                   // agents
	// maxRecordSize is the bytes of one write, but for what one agent needs. Embedded etcd keeps 10 to 110 of its newest log entries
	// in memory, whatever their size, so a write is no larger than what makes many agents' records cheap.
	maxRecordSize = 64 << 10
)

// records is the agents whose held records are to be written now. It is a set, so it is bounded by the number of agents.
type records struct {
	ready chan struct{} // one token while something is there

	mu     *sync.Mutex // guards agents
	agents map[view.AgentKey]struct{}
}

func newRecords() records {
	return records{ready: make(chan struct{}, 1), mu: &sync.Mutex{}, agents: map[view.AgentKey]struct{}{}}
}

func (q *records) add(k view.AgentKey) {
	q.mu.Lock()
	q.agents[k] = struct{}{}
	q.mu.Unlock()
	signal(q.ready)
}

// take gives all that is due.
func (q *records) take() []view.AgentKey {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make([]view.AgentKey, 0, len(q.agents))
	for k := range q.agents {
		out = append(out, k)
	}
	clear(q.agents)
	return out
}

// recordAll writes due records until ctx ends, those of many agents in one transaction.
func (r *Releaser) recordAll(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.records.ready:
		}
		timer.Reset(gather)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		for due := r.records.take(); len(due) > 0 && ctx.Err() == nil; {
			var t store.Txn
			n := r.memo.collect(&t, due, r.cfg.View)
			if len(t.Puts) > 0 {
				r.record(ctx, t, due[:n])
			}
			due = due[n:]
		}
	}
}

// collect adds what is held of the first agents to a transaction, and says of how many. It makes no conditions, which cost etcd
// as much as the writes: where another replica recorded the same a moment ago, that record keeps its revision and its lines.
func (m *memo) collect(t *store.Txn, keys []view.AgentKey, v *view.View) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	size, put := 0, 0
	for i, k := range keys {
		if i == maxTogether || size > maxRecordSize {
			return i
		}
		a := m.agents[k]
		if a == nil {
			continue
		}
		for _, h := range a.held {
			if !v.Recorded(k.Namespace, k.Name, h.Config.Hash) {
				keepApplied(t, k.Namespace, k.Name, h.KeepApplied, h.policies, v.Knows)
			}
		}
		for ; put < len(t.Puts); put++ {
			size += len(t.Puts[put].Value)
		}
	}
	return len(keys)
}

// record writes. Where that fails each agent's look writes its own: another replica may have written one of them.
func (r *Releaser) record(ctx context.Context, t store.Txn, keys []view.AgentKey) {
	bounded, cancel := context.WithTimeout(ctx, r.cfg.WriteTimeout)
	defer cancel()
	// gofail: var holdRecords struct{}
	// select {}

	revision, err := r.cfg.Store.Commit(bounded, t)
	if err == nil {
		err = r.cfg.View.WaitFor(bounded, revision)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil && !errs.Is(err, errs.Conflict) {
		r.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "applied configs not recorded", slog.Int("agents", len(keys)), slog.Any("error", err))
	}
	r.memo.mu.Lock()
	for _, k := range keys {
		if a := r.memo.agents[k]; a != nil {
			a.settle(err != nil, func(h manifest.Hash) bool { return r.cfg.View.Recorded(k.Namespace, k.Name, h) })
		}
	}
	r.memo.mu.Unlock()
	if err != nil {
		r.work.addAll(keys, time.Now())
	}
}

// settle forgets held records that are written.
func (a *agentMemo) settle(alone bool, written func(manifest.Hash) bool) {
	a.alone = alone
	if a.held = slices.DeleteFunc(a.held, func(h heldApplied) bool { return written(h.Config.Hash) }); len(a.held) == 0 {
		a.held = nil
	}
}
