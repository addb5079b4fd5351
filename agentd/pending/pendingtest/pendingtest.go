// Package pendingtest is the conformance suite of pending.Store. Each adapter's tests run it; it is never linked into a binary.
package pendingtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/internal/errs"
)

// Run holds an adapter against the contract. open gives an empty store with the wall clock as its own.
func Run(t *testing.T, open func(t *testing.T) pending.Store) {
	t.Helper()
	for name, check := range map[string]func(*testing.T, pending.Store){
		"a run comes back as it was":       testWhole,
		"what is unknown":                  testUnknown,
		"an ID is given once":              testExists,
		"what was given and taken is mine": testCopies,
		"one waiting run a session":        testOneWaiting,
		"lists":                            testList,
		"lists are bounded":                testLimit,
		"one of many decides":              testCompareAndSwap,
		"one of many suspends a session":   testPutRace,
		"a run that is over is dropped":    testKept,
		"agents are apart":                 testApart,
	} {
		t.Run(name, func(t *testing.T) { check(t, open(t)) })
	}
}

// now is in whole milliseconds: a store may keep no finer time.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func sample(id, session string) pending.Run {
	at := now()
	return pending.Run{
		ID: id, Namespace: "default", Agent: "a", Principal: "p", Session: session, Door: "rest", Kind: pending.Approval, State: pending.Waiting,
		Calls:     []pending.Call{{ID: "1", Tool: "shop/refund", Name: "shop__refund", Arguments: json.RawMessage(`{"amount":1}`), Why: "listed", Needs: true}},
		CreatedAt: at, ExpiresAt: at.Add(time.Hour), Config: "8-3f2a91c4", Revision: 8, Engine: json.RawMessage(`{"kind":"approval"}`),
	}
}

func put(t *testing.T, s pending.Store, r pending.Run) {
	t.Helper()
	if err := s.Put(t.Context(), r); err != nil {
		t.Fatalf("put %s: %v", r.ID, err)
	}
}

func get(t *testing.T, s pending.Store, id string) pending.Run {
	t.Helper()
	r, err := s.Get(t.Context(), pending.Ref{Namespace: "default", Agent: "a", ID: id})
	if err != nil {
		t.Fatalf("get %s: %v", id, err)
	}
	return r
}

func list(t *testing.T, s pending.Store, f pending.Filter) []string {
	t.Helper()
	f.Namespace, f.Agent = "default", "a"
	runs, err := s.List(t.Context(), f)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	ids := []string{}
	for _, r := range runs {
		if r.Engine != nil {
			t.Errorf("run %s is listed with its engine", r.ID)
		}
		ids = append(ids, r.ID)
	}
	return ids
}

func want(t *testing.T, err error, kind errs.Kind) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Errorf("error %v, want kind %d", err, kind)
	}
}

