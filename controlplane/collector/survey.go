package collector

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
)

// survey is the store at one revision, as far as it matters here.
type survey struct {
	blobs    []blob
	used     map[string]bool      // every hash that a record names, in hex
	heads    map[string]agentHead // by namespace/name of the key
	applied  map[string][]record  // by the same
	refusals map[string][]record
	moves    []move
}

type blob struct {
	key, hash string
	mod       int64
}

// agentHead is what counts of an agent's head: its own bytes name what is pinned or still judged.
type agentHead struct {
	key   string
	mod   int64
	text  string
	inUse map[int64]bool // stable, proven, candidate, held
}

// record is an applied config or a refusal.
type record struct {
	key, hash string
	mod       int64
	revision  int64
	config    string
	create    int64 // store revision: what is newer than what isn't left to the clocks of those who wrote them
}

type move struct {
	key    string
	mod    int64
	create int64
	heads  []string
}

// survey lists everything at one store revision. What can't be decoded is never removed.
func (c *Collector) survey(ctx context.Context, in store.Store) (*survey, error) {
	s := &survey{used: map[string]bool{}, heads: map[string]agentHead{}, applied: map[string][]record{}, refusals: map[string][]record{}}
	revision, err := list(ctx, in, view.BlobPrefix, store.ListOptions{KeysOnly: true}, s.blob)
	if err == nil {
		_, err = list(ctx, in, view.Root, store.ListOptions{Revision: revision}, s.record)
	}
	return s, err
}

// list pages through a prefix and gives the store revision of the listing. It passes over blobs unless they are all that is asked for.
func list(ctx context.Context, in store.Store, prefix string, o store.ListOptions, take func(store.KV)) (int64, error) {
	const afterBlobs = view.BlobPrefix + "\xff" // a blob's key goes on in hex
	o.Limit = pageSize
	for {
		bounded, cancel := context.WithTimeout(ctx, storeWait)
		page, err := in.List(bounded, prefix, o)
		cancel()
		if err != nil {
			return 0, err
		}
		if o.Revision == 0 {
			o.Revision = page.Revision
		}
		for _, kv := range page.KVs {
			take(kv)
		}
		if page.Next == "" {
			return o.Revision, nil
		}
		o.From = page.Next
		if !o.KeysOnly && strings.HasPrefix(o.From, view.BlobPrefix) {
			o.From = afterBlobs
		}
	}
}

// record takes anything but a blob. What it is, now or in a later release, keeps the bytes that it names.
func (s *survey) record(kv store.KV) {
	switch {
	case strings.HasPrefix(kv.Key, view.BlobPrefix):
		return
	case strings.HasPrefix(kv.Key, view.HeadPrefix(manifest.KindAgent, "")):
		s.head(kv)
	case strings.HasPrefix(kv.Key, view.AppliedPrefix):
		s.appliedConfig(kv)
	case strings.HasPrefix(kv.Key, view.RefusalPrefix):
		s.refusal(kv)
	case strings.HasPrefix(kv.Key, view.MovePrefix):
		s.move(kv)
	}
	s.names(kv.Value)
}

func (s *survey) blob(kv store.KV) {
	s.blobs = append(s.blobs, blob{key: kv.Key, hash: strings.TrimPrefix(kv.Key, view.BlobPrefix), mod: kv.ModRevision})
}

// names notes every hash that bytes hold: 64 hex digits in a row.
func (s *survey) names(value []byte) {
	const size = 2 * len(manifest.Hash{})
	run := 0
	for i, b := range value {
		if (b < '0' || b > '9') && (b < 'a' || b > 'f') {
			run = 0
			continue
		}
		if run++; run >= size {
			s.used[string(value[i+1-size:i+1])] = true
		}
	}
}

func (s *survey) head(kv store.KV) {
	owner := strings.TrimPrefix(kv.Key, view.HeadPrefix(manifest.KindAgent, ""))
	h := agentHead{key: kv.Key, mod: kv.ModRevision, text: string(kv.Value), inUse: map[int64]bool{}}
	if head, err := view.DecodeAgent(kv); err == nil {
		for _, n := range []int64{head.State.Stable, head.State.Proven, head.State.Desired()} {
			h.inUse[n] = true
		}
	}
	s.heads[owner] = h
}

