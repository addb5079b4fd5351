package tooldigest

import (
	"encoding/json"
	"testing"
)

func one(t *testing.T, server, tool string) string {
	t.Helper()
	defs, err := Page(server, json.RawMessage(`{"tools": [`+tool+`]}`))
	if err != nil || len(defs) != 1 {
		t.Fatalf("%v, %v", defs, err)
	}
	d, err := defs[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDigest(t *testing.T) {
	const base = `{"name": "a", "description": "d", "inputSchema": {"type": "object", "x": [1, 2]}}`
	cases := map[string]struct {
		server, tool string
		same         bool
	}{
		"another order and spacing": {"s", `{"inputSchema":{"x":[1,2],"type":"object"},"description":"d","name":"a"}`, true},
		"what doesn't count":        {"s", `{"name": "a", "description": "d", "inputSchema": {"type": "object", "x": [1, 2]}, "_meta": {"v": 7}}`, true},
		"another server":            {"t", base, false},
		"another name":              {"s", `{"name": "b", "description": "d", "inputSchema": {"type": "object", "x": [1, 2]}}`, false},
		"another description":       {"s", `{"name": "a", "description": "e", "inputSchema": {"type": "object", "x": [1, 2]}}`, false},
		"another schema":            {"s", `{"name": "a", "description": "d", "inputSchema": {"type": "object", "x": [2, 1]}}`, false},
		"a title":                   {"s", `{"name": "a", "title": "A", "description": "d", "inputSchema": {"type": "object", "x": [1, 2]}}`, false},
		"annotations":               {"s", `{"name": "a", "description": "d", "annotations": {}, "inputSchema": {"type": "object", "x": [1, 2]}}`, false},
	}
	want := one(t, "s", base)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := one(t, c.server, c.tool); (got == want) != c.same {
				t.Errorf("digest %s, base %s", got, want)
			}
		})
	}
}

// The digest is stored in heads: it must never change for the same definition.
func TestDigestIsStable(t *testing.T) {
	const want = "7e0bf330f72e1634b451ed4c5c5a1540fe385c3bc4c986d0a3bd10bc94fdfa13"
	got := one(t, "s", `{"name": "a", "inputSchema": {"type": "object"}}`)
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPageFaults(t *testing.T) {
	for name, raw := range map[string]string{"no JSON": `{`, "no name": `{"tools": [{"description": "x"}]}`} {
		if _, err := Page("s", json.RawMessage(raw)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
