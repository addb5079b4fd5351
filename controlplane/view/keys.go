package view

import (
	"iter"
	"maps"
	"strings"

	"github.com/agentry/agentry/internal/manifest"
)

// modOf gives the ModRevision at which a key is held; 0 if it isn't.
func (v *View) modOf(key string) int64 {
	switch {
	case strings.HasPrefix(key, headPrefix):
		id, _ := parseHead(key)
		return v.headMod(id)
	case strings.HasPrefix(key, appliedPrefix):
		id, h, _ := parseConfig(key, appliedPrefix)
		if a := v.applied[id].config(h); a != nil {
			return a.mod
		}
		return 0
	case strings.HasPrefix(key, movePrefix):
		if m := v.moves.byKey[key]; m != nil {
			return m.mod
		}
		return 0
	default:
		return v.mods[key]
	}
}

func (v *View) headMod(id headID) int64 {
	switch id.kind {
	case manifest.KindAgent:
		if n := v.agents[id]; n != nil {
			return n.mod
		}
	case manifest.KindPrompt:
		if n := v.prompts[id]; n != nil {
			return n.mod
		}
	case manifest.KindMCP:
		if n := v.mcp[id]; n != nil {
			return n.mod
		}
	case manifest.KindCredential:
		if n := v.credentials[id]; n != nil {
			return n.mod
		}
	}
	return 0
}

// keys gives every key that is held.
func (v *View) keys() iter.Seq[string] {
	return func(yield func(string) bool) {
		_ = v.headKeys(yield) && v.blobKeys(yield) && v.appliedKeys(yield) && each(maps.Keys(v.moves.byKey), yield) && each(maps.Keys(v.mods), yield)
	}
}

func (v *View) headKeys(yield func(string) bool) bool {
	for kind, ids := range v.order {
		for _, id := range ids {
			if !yield(HeadKey(kind, id.namespace, id.name)) {
				return false
			}
		}
	}
	return true
}

func (v *View) blobKeys(yield func(string) bool) bool {
	for h := range v.blobs.known {
		if !yield(BlobKey(h)) {
			return false
		}
	}
	return true
}

func (v *View) appliedKeys(yield func(string) bool) bool {
	for id, set := range v.applied {
		for _, a := range set.configs {
			if !yield(AppliedKey(id.namespace, id.name, a.hash)) {
				return false
			}
		}
	}
	return true
}

func each(keys iter.Seq[string], yield func(string) bool) bool {
	for key := range keys {
		if !yield(key) {
			return false
		}
	}
	return true
}
