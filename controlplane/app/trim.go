package app

import (
	"context"
	"runtime/debug"
	gauges "runtime/metrics"
	"time"
)

// Bounds of giving memory back.
const (
	trimStep = 250 * time.Millisecond
	// calmBytes is how much a calm process allocates in a step at most: beats of thousands of instances are calm.
	calmBytes = 1 << 20
	// calmSteps in a row end a burst: not the pause between two changes of a series, which would only fetch the memory again.
	calmSteps = 4
	// trimWorth is how much must have been allocated since the last time.
	trimWorth = 64 << 20
)

// trim says when to give memory back. A change that reaches thousands of instances leaves as much garbage as there is in use, and
// the runtime keeps the room for the next one; but between two such changes the process is calm for minutes, allocates too
// little for a collection, and half of its memory would lie idle. It is pure.
type trim struct {
	allocated uint64 // since the start of the process, at the last step
	trimmed   uint64 // the same, when memory was last given back
	calm      int    // steps in a row
}

// step takes how much was allocated since the start of the process and says whether it is time.
func (t *trim) step(allocated uint64) bool {
	grown := allocated - t.allocated
	t.allocated = allocated
	if grown > calmBytes {
		t.calm = 0
		return false
	}
	t.calm++
	if t.calm < calmSteps || allocated-t.trimmed < trimWorth {
		return false
	}
	t.trimmed = allocated
	return true
}

// giveBack gives memory back to the system after each burst, until ctx ends.
func giveBack(ctx context.Context) error {
	var t trim
	sample := []gauges.Sample{{Name: "/gc/heap/allocs:bytes"}}
	ticker := time.NewTicker(trimStep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		gauges.Read(sample)
		if sample[0].Value.Kind() == gauges.KindUint64 && t.step(sample[0].Value.Uint64()) {
			debug.FreeOSMemory()
		}
	}
}
