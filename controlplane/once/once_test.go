package once_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/epoch"
	"github.com/agentry/agentry/controlplane/once"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fate is what becomes of one commit.
type fate int

const (
	works   fate = iota
	lost         // not written, and not answered
	unheard      // written, but the answer is lost
	late         // not answered; written when the fault store is told to
	refused      // not written for lack of space
)

// faulty is a store whose commits have fates.
type faulty struct {
	*memstore.Store

	mu     sync.Mutex
	fates  []fate      // of the next commits that write; then they work
	held   []store.Txn // late ones
	before func(n int) // called before the n-th commit that writes
	tries  int
}

func (f *faulty) Commit(ctx context.Context, t store.Txn) (int64, error) {
	if len(t.Puts)+len(t.Deletes) == 0 {
		return f.Store.Commit(ctx, t)
	}
	f.mu.Lock()
	f.tries++
	n, is := f.tries, works
	if len(f.fates) > 0 {
		is, f.fates = f.fates[0], f.fates[1:]
	}
	if is == late {
		f.held = append(f.held, t)
	}
	f.mu.Unlock()
	if f.before != nil {
		f.before(n)
	}
	switch is {
	case works:
	case refused:
		return 0, errs.New(errs.Exhausted, "no space")
	case lost, late:
		return 0, errs.New(errs.Unavailable, "leader changed")
	case unheard:
		if _, err := f.Store.Commit(ctx, t); err != nil {
			return 0, err
		}
		return 0, errs.New(errs.Timeout, "no answer")
	}
	return f.Store.Commit(ctx, t)
}

// land writes what was late, if its conditions still hold, and says whether it was.
func (f *faulty) land(t *testing.T) bool {
	t.Helper()
	f.mu.Lock()
	held := f.held
	f.held = nil
	f.mu.Unlock()
	written := false
	for _, txn := range held {
		_, err := f.Store.Commit(t.Context(), txn)
		if err != nil && !errs.Is(err, errs.Conflict) {
			t.Fatal(err)
		}
		written = written || err == nil
	}
	return written
}

const headKey = view.HeadsPrefix + "agent/d/bot"

// increment is a handler: it plans from what is there and writes under the condition that it is still there, as headwrite does. A
// number goes up by one for each time that it was written.
func increment(ctx context.Context, s store.Store) (int64, error) {
	for range 5 {
		kv, err := s.Get(ctx, headKey)
		if err != nil && !errs.Is(err, errs.NotFound) {
			return 0, err
		}
		once.Answer(ctx, &specv1.ApplyResponse{Notes: []string{"from " + string(kv.Value)}})
		rev, err := s.Commit(ctx, store.Txn{
			If: []store.Cond{{Key: headKey, ModRevision: kv.ModRevision}}, Puts: []store.KV{{Key: headKey, Value: append(kv.Value, 'x')}},
		})
		if !errs.Is(err, errs.Conflict) {
			return rev, err
		}
	}
	return 0, errs.New(errs.Conflict, "raced")
}

