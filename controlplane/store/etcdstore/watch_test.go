package etcdstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/etcdstore"
)

// A watch that began in the past took the notice of how far another watch was for its own, and passed over what it had not shown yet.
// The fault suite found it: many watches ask how far they are while one begins.
func TestWatchesThatBeginInThePastMissNothing(t *testing.T) {
	s := open(t, etcdstore.EmbeddedConfig{Dir: t.TempDir()})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for j := range 400 { // at different times, so that their questions are too
		<-time.After(time.Duration(j%5) * time.Millisecond)
		wg.Go(func() { _ = s.Watch(ctx, "other/", 0, func(store.Batch) error { return nil }) })
	}
	const changes = 20
	first := put(t, s, "w/0", "0")
	last := first
	for i := range changes {
		last = put(t, s, fmt.Sprintf("w/%d", i), "1")
	}
	enough := errors.New("enough")
	for i := range 30 {
		got := 0
		err := s.Watch(ctx, "w/", first, func(b store.Batch) error {
			got += len(b.Events)
			if b.Revision >= last {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			t.Fatal(err)
		}
		if got != changes {
			t.Fatalf("watch %d from revision %d showed %d changes up to revision %d, want %d", i, first, got, last, changes)
		}
	}
}
