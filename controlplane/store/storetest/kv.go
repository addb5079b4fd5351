package storetest

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

func getPut(t env) {
	s := t.store
	_, err := s.Get(t.Context(), "a")
	mustKind(t, err, errs.NotFound)
	first := put(t, s, "a", "1")
	second := put(t, s, "a", "2")
	if second <= first {
		t.Fatalf("revision %d after %d", second, first)
	}
	got, err := s.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	same(t, store.KV{Key: "a", Value: []byte("2"), CreateRevision: first, ModRevision: second}, got)
}

func createOnly(t env) {
	s := t.store
	txn := store.Txn{If: []store.Cond{{Key: "a"}}, Puts: []store.KV{{Key: "a", Value: []byte("mine")}}}
	if _, err := s.Commit(t.Context(), txn); err != nil {
		t.Fatal(err)
	}
	_, err := s.Commit(t.Context(), txn)
	mustKind(t, err, errs.Conflict)
	if _, err := s.Commit(t.Context(), store.Txn{Deletes: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), txn); err != nil {
		t.Fatalf("create after a deletion: %v", err)
	}
}

func compareAndSwap(t env) {
	s := t.store
	rev := put(t, s, "a", "1")
	swap := func(at int64, value string) error {
		_, err := s.Commit(t.Context(), store.Txn{
			If:   []store.Cond{{Key: "a", ModRevision: at}},
			Puts: []store.KV{{Key: "a", Value: []byte(value)}},
		})
		return err
	}
	if err := swap(rev, "2"); err != nil {
		t.Fatal(err)
	}
	mustKind(t, swap(rev, "3"), errs.Conflict)
	got, err := s.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "2", string(got.Value))
}

func allOrNothing(t env) {
	s := t.store
	rev := put(t, s, "a", "1")
	_, err := s.Commit(t.Context(), store.Txn{
		If:      []store.Cond{{Key: "a", ModRevision: rev}, {Key: "b", ModRevision: 7}},
		Puts:    []store.KV{{Key: "b", Value: []byte("x")}},
		Deletes: []string{"a"},
	})
	mustKind(t, err, errs.Conflict)
	page, err := s.List(t.Context(), "", store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, []store.KV{{Key: "a", Value: []byte("1"), CreateRevision: rev, ModRevision: rev}}, page.KVs)
	at, err := s.Commit(t.Context(), store.Txn{
		If:      []store.Cond{{Key: "a", ModRevision: rev}, {Key: "b"}},
		Puts:    []store.KV{{Key: "b", Value: []byte("x")}, {Key: "c", Value: []byte("y")}},
		Deletes: []string{"a"},
	})
	if err != nil {
		t.Fatal(err)
	}
	page, err = s.List(t.Context(), "", store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, store.Page{Revision: at, KVs: []store.KV{
		{Key: "b", Value: []byte("x"), CreateRevision: at, ModRevision: at},
		{Key: "c", Value: []byte("y"), CreateRevision: at, ModRevision: at},
	}}, page)
}

func concurrentCounters(t env) {
	s := t.store
	const writers, times = 8, 20
	put(t, s, "n", "0")
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range times {
				if err := increment(t.Context(), s, "n"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	got, err := s.Get(t.Context(), "n")
	if err != nil {
		t.Fatal(err)
	}
	same(t, strconv.Itoa(writers*times), string(got.Value))
}

func increment(ctx context.Context, s store.Store, key string) error {
	for {
		kv, err := s.Get(ctx, key)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(kv.Value))
		if err != nil {
			return err
		}
		_, err = s.Commit(ctx, store.Txn{
			If:   []store.Cond{{Key: key, ModRevision: kv.ModRevision}},
			Puts: []store.KV{{Key: key, Value: []byte(strconv.Itoa(n + 1))}},
		})
		if !errs.Is(err, errs.Conflict) {
			return err
		}
	}
}

func deletes(t env) {
	s := t.store
	first := put(t, s, "a", "1")
	gone, err := s.Commit(t.Context(), store.Txn{Deletes: []string{"a", "never"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.Get(t.Context(), "a"); err == nil {
		t.Fatal("a is still there")
	}
	mustKind(t, err, errs.NotFound)
	again := put(t, s, "a", "2")
	if first >= gone || gone >= again {
		t.Fatalf("revisions %d, %d, %d", first, gone, again)
	}
	got, err := s.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	same(t, again, got.CreateRevision)
}

func emptyTxn(t env) {
	s := t.store
	want := put(t, s, "a", "1")
	got, err := s.Commit(t.Context(), store.Txn{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, want, got)
	_, err = s.Commit(t.Context(), store.Txn{If: []store.Cond{{Key: "a"}}})
	mustKind(t, err, errs.Conflict)
}

func badTxns(t env) {
	s := t.store
	var many store.Txn
	for i := range store.MaxOps + 1 {
		many.Puts = append(many.Puts, store.KV{Key: "k" + strconv.Itoa(i)})
	}
	tests := map[string]store.Txn{
		"empty key":       {Puts: []store.KV{{Value: []byte("x")}}},
		"put twice":       {Puts: []store.KV{{Key: "a"}, {Key: "a"}}},
		"put and deleted": {Puts: []store.KV{{Key: "a"}}, Deletes: []string{"a"}},
		"too many writes": many,
	}
	for name, txn := range tests {
		_, err := s.Commit(t.Context(), txn)
		if !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: error %v, want Invalid", name, err)
		}
	}
	page, err := s.List(t.Context(), "", store.ListOptions{})
	if err != nil || len(page.KVs) != 0 {
		t.Fatalf("%d keys, error %v", len(page.KVs), err)
	}
}

func largeValues(t env) {
	s := t.store
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: "big", Value: big}, {Key: "none"}}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), "big")
	if err != nil || !bytes.Equal(got.Value, big) {
		t.Fatalf("%d bytes back, error %v", len(got.Value), err)
	}
	none, err := s.Get(t.Context(), "none")
	if err != nil || len(none.Value) != 0 {
		t.Fatalf("%d bytes back, error %v", len(none.Value), err)
	}
}

