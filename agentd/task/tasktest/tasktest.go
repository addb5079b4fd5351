// Package tasktest is the conformance suite of package task's Store. Each adapter runs it.
package tasktest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

// Run holds a store against the port's contract. open gives an empty one.
func Run(t *testing.T, open func(t *testing.T) task.Store) {
	t.Helper()
	for name, f := range map[string]func(*testing.T, task.Store){
		"create, get, update": records, "owners are apart": owners, "events in order": feeds, "a feed misses nothing": gapless,
		"what changes is all or nothing": atomic, "terminal": terminal, "lists": lists, "many writers": writers,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, open(t))
		})
	}
}

var me = task.Owner{Namespace: "default", Agent: "helper", Principal: "ci"} //nolint:gochecknoglobals // every case's owner

// begun is a new task.
func begun(id string) task.Record {
	return task.Record{Owner: me, Turns: 1, Task: task.Task{
		ID: id, ContextID: "c-" + id, Status: task.Status{State: task.Submitted, At: task.At(time.Now())},
		History: []task.Message{{ID: "m1", Role: task.User, Parts: []task.Part{{Kind: task.Text, Text: "hi"}}}},
	}}
}

func create(t *testing.T, s task.Store, r task.Record) task.Record {
	t.Helper()
	out, err := s.Create(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tell(t *testing.T, s task.Store, ref task.Ref, events ...task.Event) task.Record {
	t.Helper()
	out, err := s.Update(t.Context(), ref, func(*task.Record) ([]task.Event, error) { return events, nil })
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func status(s task.State) task.Event {
	return task.Event{Status: &task.Status{State: s, At: task.At(time.Now())}}
}

func piece(text string, follows bool) task.Event {
	return task.Event{Chunk: &task.Chunk{Artifact: task.Artifact{ID: "a", Parts: []task.Part{{Kind: task.Text, Text: text}}}, Append: follows, Merge: true}}
}

func records(t *testing.T, s task.Store) {
	t.Helper()
	made := create(t, s, begun("t1"))
	if made.Version != 1 || made.Seq != 0 {
		t.Errorf("made %d/%d", made.Version, made.Seq)
	}
	if _, err := s.Create(t.Context(), begun("t1")); !errs.Is(err, errs.Exists) {
		t.Errorf("made twice: %v", err)
	}
	ref := made.Ref()
	got, err := s.Update(t.Context(), ref, func(r *task.Record) ([]task.Event, error) {
		r.Pending, r.Approval, r.Turns = "run1", true, 2
		r.Push = append(r.Push, task.Push{ID: "p", URL: "https://example.com", Scheme: "Bearer", Credentials: "secret"})
		return []task.Event{status(task.Working), piece("one ", false), piece("two", true)}, nil
	})
	if err != nil || got.Version != 2 || got.Seq != 3 {
		t.Fatalf("update: %d/%d %v", got.Version, got.Seq, err)
	}
	read, err := s.Get(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, read); diff != "" {
		t.Error(diff)
	}
	if read.Pending != "run1" || !read.Approval || read.Turns != 2 || read.Push[0].Credentials != "secret" || read.Task.Artifacts[0].Parts[0].Text != "one two" || read.Task.Status.State != task.Working {
		t.Errorf("read %+v", read)
	}
	// a change that adds no event is one too, and what was read before stays as it was
	if again, err := s.Update(t.Context(), ref, func(r *task.Record) ([]task.Event, error) {
		r.Push[0].URL = "https://example.com/2"
		return nil, nil
	}); err != nil || again.Version != 3 || again.Seq != 3 || read.Push[0].URL != "https://example.com" {
		t.Errorf("no event: %d/%d %v, read before: %s", again.Version, again.Seq, err, read.Push[0].URL)
	}
}

func owners(t *testing.T, s task.Store) {
	t.Helper()
	ref := create(t, s, begun("t1")).Ref()
	for _, o := range []task.Owner{{}, {Namespace: "default", Agent: "helper"}, {Namespace: "default", Agent: "helper", Principal: "ci", Tenant: "x"}, {Namespace: "default", Agent: "other", Principal: "ci"}, {Namespace: "other", Agent: "helper", Principal: "ci"}} {
		other := task.Ref{Owner: o, ID: ref.ID}
		if _, err := s.Get(t.Context(), other); !errs.Is(err, errs.NotFound) {
			t.Errorf("%+v gets: %v", o, err)
		}
		if _, err := s.Update(t.Context(), other, func(*task.Record) ([]task.Event, error) { return nil, nil }); !errs.Is(err, errs.NotFound) {
			t.Errorf("%+v updates: %v", o, err)
		}
		if _, _, err := s.Watch(t.Context(), other); !errs.Is(err, errs.NotFound) {
			t.Errorf("%+v watches: %v", o, err)
		}
		if p, err := s.List(t.Context(), task.Filter{Owner: o, Limit: 10}); err != nil || p.Total != 0 {
			t.Errorf("%+v lists: %d %v", o, p.Total, err)
		}
		if o.Principal == "ci" {
			r := begun("t1")
			r.Owner = o
			create(t, s, r) // the same ID, another task
		}
	}
}

// read takes a feed's events to its end.
func read(t *testing.T, f task.Feed) ([]task.Event, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var out []task.Event
	for {
		e, err := f.Next(ctx)
		if err != nil {
			return out, err
		}
		out = append(out, e)
	}
}

func feeds(t *testing.T, s task.Store) {
	t.Helper()
	ref := create(t, s, begun("t1")).Ref()
	const readers = 5
	var wg sync.WaitGroup
	var seen [readers][]task.Event
	for i := range readers {
		rec, f, err := s.Watch(t.Context(), ref)
		if err != nil || rec.Task.Status.State != task.Submitted {
			t.Fatalf("%v %v", rec.Task.Status, err)
		}
		wg.Go(func() {
			defer f.Close()
			var err error
			if seen[i], err = read(t, f); !errors.Is(err, task.ErrEnded) {
				t.Errorf("reader %d ended by %v", i, err)
			}
		})
	}
	tell(t, s, ref, status(task.Working))
	for i := range 20 {
		tell(t, s, ref, piece(fmt.Sprint(i), i > 0))
	}
	tell(t, s, ref, task.Event{Message: &task.Message{ID: "m2", Role: task.User}})
	tell(t, s, ref, piece("last", true), status(task.Completed))
	wg.Wait()
	if len(seen[0]) != 23 || seen[0][0].Status == nil || seen[0][22].Status.State != task.Completed {
		t.Fatalf("reader 0 saw %d events", len(seen[0]))
	}
	for i := 1; i < readers; i++ {
		if diff := cmp.Diff(seen[0], seen[i]); diff != "" {
			t.Errorf("reader %d saw otherwise: %s", i, diff)
		}
	}
	for i := 1; i < len(seen[0]); i++ {
		if seen[0][i].Seq <= seen[0][i-1].Seq {
			t.Error("numbers don't grow")
		}
	}
	_, f, err := s.Watch(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Next(t.Context()); !errors.Is(err, task.ErrEnded) {
		t.Errorf("the feed of a terminal task: %v", err)
	}
	f.Close()
	f.Close()
}

// gapless: a snapshot and what follows it make the whole, whenever it was taken.
func gapless(t *testing.T, s task.Store) {
	t.Helper()
	ref := create(t, s, begun("t1")).Ref()
	tell(t, s, ref, status(task.Working), piece("", false))
	const n = 50
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			rec, f, err := s.Watch(t.Context(), ref)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			events, err := read(t, f)
			if !errors.Is(err, task.ErrEnded) {
				t.Error(err)
			}
			for _, e := range events {
				if rec.Task, err = task.Apply(rec.Task, e, task.Bounds{}); err != nil {
					t.Error(err)
				}
			}
			if got := len(rec.Task.Artifacts[0].Parts[0].Text); got != n {
				t.Errorf("%d pieces", got)
			}
		})
	}
	for range n {
		tell(t, s, ref, piece("x", true))
	}
	tell(t, s, ref, status(task.Completed))
	wg.Wait()
}

func atomic(t *testing.T, s task.Store) {
	t.Helper()
	ref := create(t, s, begun("t1")).Ref()
	boom := errors.New("boom")
	if _, err := s.Update(t.Context(), ref, func(r *task.Record) ([]task.Event, error) {
		r.Pending = "x"
		return []task.Event{status(task.Working)}, boom
	}); !errors.Is(err, boom) {
		t.Errorf("change's error: %v", err)
	}
	if _, err := s.Update(t.Context(), ref, func(r *task.Record) ([]task.Event, error) {
		r.Pending = "x"
		return []task.Event{status(task.Working), {}}, nil
	}); !errs.Is(err, errs.Invalid) {
		t.Errorf("an empty event: %v", err)
	}
	got, err := s.Get(t.Context(), ref)
	if err != nil || got.Pending != "" || got.Task.Status.State != task.Submitted || got.Seq != 0 || got.Version != 1 {
		t.Errorf("half a change: %+v %v", got, err)
	}
	if _, err := s.Get(t.Context(), task.Ref{Owner: me, ID: "none"}); !errs.Is(err, errs.NotFound) {
		t.Errorf("none: %v", err)
	}
}

func terminal(t *testing.T, s task.Store) {
	t.Helper()
	for _, end := range []task.State{task.Completed, task.Failed, task.Canceled, task.Rejected} {
		ref := create(t, s, begun("t-"+string(end))).Ref()
		tell(t, s, ref, status(end))
		for _, e := range []task.Event{status(task.Working), status(end), piece("x", false)} {
			if _, err := s.Update(t.Context(), ref, func(*task.Record) ([]task.Event, error) { return []task.Event{e}, nil }); !errs.Is(err, errs.Precondition) {
				t.Errorf("%s and then more: %v", end, err)
			}
		}
		if _, err := s.Update(t.Context(), ref, func(r *task.Record) ([]task.Event, error) { r.Push = []task.Push{{ID: "p"}}; return nil, nil }); err != nil {
			t.Errorf("%s, an address: %v", end, err)
		}
	}
}

func lists(t *testing.T, s task.Store) {
	t.Helper()
	base := task.At(time.Now().Add(-time.Hour))
	for i := range 9 {
		r := begun(fmt.Sprintf("t%d", i))
		r.Task.Status.At = base.Add(time.Duration(i/2) * time.Second) // pairs of the same time
		if i%3 == 0 {
			r.Task.ContextID = "third"
		}
		create(t, s, r)
	}
	tell(t, s, task.Ref{Owner: me, ID: "t4"}, task.Event{Status: &task.Status{State: task.InputRequired, At: base.Add(time.Minute)}})
	want := []string{"t4", "t8", "t6", "t7", "t5", "t2", "t3", "t0", "t1"}
	for size := 1; size <= 10; size++ {
		var got []string
		f := task.Filter{Owner: me, Limit: size}
		for {
			p, err := s.List(t.Context(), f)
			if err != nil || p.Total != 9 || len(p.Records) > size {
				t.Fatalf("page of %d: %d of %d, %v", size, len(p.Records), p.Total, err)
			}
			for _, r := range p.Records {
				got = append(got, r.Task.ID)
			}
			if !p.More {
				break
			}
			f.After = p.Next
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages of %d: %s", size, diff)
		}
	}
	for name, c := range map[string]struct {
		f    task.Filter
		want int
	}{
		"context": {task.Filter{Context: "third"}, 3}, "state": {task.Filter{State: task.InputRequired}, 1}, "since": {task.Filter{Since: base.Add(3 * time.Second)}, 4},
		"nothing": {task.Filter{State: task.Failed}, 0},
	} {
		c.f.Owner, c.f.Limit = me, 100
		if p, err := s.List(t.Context(), c.f); err != nil || p.Total != c.want || len(p.Records) != c.want {
			t.Errorf("%s: %d of %d, %v", name, len(p.Records), p.Total, err)
		}
	}
}

func writers(t *testing.T, s task.Store) {
	t.Helper()
	ref := create(t, s, begun("t1")).Ref()
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for range writers {
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
	if got, err := s.Get(t.Context(), ref); err != nil || got.Turns != 1+writers*each || got.Seq != writers*each {
		t.Errorf("%d turns, seq %d, %v", got.Turns, got.Seq, err)
	}
}
