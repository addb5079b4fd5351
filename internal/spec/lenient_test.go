package spec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/spec"
)

// What a newer control plane writes, read by this release.
func TestDecodeForPassesOverOnlyWhatRequiresCovers(t *testing.T) {
	t.Parallel()
	needs := func(capability, field string) []any {
		return []any{map[string]any{"capability": capability, "field": field}}
	}
	cases := map[string]struct {
		change func(doc map[string]any)
		can    []string
		want   string // the paths of the faults; "" is none
		check  func(a *spec.Agent) bool
	}{
		"nothing new": {change: func(map[string]any) {}},
		"a field, covered": {change: func(d map[string]any) {
			d["voice"], d["requires"] = "soft", needs("voice", "voice")
		}},
		"a field, not covered": {change: func(d map[string]any) { d["voice"] = "soft" }, want: "voice"},
		"a field, covered by a capability that is there": {change: func(d map[string]any) {
			d["voice"], d["requires"] = "soft", needs("voice", "voice")
		}, can: []string{"voice"}, want: "voice"},
		"a field inside": {change: func(d map[string]any) {
			model(d)["tier"], d["requires"] = map[string]any{"a": []any{true}}, needs("tier", "model.tier")
		}},
		"a field with a longer name": {change: func(d map[string]any) {
			d["voices"], d["requires"] = "soft", needs("voice", "voice")
		}, want: "voices"},
		"one of two": {change: func(d map[string]any) {
			d["voice"], d["tone"], d["requires"] = "soft", "low", needs("voice", "voice")
		}, want: "tone"},
		"a value of a known field": {change: func(d map[string]any) {
			d["memory"] = map[string]any{"storageType": "quantum"}
			d["requires"] = needs("memory.quantum", "memory.storageType")
		}, check: func(a *spec.Agent) bool { return a.Memory.StorageType == "in-process" && len(a.Requires) == 1 }},
		"requires itself": {change: func(d map[string]any) {
			d["requires"] = []any{map[string]any{"capability": "x", "field": "requires", "since": 1}}
		}, want: "requires[0].since"},
		"a list element stays": {change: func(d map[string]any) {
			d["skills"], d["requires"] = []any{7}, needs("x", "skills")
		}, want: "skills[0]"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw, err := spec.Canonical(minimal())
			if err != nil {
				t.Fatal(err)
			}
			doc := map[string]any{}
			d := json.NewDecoder(bytes.NewReader(raw))
			d.UseNumber()
			if err := d.Decode(&doc); err != nil {
				t.Fatal(err)
			}
			c.change(doc)
			raw, err = spec.Canonical(doc)
			if err != nil {
				t.Fatal(err)
			}
			a, err := spec.DecodeAgentFor(raw, c.can)
			if diff := cmp.Diff(c.want, paths(err)); diff != "" {
				t.Fatalf("%s\n%v", diff, err)
			}
			if c.check != nil && !c.check(a) {
				t.Errorf("%+v", a)
			}
		})
	}
}

func model(doc map[string]any) map[string]any {
	m, _ := doc["model"].(map[string]any)
	return m
}

func paths(err error) string {
	var faults spec.FaultsError
	if !errors.As(err, &faults) {
		if err != nil {
			return "?"
		}
		return ""
	}
	out := make([]string, 0, len(faults))
	for _, f := range faults {
		out = append(out, f.Path)
	}
	return strings.Join(out, " ")
}