func testWhole(t *testing.T, s pending.Store) {
	t.Helper()
	in := sample("r1", "s")
	in.Version = 7
	put(t, s, in)
	in.Version = 1
	if diff := cmp.Diff(in, get(t, s, "r1")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	in.State, in.Engine, in.Owner, in.Next = pending.Done, nil, "i-1", "r2"
	in.ResumedConfig, in.ResumedRevision = "9-00000000", 9
	in.Decisions = []pending.Decision{{By: "ann", At: now(), Approved: true, Reason: "ok", Arguments: map[string]json.RawMessage{"1": json.RawMessage(`{"amount":2}`)}}}
	in.Result = &pending.Outcome{Text: "done \x00<&> é", Code: "c", Message: "m", Usage: pending.Usage{InputTokens: 1 << 40, OutputTokens: 2, CostUSD: 0.125, Estimated: true}}
	out, err := s.Update(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	in.Version = 2
	if diff := cmp.Diff(in, out); diff != "" {
		t.Errorf("what Update gives (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(in, get(t, s, "r1")); diff != "" {
		t.Errorf("what is kept (-want +got):\n%s", diff)
	}
	if err := s.Delete(t.Context(), in.Ref()); err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(t.Context(), in.Ref())
	want(t, err, errs.NotFound)
	if got := list(t, s, pending.Filter{}); len(got) != 0 {
		t.Errorf("a deleted run is listed: %v", got)
	}
}

func testUnknown(t *testing.T, s pending.Store) {
	t.Helper()
	r := sample("nobody", "s")
	r.Version = 1
	_, err := s.Get(t.Context(), r.Ref())
	want(t, err, errs.NotFound)
	_, err = s.Update(t.Context(), r)
	want(t, err, errs.NotFound)
	if err := s.Delete(t.Context(), r.Ref()); err != nil {
		t.Errorf("delete: %v", err)
	}
	if got := list(t, s, pending.Filter{}); len(got) != 0 {
		t.Errorf("listed %v", got)
	}
}

func testExists(t *testing.T, s pending.Store) {
	t.Helper()
	put(t, s, sample("r1", "s"))
	want(t, s.Put(t.Context(), sample("r1", "another")), errs.Exists)
	if r := get(t, s, "r1"); r.Session != "s" {
		t.Errorf("replaced: %+v", r)
	}
}

func testCopies(t *testing.T, s pending.Store) {
	t.Helper()
	in := sample("r1", "s")
	put(t, s, in)
	in.Calls[0].Arguments[2] = 'X'
	in.Engine[2] = 'X'
	out := get(t, s, "r1")
	out.Calls[0].Name = "changed"
	out.Engine[2] = 'Y'
	listed, err := s.List(t.Context(), pending.Filter{Namespace: "default", Agent: "a"})
	if err != nil || len(listed) != 1 {
		t.Fatalf("%v, %v", listed, err)
	}
	listed[0].Calls[0].Arguments[2] = 'Z'
	wantRun := sample("r1", "s")
	got := get(t, s, "r1")
	if string(got.Engine) != string(wantRun.Engine) || string(got.Calls[0].Arguments) != string(wantRun.Calls[0].Arguments) || got.Calls[0].Name != "shop__refund" {
		t.Errorf("the store's run was changed from outside: %+v", got)
	}
}

func testOneWaiting(t *testing.T, s pending.Store) {
	t.Helper()
	put(t, s, sample("r1", "s"))
	want(t, s.Put(t.Context(), sample("r2", "s")), errs.Conflict)
	other := sample("r3", "s")
	other.Principal = "another"
	put(t, s, other)
	put(t, s, sample("r4", "s2"))
	put(t, s, sample("r5", "")) // without a session any number waits
	put(t, s, sample("r6", ""))
	r := get(t, s, "r1")
	r.State = pending.Running
	r, err := s.Update(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, sample("r7", "s")) // it waits again, the first one runs
	r.State = pending.Done
	if _, err = s.Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	want(t, s.Put(t.Context(), sample("r8", "s")), errs.Conflict)
	if err := s.Delete(t.Context(), pending.Ref{Namespace: "default", Agent: "a", ID: "r7"}); err != nil {
		t.Fatal(err)
	}
	put(t, s, sample("r9", "s"))
}

func testList(t *testing.T, s pending.Store) {
	t.Helper()
	at := now()
	for i := range 6 {
		r := sample(fmt.Sprint("r", i), fmt.Sprint("s", i))
		r.CreatedAt = at.Add(time.Duration(i/2) * time.Second) // two at a time
		r.ExpiresAt = at.Add(time.Duration(i+1) * time.Minute)
		if i%2 == 1 {
			r.Principal = ""
		}
		put(t, s, r)
	}
	r := get(t, s, "r2")
	r.State = pending.Denied
	if _, err := s.Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		f    pending.Filter
		want []string
	}{
		"all":                       {pending.Filter{}, []string{"r4", "r5", "r2", "r3", "r0", "r1"}},
		"waiting":                   {pending.Filter{States: []pending.State{pending.Waiting}}, []string{"r4", "r5", "r3", "r0", "r1"}},
		"denied or done":            {pending.Filter{States: []pending.State{pending.Denied, pending.Done}}, []string{"r2"}},
		"one principal":             {pending.Filter{Principal: "p"}, []string{"r4", "r2", "r0"}},
		"a session":                 {pending.Filter{Principal: "p", Session: "s4", States: []pending.State{pending.Waiting}}, []string{"r4"}},
		"a session of nobody":       {pending.Filter{Session: "s5", States: []pending.State{pending.Waiting}}, []string{"r5"}},
		"a session of another":      {pending.Filter{Session: "s4", States: []pending.State{pending.Waiting}}, []string{}},
		"a session, nothing waits":  {pending.Filter{Principal: "p", Session: "s2", States: []pending.State{pending.Waiting}}, []string{}},
		"a session, all states":     {pending.Filter{Principal: "p", Session: "s2"}, []string{"r2"}},
		"overdue":                   {pending.Filter{ExpiresBefore: at.Add(2*time.Minute + time.Second)}, []string{"r0", "r1"}},
		"overdue at its expiry not": {pending.Filter{ExpiresBefore: at.Add(time.Minute)}, []string{}},
		"overdue and waiting":       {pending.Filter{ExpiresBefore: at.Add(time.Hour), States: []pending.State{pending.Waiting, pending.Running}, Principal: "p"}, []string{"r4", "r0"}},
		"limit":                     {pending.Filter{Limit: 3}, []string{"r4", "r5", "r2"}},
	} {
		if diff := cmp.Diff(tc.want, list(t, s, tc.f)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func testLimit(t *testing.T, s pending.Store) {
	t.Helper()
	for i := range pending.DefaultLimit + 5 {
		put(t, s, sample(fmt.Sprintf("r%03d", i), ""))
	}
	if got := list(t, s, pending.Filter{}); len(got) != pending.DefaultLimit {
		t.Errorf("%d runs listed", len(got))
	}
	if got := list(t, s, pending.Filter{Limit: pending.DefaultLimit + 5}); len(got) != pending.DefaultLimit+5 {
		t.Errorf("%d runs listed of %d", len(got), pending.DefaultLimit+5)
	}
}

func testCompareAndSwap(t *testing.T, s pending.Store) {
	t.Helper()
	put(t, s, sample("r1", "s"))
	r := get(t, s, "r1")
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			mine := r.Clone()
			mine.State, mine.Owner = pending.Running, fmt.Sprint("i-", i)
			switch _, err := s.Update(t.Context(), mine); {
			case err == nil:
				won.Add(1)
			case !errs.Is(err, errs.Conflict):
				t.Errorf("update: %v", err)
			}
		})
	}
	wg.Wait()
	if got := get(t, s, "r1"); won.Load() != 1 || got.Version != 2 || got.Owner == "" {
		t.Errorf("%d won, the run is %+v", won.Load(), got)
	}
}

func testPutRace(t *testing.T, s pending.Store) {
	t.Helper()
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			switch err := s.Put(t.Context(), sample(fmt.Sprint("r", i), "s")); {
			case err == nil:
				won.Add(1)
			case !errs.Is(err, errs.Conflict):
				t.Errorf("put: %v", err)
			}
		})
	}
	wg.Wait()
	if got := list(t, s, pending.Filter{}); won.Load() != 1 || len(got) != 1 {
		t.Errorf("%d won, %v are kept", won.Load(), got)
	}
}

