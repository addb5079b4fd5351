package spec_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/spec"
)

// FuzzCanonical: canonical bytes are stable and mean what was given, whatever that is.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{
		"{}", "null", `{"b":1,"a":[true,false,null]}`, `{"n":1e400}`, `{"n":9007199254740993}`, `{"n":-0}`, `{"n":1.0e2}`, `{"n":0.1e-7}`, `{"s":"\u2028 \ud83d\ude00 \u0000 \""}`,
		`{"\u00e9":1,"e\u0301":2}`, `{"a":1,"a":2}`, `[[[[[[]]]]]]`, `{"s":"\ud800"}`, `"<&>"`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 64<<10 {
			return
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		var given any
		if d.Decode(&given) != nil {
			return
		}
		one, err := spec.Canonical(given)
		if err != nil {
			return
		}
		var before, after any
		raw, err := json.Marshal(given)
		if err != nil {
			t.Fatal(err)
		}
		if json.Unmarshal(raw, &before) != nil {
			return // a number that no float holds
		}
		if err := json.Unmarshal(one, &after); err != nil {
			t.Fatalf("the canonical form is no JSON: %v\n%s", err, one)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("the canonical form means something else:\n%s", diff)
		}
		two, err := spec.Canonical(json.RawMessage(one))
		if err != nil || !bytes.Equal(one, two) {
			t.Errorf("not stable: %v\n%s\n%s", err, one, two)
		}
	})
}

// FuzzDecodeFor: an agentd takes no more than the strict reader but for what requirements cover, and what it takes it can take again.
func FuzzDecodeFor(f *testing.F) {
	good, err := spec.Canonical(minimal())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"agentName":"a","model":{"model":"m","x":1},"promptKey":"p","requires":[{"capability":"c","field":"model.x"}]}`))
	f.Add([]byte(`{"name":"m","endpoints":[{"url":"http://127.0.0.1:1/","x":1}],"requires":[{"capability":"c","field":"endpoints[0]"}]}`))
	f.Add([]byte(`{"requires":[{"capability":"c","field":"requires"}],"skills":[null]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 64<<10 {
			return
		}
		_, strict := spec.DecodeAgent(b)
		a, err := spec.DecodeAgentFor(b, spec.ThisRelease())
		if strict == nil && err != nil {
			t.Fatalf("the strict reader takes it: %v", err)
		}
		if err == nil {
			needs := a.Requires
			a.FillDefaults() // as the control plane does before it stores
			a.Requires = needs
			again, err := spec.Canonical(a)
			if err != nil {
				return // a number that is not exact
			}
			if _, err := spec.DecodeAgent(again); err != nil {
				t.Errorf("what was taken is not whole: %v\n%s", err, again)
			}
		}
		_, _ = spec.DecodeMCPServerFor(b, nil)
	})
}
