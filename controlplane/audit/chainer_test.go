package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/internal/auditchain"
)

func TestEntriesAreChainedInTheStoresOrder(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	clock := time.Unix(2_000_000_000, 0)
	for i := range 5 { // a replica whose clock goes back: keys and revisions are in opposite orders
		o := Origin{Replica: "r", Now: func() time.Time { return clock.Add(-time.Duration(i) * time.Hour) }}
		if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{o.pending(Entry{Type: Changed, Message: fmt.Sprint(i), Outcome: OK})}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: pendingPrefix + "5", Value: []byte("{broken")}}}); err != nil {
		t.Fatal(err)
	}
	c := newChainer(t, s, nil)
	if err := c.Fold(t.Context()); err != nil {
		t.Fatal(err)
	}
	head, entries := chainIn(t, s)
	want := []string{"0", "1", "2", "3", "4", "a pending entry of 7 bytes could not be read"}
	if diff := cmp.Diff(want, messages(entries)); diff != "" || head.Seq != 6 || len(pendingIn(t, s)) != 0 {
		t.Errorf("head %+v\n%s", head, diff)
	}
	for _, e := range entries {
		var record map[string]any
		if err := json.Unmarshal(e.Record, &record); err != nil || record["seq"] != float64(e.Seq) {
			t.Errorf("record %s, %v", e.Record, err)
		}
	}
	newest, _ := s.Commit(t.Context(), store.Txn{})
	if err := c.Fold(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, _ := s.Commit(t.Context(), store.Txn{}); after != newest {
		t.Error("nothing pending, and yet something was written")
	}
}

func TestReplicasChainEachEntryOnce(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	const writers, each = 4, 100
	var wg sync.WaitGroup
	done := make(chan struct{})
	var chainers sync.WaitGroup
	for range 3 {
		c := newChainer(t, s, nil)
		chainers.Go(func() {
			for {
				if err := c.Fold(t.Context()); err != nil {
					t.Error(err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				put(t, s, fmt.Sprintf("%d-%03d", w, i))
			}
		})
	}
	wg.Wait()
	close(done)
	chainers.Wait()
	if err := newChainer(t, s, nil).Fold(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, entries := chainIn(t, s)
	got := messages(entries)
	slices.Sort(got)
	if len(slices.Compact(slices.Clone(got))) != writers*each || len(got) != writers*each {
		t.Errorf("%d entries, want %d", len(got), writers*each)
	}
}

func TestTheWindowGoesOnFromItsAnchor(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		set         func(*ChainerConfig)
		least, most int
	}{
		"by number": {set: func(c *ChainerConfig) { c.Window = 50 }, least: 50, most: 50 + trimSlack},
		"by bytes":  {set: func(c *ChainerConfig) { c.WindowBytes = 40_000 }, least: 100, most: 400},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := memstore.New()
			chainer := newChainer(t, s, c.set)
			n := 0
			for range 20 {
				for range 40 {
					put(t, s, fmt.Sprint(n))
					n++
				}
				if err := chainer.Fold(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			head, entries := chainIn(t, s)
			size := int64(0)
			for _, e := range entries {
				size += int64(len(e.Record))
			}
			if len(entries) < c.least || len(entries) > c.most || head.Seq != int64(n) || head.AnchorSeq != int64(n-len(entries)) || head.Bytes != size {
				t.Errorf("%d entries of %d bytes, head %+v", len(entries), size, head)
			}
			if last := entries[len(entries)-1].Entry.Message; last != fmt.Sprint(n-1) {
				t.Errorf("the last is %s", last)
			}
		})
	}
}

// An entry waits while others come, so that a change on its way to many instances isn't accompanied by the log's own writes.
func TestTheChainerWaitsForQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		c := newChainer(t, s, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		chained := func() int64 {
			synctest.Wait()
			head, _, err := ReadHead(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			return head.Seq
		}
		put(t, s, "one")
		pass(1900 * time.Millisecond)
		if n := chained(); n != 0 {
			t.Errorf("%d chained before it was quiet", n)
		}
		pass(400 * time.Millisecond)
		if n := chained(); n != 1 {
			t.Errorf("%d chained after it was quiet", n)
		}
		for range 25 {
			put(t, s, "more")
			pass(time.Second)
		}
		if n := chained(); n != 1 {
			t.Errorf("%d chained while more came", n)
		}
		for range 10 {
			put(t, s, "more")
			pass(time.Second)
		}
		if n := chained(); n < 25 {
			t.Errorf("%d chained although they never rest", n)
		}
		leave := c.Attend()
		put(t, s, "seen")
		pass(500 * time.Millisecond)
		if n := chained(); n != 37 {
			t.Errorf("%d chained for who follows", n)
		}
		leave()
		put(t, s, "unseen")
		pass(time.Second)
		if n := chained(); n != 37 {
			t.Errorf("%d chained after they left", n)
		}
		if err := c.Fold(t.Context()); err != nil || chained() != 38 { // who reads doesn't wait
			t.Errorf("%d chained, %v", chained(), err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// While instances are still answering a change nothing is chained, but not without end.
func TestTheChainerWaitsForInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		var busy atomic.Bool
		c := newChainer(t, s, func(cfg *ChainerConfig) { cfg.Busy = busy.Load })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		for _, step := range []struct {
			busy bool
			wait time.Duration
			want int64
		}{{true, 20 * time.Second, 0}, {true, 12 * time.Second, 1}, {false, 3 * time.Second, 2}} {
			busy.Store(step.busy)
			if step.want != 1 {
				put(t, s, "one")
			}
			pass(step.wait)
			synctest.Wait()
			if head, _, err := ReadHead(t.Context(), s); err != nil || head.Seq != step.want {
				t.Errorf("%d chained, want %d, %v", head.Seq, step.want, err)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestTheChainerSurvivesItsStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		put(t, s, "before the start")
		c := newChainer(t, s, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		pass(3 * time.Second)
		s.BreakWatches(context.DeadlineExceeded)
		pass(3 * time.Second)
		put(t, s, "after a break")
		for range 3 {
			s.FailNext(context.DeadlineExceeded)
		}
		pass(time.Minute)
		synctest.Wait()
		if _, entries := chainIn(t, s); len(entries) != 2 {
			t.Errorf("chained %v", messages(entries))
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Somebody who writes into the store by hand is found out.
func TestAChangedByteIsFound(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	put(t, s, "one", "two", "three")
	if err := newChainer(t, s, nil).Fold(t.Context()); err != nil {
		t.Fatal(err)
	}
	kv, err := s.Get(t.Context(), chainKey(2))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: kv.Key, Value: []byte(strings.Replace(string(kv.Value), "two", "tvo", 1))}}}); err != nil {
		t.Fatal(err)
	}
	head, _, err := ReadHead(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	entries, _, err := Read(t.Context(), s, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	v := auditchain.NewVerifier(head.Anchor())
	var bad *auditchain.Fault
	for _, e := range entries {
		if bad = v.Next(e.Link); bad != nil {
			break
		}
	}
	if bad == nil || bad.Seq != 2 {
		t.Errorf("got %v, want entry 2", bad)
	}
}