func newCall(t *testing.T, key string) *once.Call {
	t.Helper()
	c, err := once.New("user:dev", key, "/Apply", &specv1.ApplyRequest{Message: "m"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func count(t *testing.T, s store.Store, prefix string) int {
	t.Helper()
	page, err := s.List(t.Context(), prefix, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return len(page.KVs)
}

func value(t *testing.T, s store.Store) string {
	t.Helper()
	kv, err := s.Get(t.Context(), headKey)
	if err != nil && !errs.Is(err, errs.NotFound) {
		t.Fatal(err)
	}
	return string(kv.Value)
}

// TestUnknownOutcomes puts every kind of fault between a call and the store: the call succeeds, and of its transaction, late tries
// included, one is written, with one audit entry.
func TestUnknownOutcomes(t *testing.T) {
	other := func(t *testing.T, f *faulty, on int) { // another writer moves the head just before the on-th try arrives
		t.Helper()
		f.before = func(n int) {
			if n == on {
				if _, err := f.Store.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: headKey, Value: []byte("o")}}}); err != nil {
					t.Error(err)
				}
			}
		}
	}
	tests := map[string]struct {
		fates []fate
		raced int // before which try another writes; 0: none
		want  string
	}{
		"no fault":                                   {nil, 0, "x"},
		"commit lost":                                {[]fate{lost}, 0, "x"},
		"answer lost":                                {[]fate{unheard}, 0, "x"},
		"answer lost, then a leader change":          {[]fate{unheard, lost, lost, lost}, 0, "x"},
		"lost again and again":                       {[]fate{lost, lost, lost, lost, lost, lost}, 0, "x"},
		"first try lands late, after the second":     {[]fate{late}, 0, "x"},
		"every try but the last lands late":          {[]fate{late, late, late}, 0, "x"},
		"raced without a fault":                      {nil, 1, "ox"},
		"commit lost and raced":                      {[]fate{lost}, 2, "ox"},
		"answer lost and raced":                      {[]fate{unheard}, 2, "o"}, // ours was first, the other overwrote it blindly
		"first try on its way while raced":           {[]fate{late}, 2, "ox"},
		"raced, and the giving up isn't answered":    {[]fate{late, works, unheard}, 2, "ox"},
		"raced, and the giving up is lost":           {[]fate{late, works, lost}, 2, "ox"},
		"raced, and the giving up lands late":        {[]fate{late, works, late}, 2, "ox"},
		"raced, the second plan's answer is lost":    {[]fate{works, unheard}, 1, "ox"},
		"raced, the second plan's try lands late":    {[]fate{works, late}, 1, "ox"},
		"lost, no space for a moment, then no fault": {[]fate{lost, lost}, 0, "x"},
	}
	for name, tt := range tests {
		for _, key := range []string{"", "given-by-the-caller"} {
			t.Run(name+" key="+key, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := &faulty{Store: memstore.New(), fates: tt.fates}
					if tt.raced > 0 {
						other(t, f, tt.raced)
					}
					s := audit.Wrap(once.Wrap(f, once.Config{}), audit.Origin{Replica: "r", Redact: func(s string) string { return s }})
					draft := audit.NewDraft(audit.Call{Actor: "dev", Method: "/Apply"})
					rev, err := increment(audit.With(once.With(t.Context(), newCall(t, key)), draft), s)
					if err != nil || rev == 0 {
						t.Fatalf("revision %d, error %v", rev, err)
					}
					f.land(t)
					if got := value(t, f.Store); got != tt.want {
						t.Errorf("value %q, want %q", got, tt.want)
					}
					if n := count(t, f.Store, view.AuditPrefix); n != 1 || draft.Written() != 1 {
						t.Errorf("%d audit entries, %d told", n, draft.Written())
					}
				})
			})
		}
	}
}

// TestFirstTryLandsWhileTheSecondIsOnItsWay is the race in which the first try arrives between the second's sending and its arrival.
func TestFirstTryLandsWhileTheSecondIsOnItsWay(t *testing.T) {
	f := &faulty{Store: memstore.New(), fates: []fate{late}}
	landed := false
	f.before = func(n int) {
		if n == 2 {
			landed = f.land(t)
		}
	}
	rev, err := increment(once.With(t.Context(), newCall(t, "")), once.Wrap(f, once.Config{}))
	kv, gerr := f.Get(t.Context(), headKey)
	if err != nil || gerr != nil || !landed || kv.ModRevision != rev || string(kv.Value) != "x" {
		t.Errorf("landed %v, revision %d, value %q at %d, errors %v %v", landed, rev, kv.Value, kv.ModRevision, err, gerr)
	}
}

func TestGivesUpHonestly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{Store: memstore.New(), fates: slices.Repeat([]fate{lost}, 1000)}
		s := once.Wrap(f, once.Config{})
		began := time.Now()
		_, err := increment(once.With(t.Context(), newCall(t, "k")), s)
		if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "isn't known") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took > once.DefaultPatience || took < once.DefaultPatience-time.Second {
			t.Errorf("gave up after %s", took)
		}
		// A deadline of the call's own counts.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if _, err := increment(once.With(ctx, newCall(t, "")), s); !errs.Is(err, errs.Unavailable) || time.Since(began) > time.Second {
			t.Errorf("error %v after %s", err, time.Since(began))
		}
		// Full, after a try whose fate isn't known.
		f.fates = append([]fate{late}, slices.Repeat([]fate{refused}, 1000)...)
		if _, err := increment(once.With(t.Context(), newCall(t, "")), s); !errs.Is(err, errs.Unavailable) {
			t.Errorf("error %v", err)
		}
		f.held = nil
		f.fates = []fate{refused}
		if _, err := increment(once.With(t.Context(), newCall(t, "")), s); !errs.Is(err, errs.Exhausted) {
			t.Errorf("error %v: what surely wasn't written is told as it is", err)
		}
	})
}

func TestReadsOutliveAnElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memstore.New()
		s := once.Wrap(m, once.Config{})
		ctx := once.With(t.Context(), newCall(t, ""))
		down := errs.New(errs.Unavailable, "no leader")
		for name, read := range map[string]func(ctx context.Context) error{
			"get": func(ctx context.Context) error {
				if _, err := s.Get(ctx, "a"); !errs.Is(err, errs.NotFound) {
					return err
				}
				return nil
			},
			"list":   func(ctx context.Context) error { _, err := s.List(ctx, "a", store.ListOptions{}); return err },
			"newest": func(ctx context.Context) error { _, err := s.Commit(ctx, store.Txn{}); return err },
			"content": func(ctx context.Context) error {
				_, err := s.Commit(ctx, store.Txn{Puts: []store.KV{{Key: view.BlobPrefix + "1"}}})
				return err
			},
		} {
			for range 6 {
				m.FailNext(down)
			}
			if err := read(ctx); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			m.FailNext(down)
			if err := read(t.Context()); !errs.Is(err, errs.Unavailable) {
				t.Errorf("%s outside of a call: %v", name, err)
			}
		}
		if n := count(t, m, view.OncePrefix); n != 0 {
			t.Errorf("%d records of reads", n)
		}
	})
}

// TestAskedAgain is about a caller that asks again under its key: here, in another replica, at the same time, with another request.
func TestAskedAgain(t *testing.T) {
	f := &faulty{Store: memstore.New()}
	here, there := once.Wrap(f, once.Config{}), once.Wrap(f, once.Config{})
	first := newCall(t, "k")
	if err := here.Resume(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	racing := newCall(t, "k") // begun before the first wrote
	if err := there.Resume(t.Context(), racing); err != nil {
		t.Fatal(err)
	}
	rev, err := increment(once.With(t.Context(), first), here)
	if err != nil {
		t.Fatal(err)
	}
	answered := func(what string, err error) {
		t.Helper()
		var done *once.CarriedOutError
		got := &specv1.ApplyResponse{}
		if !errors.As(err, &done) || !errs.Is(err, errs.Precondition) || !done.Into(got) {
			t.Fatalf("%s: error %v, want the kept answer", what, err)
		}
		if want := (&specv1.ApplyResponse{Notes: []string{"from "}, StoreRevision: rev}); !proto.Equal(got, want) {
			t.Errorf("%s: answer %v, want %v", what, got, want)
		}
		if done.Into(&specv1.DeleteResponse{}) {
			t.Errorf("%s: an answer of another type", what)
		}
	}
	answered("in another replica", there.Resume(t.Context(), newCall(t, "k")))
	_, err = increment(once.With(t.Context(), racing), there)
	answered("at the same time", err)
	changed, err := once.New("user:dev", "k", "/Apply", &specv1.ApplyRequest{Message: "another"})
	if err != nil {
		t.Fatal(err)
	}
	if err := here.Resume(t.Context(), changed); !errs.Is(err, errs.Invalid) {
		t.Errorf("another request: %v", err)
	}
	somebody, err := once.New("user:other", "k", "/Apply", &specv1.ApplyRequest{Message: "m"})
	if err != nil {
		t.Fatal(err)
	}
	if err := here.Resume(t.Context(), somebody); err != nil {
		t.Errorf("another principal's key: %v", err)
	}
	restored := newCall(t, "k")
	restored.Epoch = 2
	if err := here.Resume(t.Context(), restored); !errs.Is(err, errs.Precondition) || !strings.Contains(err.Error(), "before a restore") {
		t.Errorf("after a restore: %v", err)
	}
	if got := value(t, f.Store); got != "x" {
		t.Errorf("written as %q", got)
	}
}

// TestARefusalByOnesOwnTry is the race in which the first try, given up by its caller, lands after the second has looked for it: what the
// second is refused for then is the caller's own change. The fault suite saw such a compare-and-swap answered as stale.
func TestARefusalByOnesOwnTry(t *testing.T) {
	for _, kind := range []errs.Kind{errs.Conflict, errs.Precondition, errs.NotFound, errs.Exists, errs.Invalid} {
		f := &faulty{Store: memstore.New()}
		s := once.Wrap(f, once.Config{})
		first, second, alone := newCall(t, "k"), newCall(t, "k"), newCall(t, "")
		if err := s.Resume(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		refusal := errs.New(kind, "not as expected")
		if err := s.Refused(t.Context(), second, refusal); !errors.Is(err, refusal) {
			t.Errorf("kind %v before the first try landed: %v", kind, err)
		}
		if _, err := increment(once.With(t.Context(), first), s); err != nil {
			t.Fatal(err)
		}
		if got := errors.As(s.Refused(t.Context(), second, refusal), new(*once.CarriedOutError)); got != (kind != errs.Invalid) {
			t.Errorf("kind %v: carried out %v", kind, got)
		}
		for who, c := range map[string]*once.Call{"who wrote itself": first, "no key": alone} {
			if err := s.Refused(t.Context(), c, refusal); !errors.Is(err, refusal) {
				t.Errorf("%s: %v", who, err)
			}
		}
	}
}

// TestManyTriesAtATime has tries of one call race for real, some of them over faults.
func TestManyTriesAtATime(t *testing.T) {
	for round := range 50 {
		f := &faulty{Store: memstore.New(), fates: []fate{fate(round % 4), works, fate(round / 4 % 4), fate(round / 16 % 4)}}
		var wg sync.WaitGroup
		results := make([]error, 4)
		for i := range results {
			wg.Go(func() {
				s, c := once.Wrap(f, once.Config{}), newCall(t, "k")
				if results[i] = s.Resume(t.Context(), c); results[i] == nil {
					_, results[i] = increment(once.With(t.Context(), c), s)
				}
			})
		}
		wg.Wait()
		f.land(t)
		wins := 0
		for _, err := range results {
			var done *once.CarriedOutError
			if err == nil {
				wins++
			} else if !errors.As(err, &done) || !done.Into(&specv1.ApplyResponse{}) {
				t.Errorf("round %d: %v", round, err)
			}
		}
		if got := value(t, f.Store); got != "x" || wins != 1 {
			t.Fatalf("round %d: written as %q, %d wins", round, got, wins)
		}
	}
}

// TestRefusalsOfTheFenceAreKnown is about a restore that begins after a try of which nothing is known.
func TestRefusalsOfTheFenceAreKnown(t *testing.T) {
	for name, is := range map[string]fate{"lost": lost, "unheard": unheard} {
		t.Run(name, func(t *testing.T) {
			f := &faulty{Store: memstore.New()}
			if _, err := view.Init(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			f.fates = []fate{is}
			restore := func() {
				c := view.Cluster{ID: strings.Repeat("0", 32), Epoch: 1, Restoring: &view.Restoring{ID: "r"}}
				if _, err := f.Store.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: view.ClusterKey, Value: view.Encode(c)}}}); err != nil {
					t.Fatal(err)
				}
			}
			f.before = func(n int) {
				if n == 3 {
					restore()
				}
			}
			s := once.Wrap(epoch.Wrap(f), once.Config{})
			_, err := increment(once.With(t.Context(), newCall(t, "k")), s)
			if is == unheard {
				if err != nil || value(t, f.Store) != "x" {
					t.Errorf("error %v: it was written before", err)
				}
				return
			}
			var refusal *epoch.RefusedError
			if !errors.As(err, &refusal) || value(t, f.Store) != "" {
				t.Errorf("error %v, value %q", err, value(t, f.Store))
			}
		})
	}
}

