package view

import (
	"bytes"
	"slices"
	"time"
	"unique"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/manifest"
)

// appliedSet is what instances of one agent APPLIED. It is replaced, never changed, once handed out. There is one for each of
// thousands of agents, with up to a hundred configs: hence slices, which take a third of what maps take.
type appliedSet struct {
	configs []*appliedConfig               // by hash
	lines   []unique.Handle[manifest.Line] // of all configs, each once, those of new configs last
}

// appliedConfig is one config. Most of its lines are in other agents' and other revisions' configs too, so each line is in
// memory once.
type appliedConfig struct {
	hash     manifest.Hash
	revision int64
	name     *string // nil: manifest.ConfigName, as it is but for records of other origin
	instance string
	time     time.Time
	lines    []unique.Handle[manifest.Line]
	seq, mod int64
}

func decodeApplied(kv store.KV, h manifest.Hash) (*appliedConfig, error) {
	r, err := Decode[Applied](kv.Value)
	if err != nil {
		return nil, err
	}
	a := &appliedConfig{
		hash: h, revision: r.Revision, instance: r.Instance, time: r.Time,
		seq: kv.CreateRevision, mod: kv.ModRevision, lines: make([]unique.Handle[manifest.Line], len(r.Lines)),
	}
	if r.Config != manifest.ConfigName(r.Revision, h) {
		a.name = &r.Config
	}
	for i, l := range r.Lines {
		a.lines[i] = unique.Make(l)
	}
	return a, nil
}

// whole gives a config as it was stored.
func (a *appliedConfig) whole() AppliedConfig {
	out := AppliedConfig{Applied: Applied{Revision: a.revision, Instance: a.instance, Time: a.time}, Hash: a.hash, Seq: a.seq}
	if a.name != nil {
		out.Config = *a.name
	} else {
		out.Config = manifest.ConfigName(a.revision, a.hash)
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
	configs := slices.Clone(s.configs)
	slices.SortFunc(configs, func(a, b *appliedConfig) int { return newestFirst(a.seq, b.seq, a.hash, b.hash) })
	configs = configs[:min(n, len(configs))]
	out := make([]AppliedConfig, len(configs))
	for i, a := range configs {
		out[i] = a.whole()
	}
	return out
}

// config gives one; nil if there is none. A set that is nil has none.
func (s *appliedSet) config(h manifest.Hash) *appliedConfig {
	if s == nil {
		return nil
	}
	if at, ok := s.find(h); ok {
		return s.configs[at]
	}
	return nil
}

func (s *appliedSet) find(h manifest.Hash) (at int, ok bool) {
	return slices.BinarySearchFunc(s.configs, h, func(a *appliedConfig, h manifest.Hash) int { return bytes.Compare(a.hash[:], h[:]) })
}

// has reports whether a config has a line. What is asked for is mostly in the newest.
func (s *appliedSet) has(line manifest.Line) bool {
	return s != nil && s.holds(unique.Make(line))
}

func (s *appliedSet) holds(line unique.Handle[manifest.Line]) bool {
	for _, l := range slices.Backward(s.lines) {
		if l == line {
			return true
		}
	}
	return false
}

// learn adds the lines of a config, and reports whether one is new.
func (s *appliedSet) learn(a *appliedConfig) (grown bool) {
	for _, l := range a.lines {
		if !s.holds(l) {
			s.lines, grown = append(s.lines, l), true
		}
	}
	return grown
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
	if len(set.configs) > 0 && set.configs[0].instance == a.instance {
		a.instance = set.configs[0].instance // the same text, in memory once
	}
	if at, known := set.find(a.hash); known {
		set.configs[at] = a
	} else {
		set.configs = slices.Insert(set.configs, at, a)
		c.appliedCount++
	}
	if set.learn(a) { // what counts as proven changed
		c.proven[it.id] = struct{}{}
	}
}

// ownApplied gives an agent's set for changing: a copy, once in a batch, because the former was handed out.
func (c change) ownApplied(id headID) *appliedSet {
	if set := c.fresh[id]; set != nil {
		return set
	}
	set := &appliedSet{}
	if old := c.applied[id]; old != nil {
		set.configs = withRoom(old.configs)
		set.lines = withRoom(old.lines)
	}
	c.fresh[id], c.applied[id] = set, set
	return set
}

// withRoom copies a slice that mostly gets one more: append would double it.
func withRoom[E any](s []E) []E { return append(make([]E, 0, len(s)+1), s...) }

func (c change) dropApplied(id headID, h manifest.Hash) {
	if c.applied[id].config(h) == nil {
		return
	}
	set := c.ownApplied(id)
	at, _ := set.find(h)
	set.configs = slices.Delete(set.configs, at, at+1)
	c.appliedCount--
	before := len(set.lines)
	set.lines = set.lines[:0]
	for _, config := range set.configs {
		set.learn(config)
	}
	if len(set.lines) != before {
		c.proven[id] = struct{}{}
	}
	if len(set.configs) == 0 {
		delete(c.applied, id)
		delete(c.fresh, id)
	}
}