func pages(t env) {
	s := t.store
	var want []string
	for i := range 25 {
		key := fmt.Sprintf("p/%02d", i)
		put(t, s, key, key)
		want = append(want, key)
	}
	put(t, s, "q", "outside")
	var got []string
	opts := store.ListOptions{Limit: 10}
	for pageNo := 0; ; pageNo++ {
		page, err := s.List(t.Context(), "p/", opts)
		if err != nil {
			t.Fatal(err)
		}
		if opts.Revision == 0 {
			opts.Revision = page.Revision
		}
		same(t, opts.Revision, page.Revision)
		for _, kv := range page.KVs {
			same(t, kv.Key, string(kv.Value))
			got = append(got, kv.Key)
		}
		if page.Next == "" {
			break
		}
		opts.From = page.Next
		// What happens between pages isn't seen by them.
		put(t, s, "p/12a", "late")
		put(t, s, "p/24", "late")
		if _, err := s.Commit(t.Context(), store.Txn{Deletes: []string{fmt.Sprintf("p/%02d", 20+pageNo)}}); err != nil {
			t.Fatal(err)
		}
	}
	same(t, want, got)
}

func listBounds(t env) {
	s := t.store
	var last int64
	for _, key := range []string{"a", "b", "b/1", "b/2", "c", "\xff\xff"} {
		last = put(t, s, key, "v")
	}
	tests := map[string]struct {
		prefix string
		opts   store.ListOptions
		want   []string
		next   bool
	}{
		"all":              {want: []string{"a", "b", "b/1", "b/2", "c", "\xff\xff"}},
		"a prefix":         {prefix: "b", want: []string{"b", "b/1", "b/2"}},
		"bytes of 0xff":    {prefix: "\xff", want: []string{"\xff\xff"}},
		"nothing":          {prefix: "x"},
		"from inside":      {prefix: "b", opts: store.ListOptions{From: "b/2"}, want: []string{"b/2"}},
		"from before":      {prefix: "b", opts: store.ListOptions{From: "a"}, want: []string{"b", "b/1", "b/2"}},
		"from behind":      {prefix: "b", opts: store.ListOptions{From: "c"}},
		"limited":          {prefix: "b", opts: store.ListOptions{Limit: 2}, want: []string{"b", "b/1"}, next: true},
		"limit just right": {prefix: "b", opts: store.ListOptions{Limit: 3}, want: []string{"b", "b/1", "b/2"}},
	}
	for name, tt := range tests {
		for _, keysOnly := range []bool{false, true} {
			tt.opts.KeysOnly = keysOnly
			page, err := s.List(t.Context(), tt.prefix, tt.opts)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var got []string
			for _, kv := range page.KVs {
				got = append(got, kv.Key)
				if (len(kv.Value) == 0) != keysOnly {
					t.Errorf("%s: value %q with keysOnly %v", name, kv.Value, keysOnly)
				}
			}
			same(t, tt.want, got)
			same(t, tt.next, page.Next != "")
			same(t, last, page.Revision)
		}
	}
}

func futureRevision(t env) {
	s := t.store
	rev := put(t, s, "a", "1")
	_, err := s.List(t.Context(), "", store.ListOptions{Revision: rev + 100})
	mustKind(t, err, errs.OutOfRange)
}

func endedContext(t env) {
	s := t.store
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Get(ctx, "a")
	mustKind(t, err, errs.Canceled)
	_, err = s.Commit(ctx, store.Txn{Puts: []store.KV{{Key: "a"}}})
	mustKind(t, err, errs.Canceled)
	ctx, cancel = context.WithTimeout(t.Context(), 0)
	defer cancel()
	_, err = s.List(ctx, "", store.ListOptions{})
	mustKind(t, err, errs.Timeout)
}

func ownValues(t env) {
	s := t.store
	value := []byte("abc")
	if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: "a", Value: value}}}); err != nil {
		t.Fatal(err)
	}
	value[0] = 'X'
	got, err := s.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "abc", string(got.Value))
	got.Value[0] = 'X'
	again, err := s.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "abc", string(again.Value))
}
