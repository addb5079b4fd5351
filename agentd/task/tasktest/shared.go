package tasktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

// Cluster is the processes that share one store.
type Cluster struct {
	// Open gives the store of a further process. All see the same tasks.
	Open func(t *testing.T) task.Shared
	// Kill ends the process of a store without a word.
	Kill func(task.Shared)
}

// RunShared holds a shared store against the port's contract. open gives an empty one. Stores also pass Run.
func RunShared(t *testing.T, open func(t *testing.T) Cluster) {
	t.Helper()
	for name, f := range map[string]func(*testing.T, Cluster){
		"one store": together, "the same order everywhere": everywhere, "writers in many processes": rivals, "who keeps a task learns that it ended": ended,
		"the living have no orphans": living, "a killed process leaves orphans": killed, "one takes over": heirs,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, open(t))
		})
	}
}

// kept is a new task that a process keeps.
func kept(t *testing.T, s task.Shared, id string, state task.State) task.Ref {
	t.Helper()
	r := begun(id)
	r.Keeper = s.Self()
	r.Task.Status.State = state
	return create(t, s, r).Ref()
}

func together(t *testing.T, c Cluster) {
	t.Helper()
	a, b := c.Open(t), c.Open(t)
	if a.Self() == "" || a.Self() == b.Self() {
		t.Errorf("two processes are called %q and %q", a.Self(), b.Self())
	}
	ref := kept(t, a, "t1", task.Submitted)
	if _, err := b.Create(t.Context(), begun("t1")); !errs.Is(err, errs.Exists) {
		t.Errorf("made twice: %v", err)
	}
	tell(t, a, ref, status(task.Working), piece("one", false))
	tell(t, b, ref, piece(", two", true))
	last := tell(t, a, ref, piece(", three", true)) // a knew an older one
	got, err := b.Get(t.Context(), ref)
	if diff := cmp.Diff(last, got); err != nil || diff != "" || got.Task.Artifacts[0].Parts[0].Text != "one, two, three" || got.Keeper != a.Self() {
		t.Errorf("%v %s", err, diff)
	}
	if p, err := b.List(t.Context(), task.Filter{Owner: me, State: task.Working, Limit: 5}); err != nil || p.Total != 1 || cmp.Diff(last, p.Records[0]) != "" {
		t.Errorf("listed: %d, %v", p.Total, err)
	}
	boom := errors.New("boom")
	tell(t, b, ref, status(task.Canceled))
	if _, err := a.Update(t.Context(), ref, func(r *task.Record) ([]task.Event, error) {
		if r.Task.Status.State == task.Canceled {
			return nil, boom
		}
		return []task.Event{status(task.Completed)}, nil
	}); !errors.Is(err, boom) {
		t.Errorf("an old record was believed: %v", err)
	}
	ref = kept(t, a, "t2", task.Working)
	tell(t, a, ref, piece("one", false))
	tell(t, b, ref, status(task.InputRequired))
	if _, err := a.Update(t.Context(), ref, func(r *task.Record) ([]task.Event, error) {
		if r.Task.Status.State == task.Working {
			return nil, boom
		}
		return nil, nil
	}); err != nil {
		t.Errorf("an old record was refused: %v", err)
	}
}

