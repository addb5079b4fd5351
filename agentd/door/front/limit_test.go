package front

import (
	"fmt"
	"testing"
	"time"
)

func TestBucketsAreBounded(t *testing.T) {
	t.Parallel()
	b, now := newBuckets(2), time.Unix(1_000_000, 0)
	take := func(name string) bool { return b.take(name, now, 1, 2) == 0 }
	for i, want := range []bool{true, true, false} { // a and b have places of their own
		if got := take("a"); got != want {
			t.Fatalf("a, request %d: %v", i, got)
		}
	}
	take("b")
	var let int
	for i := range 10 { // everybody else shares one
		if take(fmt.Sprint("other", i)) {
			let++
		}
	}
	if let != 2 || len(b.by) != 2 {
		t.Errorf("%d others let in, %d places", let, len(b.by))
	}
	now = now.Add(time.Minute) // both are full again, so they give way
	take("c")
	if _, ok := b.by["c"]; !ok || len(b.by) != 1 {
		t.Errorf("%v", b.by)
	}
}

// A clock that goes backwards gives nothing away and takes nothing away.
func TestBucketsAndTheClock(t *testing.T) {
	t.Parallel()
	b, now := newBuckets(2), time.Unix(1_000_000, 0)
	b.take("a", now, 1, 1)
	if wait := b.take("a", now.Add(-time.Hour), 1, 1); wait != time.Second {
		t.Errorf("wait %s", wait)
	}
	if wait := b.take("a", now.Add(time.Second), 1, 1); wait != 0 {
		t.Errorf("wait %s", wait)
	}
}
