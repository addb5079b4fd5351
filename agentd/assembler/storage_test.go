package assembler

import (
	"testing"

	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/spec"
)

// What semantics.md 6 says of memory: new or changed settings refuse while it is away, a proven line and unchanged settings don't.
func TestStorageAway(t *testing.T) {
	redis := func(d *draft) {
		d.agent.Memory = spec.Memory{StorageType: "redis", Address: "h:1", CompressionStrategy: "none", SearchStrategy: "recency"}
	}
	cases := map[string]struct {
		code   phase.Code
		change func(*draft)
		want   phase.Phase
	}{
		"away and new":               {phase.Unreachable, redis, phase.Received},
		"wrong password and new":     {phase.Unauthorized, redis, phase.Rejected},
		"away and proven":            {phase.Unreachable, func(d *draft) { redis(d); d.proven = []string{"agent/helper"} }, phase.Degraded},
		"away at a start":            {phase.Unreachable, func(d *draft) { redis(d); d.lastGood = true }, phase.Degraded},
		"away under another prompt":  {phase.Unreachable, func(d *draft) { d.agent.Description = "changed" }, phase.Degraded},
		"it answers, and is another": {"", redis, phase.Applied},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w, a := newWorld(t)
			if v := a.Apply(t.Context(), newDraft().update(t)); v.Phase != phase.Applied {
				t.Fatalf("the first config: %+v", v)
			}
			w.mu.Lock()
			w.storage = c.code
			w.mu.Unlock()
			d := newDraft()
			d.revision = 2
			c.change(&d)
			v := a.Apply(t.Context(), d.update(t))
			if v.Phase != c.want {
				t.Fatalf("phase %s, want %s: %+v", v.Phase, c.want, v.Faults)
			}
			if c.code != "" && (len(v.Faults) != 1 || v.Faults[0].Resource != "agent/helper" || v.Faults[0].Field != "memory.address" || v.Faults[0].Code != c.code) {
				t.Errorf("faults %+v", v.Faults)
			}
		})
	}
}