func everywhere(t *testing.T, c Cluster) {
	t.Helper()
	stores := []task.Shared{c.Open(t), c.Open(t), c.Open(t)}
	ref := kept(t, stores[0], "t1", task.Working)
	const readers, each = 9, 30
	var seen [readers][]task.Event
	var reading, writing sync.WaitGroup
	for i := range readers {
		_, f, err := stores[i%len(stores)].Watch(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		reading.Go(func() {
			defer f.Close()
			var err error
			if seen[i], err = read(t, f); !errors.Is(err, task.ErrEnded) {
				t.Errorf("reader %d ended by %v", i, err)
			}
		})
	}
	for n, s := range stores {
		writing.Go(func() {
			for i := range each {
				e := piece(fmt.Sprint(n, "/", i), true)
				if i%10 == 9 {
					e = task.Event{Message: &task.Message{ID: fmt.Sprint(n, i), Role: task.User}}
				}
				if _, err := s.Update(t.Context(), ref, func(*task.Record) ([]task.Event, error) { return []task.Event{e}, nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	tell(t, stores[1], ref, status(task.Completed))
	reading.Wait()
	if want := len(stores)*each*9/10 + 1; len(seen[0]) != want {
		t.Fatalf("%d events, want %d", len(seen[0]), want)
	}
	for i := range readers {
		if diff := cmp.Diff(seen[0], seen[i]); diff != "" {
			t.Errorf("reader %d saw otherwise: %s", i, diff)
		}
	}
}

func rivals(t *testing.T, c Cluster) {
	t.Helper()
	stores := []task.Shared{c.Open(t), c.Open(t), c.Open(t)}
	ref := kept(t, stores[0], "t1", task.Working)
	const each = 40
	var wg sync.WaitGroup
	for _, s := range stores {
		wg.Go(func() {
			for range each {
				if _, err := s.Update(t.Context(), ref, func(r *task.Record) ([]task.Event, error) {
					r.Turns++
					return []task.Event{status(task.Working)}, nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want := len(stores) * each
	if got, err := stores[2].Get(t.Context(), ref); err != nil || got.Turns != want+1 || got.Seq != int64(want) || got.Version != int64(want)+1 {
		t.Errorf("%d turns, seq %d, version %d, %v", got.Turns, got.Seq, got.Version, err)
	}
}

// next is what a process learns next of its tasks.
func next(t *testing.T, s task.Shared) task.Ref {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ref, err := s.Ended(ctx)
	if err != nil {
		t.Fatalf("nothing was told: %v", err)
	}
	return ref
}

func ended(t *testing.T, c Cluster) {
	t.Helper()
	a, b := c.Open(t), c.Open(t)
	own, others, foreign, last := kept(t, a, "own", task.Working), kept(t, a, "others", task.Working), kept(t, b, "foreign", task.Working), kept(t, a, "last", task.InputRequired)
	tell(t, a, own, status(task.Completed))
	tell(t, b, others, status(task.Working)) // that ends nothing
	tell(t, b, others, status(task.Canceled))
	if got := next(t, a); got != others {
		t.Errorf("told of %v", got)
	}
	tell(t, b, foreign, status(task.Completed))
	tell(t, b, last, status(task.Canceled))
	if got := next(t, a); got != last {
		t.Errorf("told of %v", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if got, err := b.Ended(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("b is told of %v, %v", got, err)
	}
	if got, err := a.Ended(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a is told again of %v, %v", got, err)
	}
}

// orphans polls until somebody finds n, and gives their IDs.
func orphans(t *testing.T, s task.Shared, n int, within time.Duration) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for {
		rs, err := s.Orphans(ctx, 100)
		if err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		var ids []string
		for _, r := range rs {
			ids = append(ids, r.Task.ID)
		}
		if slices.Sort(ids); n > 0 && len(ids) >= n || n == 0 && len(ids) > 0 || ctx.Err() != nil {
			return ids
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func living(t *testing.T, c Cluster) {
	t.Helper()
	a, b := c.Open(t), c.Open(t)
	kept(t, a, "t1", task.Working)
	kept(t, b, "t2", task.InputRequired)
	if got := orphans(t, b, 0, 6*time.Second); len(got) > 0 {
		t.Errorf("orphans of the living: %v", got)
	}
}

// deadline is how long the death of a process may take to be known on a busy machine; stores promise less.
const deadline = 15 * time.Second

func killed(t *testing.T, c Cluster) {
	t.Helper()
	a, b := c.Open(t), c.Open(t)
	if got := orphans(t, b, 1, 100*time.Millisecond); len(got) > 0 { // b has begun to look
		t.Errorf("orphans of nobody: %v", got)
	}
	working, asking := kept(t, a, "working", task.Working), kept(t, a, "asking", task.InputRequired)
	tell(t, a, kept(t, a, "over", task.Working), status(task.Completed))
	tell(t, b, kept(t, a, "canceled", task.Working), status(task.Canceled))
	kept(t, b, "another", task.Working)
	if _, err := b.Update(t.Context(), kept(t, a, "moved", task.Working), func(r *task.Record) ([]task.Event, error) {
		r.Keeper = b.Self()
		return nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	rec, f, err := b.Watch(t.Context(), working)
	if err != nil || rec.Keeper != a.Self() {
		t.Fatalf("kept by %q: %v", rec.Keeper, err)
	}
	defer f.Close()
	c.Kill(a)
	if diff := cmp.Diff([]string{"asking", "working"}, orphans(t, b, 1, deadline)); diff != "" {
		t.Fatal(diff)
	}
	if rs, err := b.Orphans(t.Context(), 1); err != nil || len(rs) != 1 {
		t.Errorf("%d at most one, %v", len(rs), err)
	}
	tell(t, b, working, status(task.Failed))
	if events, err := read(t, f); !errors.Is(err, task.ErrEnded) || len(events) != 1 || events[0].Status.State != task.Failed {
		t.Errorf("who watched saw %v, %v", events, err)
	}
	if diff := cmp.Diff([]string{"asking"}, orphans(t, b, 1, deadline)); diff != "" {
		t.Error(diff)
	}
	if late := c.Open(t); len(orphans(t, late, 1, deadline)) != 1 {
		t.Error("a new process finds no orphan")
	}
	if got, err := b.Get(t.Context(), asking); err != nil || got.Task.Status.State != task.InputRequired {
		t.Errorf("asking is %v, %v", got.Task.Status.State, err)
	}
}

// heirs: of many that take a task over at the same time one does, whom the others then hold for its keeper.
func heirs(t *testing.T, c Cluster) {
	t.Helper()
	a := c.Open(t)
	ref := kept(t, a, "t1", task.InputRequired)
	c.Kill(a)
	others := []task.Shared{c.Open(t), c.Open(t), c.Open(t)}
	var wg sync.WaitGroup
	var mu sync.Mutex
	taken := 0
	for _, s := range others {
		wg.Go(func() {
			if len(orphans(t, s, 1, deadline)) == 0 {
				return // somebody was faster
			}
			_, err := s.Update(t.Context(), ref, func(r *task.Record) ([]task.Event, error) {
				if r.Keeper != a.Self() {
					return nil, errs.New(errs.Precondition, "taken")
				}
				r.Keeper = s.Self()
				return nil, nil
			})
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				taken++
			} else if !errs.Is(err, errs.Precondition) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if taken != 1 {
		t.Errorf("%d took it over", taken)
	}
	for _, s := range others {
		if got := orphans(t, s, 0, 500*time.Millisecond); len(got) > 0 {
			t.Errorf("it is an orphan still: %v", got)
		}
	}
}