// split gives namespace/name and the hash of a key such as .../namespace/name/hash.
func split(key, prefix string) (owner, hash string) {
	rest := strings.TrimPrefix(key, prefix)
	i := strings.LastIndexByte(rest, '/')
	return rest[:max(i, 0)], rest[i+1:]
}

func (s *survey) appliedConfig(kv store.KV) {
	owner, hash := split(kv.Key, view.AppliedPrefix)
	r, err := view.Decode[view.Applied](kv.Value)
	if err != nil {
		return
	}
	s.applied[owner] = append(s.applied[owner], record{key: kv.Key, hash: hash, mod: kv.ModRevision, revision: r.Revision, config: r.Config, create: kv.CreateRevision})
}

func (s *survey) refusal(kv store.KV) {
	owner, hash := split(kv.Key, view.RefusalPrefix)
	r, err := view.Decode[view.RefusalRecord](kv.Value)
	if err != nil {
		return
	}
	s.refusals[owner] = append(s.refusals[owner], record{key: kv.Key, hash: hash, mod: kv.ModRevision, revision: r.Revision, create: kv.CreateRevision})
}

func (s *survey) move(kv store.KV) {
	r, err := view.Decode[view.MoveRecord](kv.Value)
	if err != nil || len(r.Heads) == 0 {
		return
	}
	m := move{key: kv.Key, mod: kv.ModRevision, create: kv.CreateRevision}
	for _, h := range r.Heads {
		m.heads = append(m.heads, h.Kind+"/"+h.Namespace+"/"+strings.ToLower(h.Name))
	}
	s.moves = append(s.moves, m)
}

// oldApplied gives the applied configs beyond the newest keep of each agent, but for those that somebody runs, that its
// head names (a pin), and the newest of each revision in play.
func (s *survey) oldApplied(running map[manifest.Hash]bool, keep int) []deletion {
	runs := map[string]bool{}
	for h := range running {
		runs[h.String()] = true
	}
	var out []deletion
	for owner, list := range s.applied {
		newestFirst(list)
		h := s.heads[owner]
		inPlay := map[int64]bool{}
		for i, r := range list {
			last := h.inUse[r.revision] && !inPlay[r.revision]
			inPlay[r.revision] = true
			if i < keep || runs[r.hash] || last || h.key == "" || strings.Contains(h.text, r.hash) || strings.Contains(h.text, strconv.Quote(r.config)) {
				continue
			}
			out = append(out, deletion{key: r.key, conds: []store.Cond{{Key: r.key, ModRevision: r.mod}, {Key: h.key, ModRevision: h.mod}}})
		}
	}
	return out
}

// oldRefusals gives the refusals beyond the newest keep of each agent that its head doesn't name.
func (s *survey) oldRefusals(keep int) []deletion {
	var out []deletion
	for owner, list := range s.refusals {
		newestFirst(list)
		h := s.heads[owner]
		for i, r := range list {
			if i >= keep && h.key != "" && !strings.Contains(h.text, r.hash) {
				out = append(out, deletion{key: r.key, conds: []store.Cond{{Key: r.key, ModRevision: r.mod}, {Key: h.key, ModRevision: h.mod}}})
			}
		}
	}
	return out
}

// oldMoves gives the records that are beyond the newest KeepMoves of every head that they moved.
func (s *survey) oldMoves() []deletion {
	count := map[string]int{}
	var out []deletion
	slices.SortFunc(s.moves, func(a, b move) int { return cmp.Or(cmp.Compare(b.create, a.create), strings.Compare(b.key, a.key)) })
	for _, m := range s.moves {
		old := true
		for _, h := range m.heads {
			count[h]++
			old = old && count[h] > KeepMoves
		}
		if old {
			out = append(out, deletion{key: m.key, conds: []store.Cond{{Key: m.key, ModRevision: m.mod}}})
		}
	}
	return out
}

func newestFirst(list []record) {
	slices.SortFunc(list, func(a, b record) int { return cmp.Or(cmp.Compare(b.create, a.create), strings.Compare(b.key, a.key)) })
}
