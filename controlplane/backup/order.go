package backup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
)

// Order is kept, revisions aren't. What compares revisions of two records (a generation is the greatest of several heads; a line is
// proven while its head wasn't written after the agent's last move; history is sorted by them) must find the same answer after a
// restore. So records are written in ascending order of their old revisions, and the few revisions that stand inside of records are
// mapped to what they became. Records of different old revisions share a transaction only where nothing compares them.

// orderOf gives the revision that counts for a record, and whether that is the one of its making: such records are removed first and
// made anew, because a write over one that is there would leave it in its old place.
func orderOf(r Record) (order int64, anew bool) {
	if madeAnew(r.Key) {
		return r.CreateRevision, true
	}
	return r.ModRevision, false
}

func madeAnew(key string) bool {
	return strings.HasPrefix(key, view.AppliedPrefix) || strings.HasPrefix(key, view.RefusalPrefix) || strings.HasPrefix(key, view.MovePrefix)
}

// agentHeads covers the heads of all agents.
const agentHeads = view.HeadsPrefix + manifest.KindAgent + "/"

// claims gives what a record is compared by with others: two records of different old revisions that share a claim go into different
// transactions. alone: with nothing of another old revision at all.
func claims(r Record) (names []string, alone bool) {
	switch {
	case strings.HasPrefix(r.Key, agentHeads):
		return nil, false // agents' heads aren't compared with each other
	case strings.HasPrefix(r.Key, view.AppliedPrefix), strings.HasPrefix(r.Key, view.RefusalPrefix):
		return []string{r.Key[:strings.LastIndexByte(r.Key, '/')]}, false
	case strings.HasPrefix(r.Key, view.MovePrefix):
		m, err := view.Decode[view.MoveRecord](r.Value)
		if err != nil {
			return nil, true
		}
		for _, h := range m.Heads {
			if h.Kind != manifest.KindAgent {
				return nil, true // of a shared head: history compares it with the agents'
			}
			names = append(names, "move/"+h.Namespace+"/"+strings.ToLower(h.Name))
		}
		return names, false
	default:
		return nil, true // shared heads are compared with every agent's, settings aren't worth a thought
	}
}

// became maps old revisions to new ones. It is monotone.
type became struct{ steps []step }

type step struct{ old, now int64 } // from old on, until the next

func (b *became) add(old, now int64) { b.steps = append(b.steps, step{old: old, now: now}) }

// at gives what an old revision became: the new one of the newest record that was as old or older. 1, which is below every write, where
// there is none.
func (b *became) at(old int64) int64 {
	i := sort.Search(len(b.steps), func(i int) bool { return b.steps[i].old > old })
	if i == 0 {
		return 1
	}
	return b.steps[i-1].now
}

// The bounds of one transaction: etcd takes 1.5 MiB.
const (
	batchOps   = 200
	batchBytes = 512 << 10
)

// batch is a transaction that is being filled with whole old revisions.
type batch struct {
	puts   []store.KV
	bytes  int
	from   int64 // the least old revision in it; 0: it is empty
	last   int64 // the greatest
	closed bool  // nothing of another old revision fits in
	taken  map[string]struct{}
}

// group is the records of one old revision.
type group struct {
	order   int64
	records []Record
	bytes   int
	names   []string
	alone   bool
}

func (g *group) add(r Record) {
	names, alone := claims(r)
	g.records = append(g.records, r)
	g.bytes += len(r.Key) + len(r.Value)
	g.names = append(g.names, names...)
	g.alone = g.alone || alone
}

// fits says whether a group may share the batch's transaction.
func (b *batch) fits(g *group) bool {
	if b.from == 0 {
		return true
	}
	if b.closed || g.alone || len(b.puts)+len(g.records) > batchOps || b.bytes+g.bytes > batchBytes {
		return false
	}
	for _, n := range g.names {
		if _, ok := b.taken[n]; ok {
			return false
		}
	}
	return true
}

func (b *batch) add(g *group, puts []store.KV) {
	if b.from == 0 {
		b.from, b.taken = g.order, map[string]struct{}{}
	}
	b.last, b.closed = g.order, g.alone
	b.puts, b.bytes = append(b.puts, puts...), b.bytes+g.bytes
	for _, n := range g.names {
		b.taken[n] = struct{}{}
	}
}

// refusedAt gives the generation of the last refusal that an agent's head tells of; 0: of none.
func refusedAt(value []byte) int64 {
	var h struct {
		State struct {
			LastRefusal *struct {
				Generation int64 `json:"generation"`
			} `json:"lastRefusal"`
		} `json:"state"`
	}
	if json.Unmarshal(value, &h) != nil || h.State.LastRefusal == nil {
		return 0
	}
	return h.State.LastRefusal.Generation
}

// mapped gives an agent's head with its revisions mapped. Those of its reset stay as they are: they count in the epoch that stands
// beside them, and that is over. from is the least old revision of the transaction that it goes into. What this release doesn't
// know of a head stays in it.
func mapped(r Record, m *became, from int64) ([]byte, error) {
	head, err := object(r.Value)
	if err != nil {
		return nil, err
	}
	var h struct {
		ResetHere bool  `json:"resetHere"`
		MovedAt   int64 `json:"movedAt"`
	}
	if err := json.Unmarshal(r.Value, &h); err != nil {
		return nil, fmt.Errorf("agent head: %w", err)
	}
	if h.ResetHere {
		delete(head, "resetHere")
		head["resetGeneration"] = number(r.ModRevision)
	}
	switch {
	case h.MovedAt == 0:
	case h.MovedAt >= from: // moved in this very transaction
		delete(head, "movedAt")
	default:
		head["movedAt"] = number(m.at(h.MovedAt))
	}
	if generation := refusedAt(r.Value); generation != 0 {
		state, err := object(head["state"])
		if err != nil {
			return nil, err
		}
		refusal, err := object(state["lastRefusal"])
		if err != nil {
			return nil, err
		}
		refusal["generation"] = number(m.at(generation))
		if state["lastRefusal"], err = json.Marshal(refusal); err != nil {
			return nil, err
		}
		if head["state"], err = json.Marshal(state); err != nil {
			return nil, err
		}
	}
	return json.Marshal(head)
}

func object(raw []byte) (map[string]json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := d.Decode(&out); err != nil {
		return nil, fmt.Errorf("agent head: %w", err)
	}
	return out, nil
}

func number(n int64) json.RawMessage { return fmt.Appendf(nil, "%d", n) }
