package view

import (
	"maps"
	"slices"
	"time"
	"unique"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/manifest"
)

// appliedSet is what instances of one agent APPLIED. It is replaced, never changed, once handed out.
type appliedSet struct {
	configs map[manifest.Hash]*appliedConfig
	lines   map[unique.Handle[manifest.Line]]struct{}
}

// appliedConfig is one config. Most of its lines are in other agents' and other revisions' configs too, so each line is in
// memory once.
type appliedConfig struct {
	revision         int64
	config, instance string
	time             time.Time
	lines            []unique.Handle[manifest.Line]
	seq, mod         int64
}

func decodeApplied(kv store.KV) (*appliedConfig, error) {
	r, err := Decode[Applied](kv.Value)
	if err != nil {
		return nil, err
	}
	a := &appliedConfig{
		revision: r.Revision, config: r.Config, instance: r.Instance, time: r.Time,
		seq: kv.CreateRevision, mod: kv.ModRevision, lines: make([]unique.Handle[manifest.Line], len(r.Lines)),
	}
	for i, l := range r.Lines {
		a.lines[i] = unique.Make(l)
	}
	return a, nil
}

// whole gives a config as it was stored.
func (a *appliedConfig) whole(h manifest.Hash) AppliedConfig {
	out := AppliedConfig{
		Applied: Applied{Revision: a.revision, Config: a.config, Instance: a.instance, Time: a.time}, Hash: h, Seq: a.seq,
	}
	if len(a.lines) > 0 {
		out.Lines = make([]manifest.Line, len(a.lines))
	}
	for i, l := range a.lines {
		out.Lines[i] = l.Value()
	}
	return out
}

// newest gives up to n configs, newest first.
func (s *appliedSet) newest(n int) []AppliedConfig {
	hashes := slices.SortedFunc(maps.Keys(s.configs), func(a, b manifest.Hash) int {
		return newestFirst(s.configs[a].seq, s.configs[b].seq, a, b)
	})
	hashes = hashes[:min(n, len(hashes))]
	out := make([]AppliedConfig, len(hashes))
	for i, h := range hashes {
		out[i] = s.configs[h].whole(h)
	}
	return out
}

func (c change) appliedItem(it item) {
	if it.Deleted {
		c.dropApplied(it.id, it.hash)
		return
	}
	a, ok := it.rec.(*appliedConfig)
	if !ok {
		return
	}
	set := c.ownApplied(it.id)
	before := len(set.configs)
	set.configs[it.hash] = a
	c.appliedCount += len(set.configs) - before
	for _, l := range a.lines {
		if _, known := set.lines[l]; !known { // what counts as proven changed
			set.lines[l] = struct{}{}
			c.proven[it.id] = struct{}{}
		}
	}
}

// ownApplied gives an agent's set for changing: a copy, once in a batch, because the former was handed out.
func (c change) ownApplied(id headID) *appliedSet {
	if set := c.fresh[id]; set != nil {
		return set
	}
	set := &appliedSet{configs: map[manifest.Hash]*appliedConfig{}, lines: map[unique.Handle[manifest.Line]]struct{}{}}
	if old := c.applied[id]; old != nil {
		maps.Copy(set.configs, old.configs)
		maps.Copy(set.lines, old.lines)
	}
	c.fresh[id], c.applied[id] = set, set
	return set
}

func (c change) dropApplied(id headID, h manifest.Hash) {
	if old := c.applied[id]; old == nil || old.configs[h] == nil {
		return
	}
	set := c.ownApplied(id)
	delete(set.configs, h)
	c.appliedCount--
	before := len(set.lines)
	clear(set.lines)
	for _, config := range set.configs {
		for _, l := range config.lines {
			set.lines[l] = struct{}{}
		}
	}
	if len(set.lines) != before {
		c.proven[id] = struct{}{}
	}
	if len(set.configs) == 0 {
		delete(c.applied, id)
		delete(c.fresh, id)
	}
}
