package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Change is one changed path of a document. Before and After are compact JSON; "" means absent.
type Change struct {
	Path   string `json:"path"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// Diff lists the changes between two JSON documents in path order; an empty document has no fields. Objects are compared field by
// field, lists element by element.
func Diff(before, after []byte) ([]Change, error) {
	a, err := side(before)
	if err != nil {
		return nil, fmt.Errorf("diff: before: %w", err)
	}
	b, err := side(after)
	if err != nil {
		return nil, fmt.Errorf("diff: after: %w", err)
	}
	var changes []Change
	compare(&changes, "", present{a, true}, present{b, true})
	return changes, nil
}

func side(b []byte) (map[string]any, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return map[string]any{}, nil
	}
	return generic(b)
}

type present struct {
	v  any
	is bool
}

func compare(out *[]Change, path string, a, b present) {
	if a.is && b.is && reflect.DeepEqual(a.v, b.v) {
		return
	}
	am, aok := a.v.(map[string]any)
	bm, bok := b.v.(map[string]any)
	if aok && bok {
		keys := slices.Sorted(maps.Keys(am))
		keys = append(keys, slices.Collect(maps.Keys(bm))...)
		slices.Sort(keys)
		for _, k := range slices.Compact(keys) {
			x, xok := am[k]
			y, yok := bm[k]
			compare(out, Child(path, k), present{x, xok}, present{y, yok})
		}
		return
	}
	al, aok := a.v.([]any)
	bl, bok := b.v.([]any)
	if aok && bok {
		for i := range max(len(al), len(bl)) {
			var x, y present
			if i < len(al) {
				x = present{al[i], true}
			}
			if i < len(bl) {
				y = present{bl[i], true}
			}
			compare(out, Index(path, i), x, y)
		}
		return
	}
	*out = append(*out, Change{Path: path, Before: a.text(), After: b.text()})
}

func (p present) text() string {
	if !p.is {
		return ""
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(p.v); err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b.Bytes()))
}
