package gate

import (
	"strconv"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBuckets(Rate{PerSecond: 2, Burst: 3}, 2)
	for i := range 3 {
		if _, ok := b.take("a", now); !ok {
			t.Fatalf("%d isn't in the burst", i)
		}
	}
	if wait, ok := b.take("a", now); ok || wait != time.Second/2 {
		t.Errorf("empty: %v %v", wait, ok)
	}
	if _, ok := b.take("b", now); !ok {
		t.Error("another key has its own")
	}
	if _, ok := b.take("a", now.Add(time.Second/2)); !ok {
		t.Error("it fills again")
	}
	// A third key pushes out the one that was asked for longest ago.
	_, _ = b.take("c", now)
	if len(b.byKey) != 2 || b.byKey["b"] != nil || b.byKey["a"] == nil {
		t.Errorf("left: %v", b.byKey)
	}
	for i := range 1000 {
		_, _ = b.take(strconv.Itoa(i), now)
	}
	if len(b.byKey) != 2 || b.order.Len() != 2 {
		t.Errorf("%d keys, %d in order", len(b.byKey), b.order.Len())
	}
}

func TestSlots(t *testing.T) {
	s := newSlots(2)
	for i, want := range []bool{true, true, false} {
		if s.take("a") != want {
			t.Errorf("%d: not %v", i, want)
		}
	}
	if !s.take("b") {
		t.Error("another key has its own")
	}
	s.give("a")
	if !s.take("a") {
		t.Error("one was given back")
	}
	s.give("a")
	s.give("a")
	s.give("b")
	if len(s.open) != 0 {
		t.Errorf("left: %v", s.open)
	}
}
