package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

func watchOrder(t env) {
	s := t.store
	var want []store.Event
	add := func(i int) {
		value := fmt.Sprint(i)
		rev := put(t, s, "w/"+value, value)
		want = append(want, store.Event{KV: store.KV{Key: "w/" + value, Value: []byte(value), CreateRevision: rev, ModRevision: rev}})
	}
	start := put(t, s, "w/before", "")
	for i := range 10 {
		add(i)
	}
	w := startTail(t, s, "w/", start)
	got := w.events(t, 10)
	for i := range 10 {
		add(10 + i)
	}
	got = append(got, w.events(t, 10)...)
	same(t, want, got)
}

func watchResume(t env) {
	s := t.store
	var revs []int64
	for i := range 6 {
		revs = append(revs, put(t, s, "w", fmt.Sprint(i)))
	}
	for i := range 5 {
		w := startTail(t, s, "w", revs[i])
		got := w.events(t, 5-i)
		same(t, revs[i+1], got[0].ModRevision)
		same(t, revs[5], got[len(got)-1].ModRevision)
		w.stop(t)
	}
}

func watchWhole(t env) {
	s := t.store
	start := put(t, s, "w/start", "")
	const keys, rounds = 50, 10
	w := startTail(t, s, "w/", start)
	var wg sync.WaitGroup
	wg.Go(func() {
		for r := range rounds {
			txn := store.Txn{}
			for k := range keys {
				txn.Puts = append(txn.Puts, store.KV{Key: fmt.Sprintf("w/%02d", k), Value: fmt.Append(nil, r)})
			}
			if _, err := s.Commit(t.Context(), txn); err != nil {
				t.Error(err)
				return
			}
		}
	})
	seen, last := 0, start
	deadline := time.After(patience)
	for seen < keys*rounds {
		select {
		case b := <-w.batches:
			checkWhole(t, b, last, keys)
			seen, last = seen+len(b.Events), b.Revision
		case <-deadline:
			t.Fatalf("%d of %d events", seen, keys*rounds)
		}
	}
	wg.Wait()
}

func checkWhole(tb testing.TB, b store.Batch, last int64, keys int) {
	tb.Helper()
	if b.Revision <= last {
		tb.Fatalf("batch at revision %d after %d", b.Revision, last)
	}
	perRevision := map[int64]int{}
	for _, e := range b.Events {
		if e.ModRevision <= last || e.ModRevision > b.Revision {
			tb.Fatalf("event of revision %d in a batch over (%d, %d]", e.ModRevision, last, b.Revision)
		}
		perRevision[e.ModRevision]++
	}
	for rev, n := range perRevision {
		if n != keys {
			tb.Fatalf("%d of %d events of revision %d", n, keys, rev)
		}
	}
}

func watchDeletes(t env) {
	s := t.store
	rev := put(t, s, "w", "1")
	w := startTail(t, s, "w", rev)
	gone, err := s.Commit(t.Context(), store.Txn{Deletes: []string{"w"}})
	if err != nil {
		t.Fatal(err)
	}
	same(t, []store.Event{{KV: store.KV{Key: "w", ModRevision: gone}, Deleted: true}}, w.events(t, 1))
}

func watchPrefix(t env) {
	s := t.store
	start := put(t, s, "w/0", "")
	w := startTail(t, s, "w/", start)
	put(t, s, "v", "")
	put(t, s, "w", "")
	put(t, s, "w0", "")
	rev := put(t, s, "w/1", "x")
	same(t, []store.Event{{KV: store.KV{Key: "w/1", Value: []byte("x"), CreateRevision: rev, ModRevision: rev}}}, w.events(t, 1))
}

func watchCancel(t env) {
	s := t.store
	w := startTail(t, s, "w", put(t, s, "w", ""))
	put(t, s, "w", "1")
	w.events(t, 1)
	w.cancel()
	select {
	case err := <-w.done:
		if err != nil {
			t.Fatalf("watch answered %v, want nil", err)
		}
		close(w.done)
	case <-time.After(patience):
		t.Fatal("watch goes on after its context ended")
	}
}

func watchEmitError(t env) {
	s := t.store
	start := put(t, s, "w", "")
	put(t, s, "w", "1")
	want := errors.New("enough")
	err := s.Watch(t.Context(), "w", start, func(store.Batch) error { return want })
	if !errors.Is(err, want) {
		t.Fatalf("watch answered %v, want emit's error", err)
	}
}

func watchProgress(t env) {
	s := t.store
	w := startTail(t, s, "w/", put(t, s, "w/0", ""))
	rev := put(t, s, "elsewhere", "")
	deadline := time.After(patience)
	for {
		select {
		case b := <-w.batches:
			if len(b.Events) != 0 {
				t.Fatalf("events %v", b.Events)
			}
			if b.Revision >= rev {
				return
			}
		case <-deadline:
			t.Fatalf("no progress to revision %d", rev)
		}
	}
}

func closeTwice(t env) {
	s := t.store
	w := startTail(t, s, "w", put(t, s, "w", ""))
	put(t, s, "w", "1")
	w.events(t, 1)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-w.done:
		mustKind(t, err, errs.Unavailable)
		close(w.done)
	case <-time.After(patience):
		t.Fatal("watch goes on in a closed store")
	}
	_, err := s.Get(t.Context(), "w")
	mustKind(t, err, errs.Unavailable)
	_, err = s.List(t.Context(), "", store.ListOptions{})
	mustKind(t, err, errs.Unavailable)
	_, err = s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: "w"}}})
	mustKind(t, err, errs.Unavailable)
	mustKind(t, s.Watch(t.Context(), "w", 0, func(store.Batch) error { return nil }), errs.Unavailable)
}

func watchUnderLoad(t env) {
	s := t.store
	const writers, times, watchers = 4, 25, 3
	start := put(t, s, "w/start", "")
	var tails []*tail
	for range watchers {
		tails = append(tails, startTail(t, s, "w/", start))
	}
	var wg sync.WaitGroup
	for n := range writers {
		wg.Go(func() {
			for i := range times {
				key := fmt.Sprintf("w/%d", n)
				if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: key, Value: fmt.Append(nil, i)}}}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var first []store.Event
	for i, w := range tails {
		got := w.events(t, writers*times)
		if i == 0 {
			first = got
			last := start
			for _, e := range got {
				if e.ModRevision != last+1 {
					t.Fatalf("revision %d after %d", e.ModRevision, last)
				}
				last = e.ModRevision
			}
		}
		same(t, first, got)
	}
	wg.Wait()
}