// testKept: a run is there beyond its expiry (for those who ask what became of it), and gone Keep later.
func testKept(t *testing.T, s pending.Store) {
	t.Helper()
	overdue := sample("r1", "s")
	overdue.ExpiresAt = now().Add(-time.Minute)
	put(t, s, overdue)
	get(t, s, "r1")
	if got := list(t, s, pending.Filter{Principal: "p", Session: "s", States: []pending.State{pending.Waiting}}); !slices.Equal(got, []string{"r1"}) {
		t.Errorf("an overdue run that waits is not listed: %v", got)
	}
	gone := sample("r2", "s2")
	gone.ExpiresAt = now().Add(-pending.Keep - time.Minute)
	put(t, s, gone)
	_, err := s.Get(t.Context(), gone.Ref())
	want(t, err, errs.NotFound)
	if got := list(t, s, pending.Filter{}); !slices.Equal(got, []string{"r1"}) {
		t.Errorf("listed %v", got)
	}
	put(t, s, sample("r3", "s2")) // what is gone blocks no session
}

func testApart(t *testing.T, s pending.Store) {
	t.Helper()
	put(t, s, sample("r1", "s"))
	other := sample("r1", "s")
	other.Agent = "b"
	put(t, s, other)
	elsewhere := sample("r1", "s")
	elsewhere.Namespace = "another"
	put(t, s, elsewhere)
	if err := s.Delete(t.Context(), other.Ref()); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s, pending.Filter{}); !slices.Equal(got, []string{"r1"}) {
		t.Errorf("listed %v", got)
	}
}
