package intask_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/agentd/task/intask"
	"github.com/agentry/agentry/agentd/task/tasktest"
	"github.com/agentry/agentry/internal/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	t.Parallel()
	tasktest.Run(t, func(*testing.T) task.Store { return intask.New(intask.Config{}) })
}

func begun(id string) task.Record {
	return task.Record{Owner: task.Owner{Principal: "p"}, Task: task.Task{ID: id, Status: task.Status{State: task.Working, At: task.At(time.Now())}}}
}

func event(s task.State) func(*task.Record) ([]task.Event, error) {
	return func(*task.Record) ([]task.Event, error) {
		return []task.Event{{Status: &task.Status{State: s, At: task.At(time.Now())}}}, nil
	}
}

func TestTerminalTasksGoWhenTheirTimeIsOver(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	s := intask.New(intask.Config{TTL: time.Minute, Now: func() time.Time { return now }})
	for _, id := range []string{"a", "b"} {
		if _, err := s.Create(t.Context(), begun(id)); err != nil {
			t.Fatal(err)
		}
	}
	ref := begun("a").Ref()
	if _, err := s.Update(t.Context(), ref, event(task.Completed)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(59 * time.Second)
	if _, err := s.Get(t.Context(), ref); err != nil {
		t.Errorf("before its time: %v", err)
	}
	now = now.Add(2 * time.Second)
	if _, err := s.Get(t.Context(), ref); !errs.Is(err, errs.NotFound) {
		t.Errorf("after its time: %v", err)
	}
	if n, _ := s.Len(); n != 1 {
		t.Errorf("%d tasks", n)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	s := intask.New(intask.Config{MaxTasks: 3, MaxBytes: 1 << 20, Bounds: task.Bounds{Bytes: 100_000, Messages: 2}})
	for i := range 3 {
		if _, err := s.Create(t.Context(), begun(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Create(t.Context(), begun("3")); !errs.Is(err, errs.Exhausted) {
		t.Errorf("one task too many: %v", err)
	}
	if _, err := s.Update(t.Context(), begun("1").Ref(), event(task.Failed)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), begun("3")); err != nil {
		t.Errorf("a terminal task makes no room: %v", err)
	}
	if _, err := s.Get(t.Context(), begun("1").Ref()); !errs.Is(err, errs.NotFound) {
		t.Errorf("the terminal task is there: %v", err)
	}
	big := func(n int) func(*task.Record) ([]task.Event, error) {
		return func(*task.Record) ([]task.Event, error) {
			return []task.Event{{Chunk: &task.Chunk{Artifact: task.Artifact{ID: fmt.Sprint(n), Parts: []task.Part{{Kind: task.Raw, Raw: make([]byte, n)}}}}}}, nil
		}
	}
	if _, err := s.Update(t.Context(), begun("0").Ref(), big(200_000)); !errs.Is(err, errs.Exhausted) {
		t.Errorf("a task that is too large: %v", err)
	}
	if _, err := s.Update(t.Context(), begun("0").Ref(), event(task.Failed)); err != nil {
		t.Errorf("and then its end: %v", err)
	}
	all := intask.New(intask.Config{MaxBytes: 50_000})
	if _, err := all.Create(t.Context(), begun("0")); err != nil {
		t.Fatal(err)
	}
	if _, err := all.Update(t.Context(), begun("0").Ref(), big(60_000)); !errs.Is(err, errs.Exhausted) {
		t.Errorf("all of them too large: %v", err)
	}
	if _, err := all.Create(t.Context(), task.Record{Task: task.Task{ID: "x", History: []task.Message{{Parts: []task.Part{{Raw: make([]byte, 60_000)}}}}}}); !errs.Is(err, errs.Exhausted) {
		t.Errorf("a new one too large: %v", err)
	}
}

// A reader who doesn't read is cut off, and delays nobody.
func TestReadersWhoLag(t *testing.T) {
	t.Parallel()
	s := intask.New(intask.Config{MaxLag: 10})
	if _, err := s.Create(t.Context(), begun("0")); err != nil {
		t.Fatal(err)
	}
	ref := begun("0").Ref()
	_, slow, err := s.Watch(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	_, closed, err := s.Watch(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if _, err := closed.Next(t.Context()); !errors.Is(err, task.ErrEnded) {
		t.Errorf("a closed feed: %v", err)
	}
	for range 12 {
		if _, err := s.Update(t.Context(), ref, event(task.Working)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := slow.Next(t.Context()); !errors.Is(err, task.ErrLagged) {
		t.Errorf("a reader who lags: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, f, err := s.Watch(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := f.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a reader who leaves: %v", err)
	}
}

// A thousand tasks with ten readers each: the same order everywhere, and the memory is back when they are over.
func TestAThousandTasksWithTenReaders(t *testing.T) {
	t.Parallel()
	s := intask.New(intask.Config{TTL: 50 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	var sweeper sync.WaitGroup
	sweeper.Go(func() { _ = s.Run(ctx) })
	defer sweeper.Wait()
	defer cancel()
	runtime.GC()
	const tasks, readers, events = 1000, 10, 20
	var wg sync.WaitGroup
	for i := range tasks {
		r := begun(fmt.Sprint(i))
		if _, err := s.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		for range readers {
			_, f, err := s.Watch(t.Context(), r.Ref())
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				defer f.Close()
				for want := int64(1); ; want++ {
					e, err := f.Next(ctx)
					if errors.Is(err, task.ErrEnded) {
						if want != events+2 {
							t.Errorf("ended before event %d", want)
						}
						return
					}
					if err != nil || e.Seq != want {
						t.Errorf("event %d, want %d: %v", e.Seq, want, err)
						return
					}
				}
			})
		}
		wg.Go(func() {
			for range events {
				if _, err := s.Update(ctx, r.Ref(), event(task.Working)); err != nil {
					t.Error(err)
				}
			}
			if _, err := s.Update(ctx, r.Ref(), event(task.Completed)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for end := time.Now().Add(10 * time.Second); ; {
		n, bytes := s.Len()
		if n == 0 && bytes == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d tasks and %d bytes are left", n, bytes)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}