func TestKeys(t *testing.T) {
	for _, key := range []string{strings.Repeat("k", once.MaxKey+1), "with space", "tab\t", "ümlaut"} {
		if _, err := once.New("p", key, "/m", &specv1.ApplyRequest{}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", key, err)
		}
	}
	if _, err := once.New("p", strings.Repeat("k", once.MaxKey), "/m", &specv1.ApplyRequest{}); err != nil {
		t.Error(err)
	}
}

// TestAnswersThatAreNotKept is about calls whose handler leaves no answer, or one that is too large.
func TestAnswersThatAreNotKept(t *testing.T) {
	for name, leave := range map[string]func(ctx context.Context){
		"none": func(context.Context) {},
		"too large": func(ctx context.Context) {
			once.Answer(ctx, &specv1.ApplyResponse{Notes: []string{strings.Repeat("n", 1<<17)}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := memstore.New()
			s := once.Wrap(m, once.Config{})
			ctx := once.With(t.Context(), newCall(t, "k"))
			leave(ctx)
			rev, err := s.Commit(ctx, store.Txn{Puts: []store.KV{{Key: headKey}}})
			if err != nil {
				t.Fatal(err)
			}
			var done *once.CarriedOutError
			err = s.Resume(t.Context(), newCall(t, "k"))
			if !errors.As(err, &done) || done.Into(&specv1.ApplyResponse{}) || done.Revision != rev || !strings.Contains(err.Error(), fmt.Sprint(rev)) {
				t.Errorf("error %v", err)
			}
		})
	}
	once.Answer(t.Context(), &specv1.ApplyResponse{}) // outside of a call: nothing happens
}
