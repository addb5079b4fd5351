package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/internal/errs"
)

// running starts a queue in the test's bubble; stop ends it and waits.
func running(t *testing.T, s *memstore.Store, size int) (q *Queue, stop func()) {
	t.Helper()
	q, err := NewQueue(QueueConfig{Store: s, Origin: origin(), Logger: quiet(), Size: size})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	return q, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func denied(actor, method string) Event {
	return Event{Type: Denied, Call: Call{Actor: actor, Method: method, Namespace: "default"}, Outcome: "permission_denied", Message: "needs spec.write"}
}

func used(instance string) Event {
	return Event{Type: CredentialUse, Call: Call{Actor: "agent:default/helper", Namespace: "default"}, Objects: []string{"credential/key@3"}, Instance: instance, Outcome: OK}
}

func told(entries []Entry) []string {
	var out []string
	for _, e := range entries {
		out = append(out, string(e.Type)+" "+e.Actor+": "+e.Message)
	}
	slices.Sort(out)
	return out
}

func TestRepeatsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		q, stop := running(t, s, 0)
		for range 137 {
			q.Record(denied("user:eve", "/Apply"))
		}
		q.Record(denied("user:eve", "/Delete"))
		q.Record(denied("user:mal", "/Apply"))
		q.Record(Event{Type: Unauthenticated, Call: Call{Actor: "10.0.0.1", Method: "/Apply"}, Outcome: "unauthenticated"})
		for i := range 5000 {
			q.Record(used(fmt.Sprintf("pod-%04d", i)))
			if i%1000 == 999 {
				pass(time.Second)
			}
		}
		synctest.Wait()
		first := []string{
			"credential_use agent:default/helper: handed to pod-0000", "denied user:eve: needs spec.write", "denied user:eve: needs spec.write",
			"denied user:mal: needs spec.write", "unauthenticated 10.0.0.1: ",
		}
		if diff := cmp.Diff(first, told(pendingIn(t, s))); diff != "" {
			t.Error(diff)
		}
		pass(11 * time.Second)
		synctest.Wait()
		instances := make([]string, 20)
		for i := range instances {
			instances[i] = fmt.Sprintf("pod-%04d", i+1)
		}
		want := append(slices.Clone(first), "denied user:eve: 136 more times within 10s",
			"credential_use agent:default/helper: handed out 4999 more times within 10s, to "+strings.Join(instances, ", ")+", ...")
		slices.Sort(want)
		if diff := cmp.Diff(want, told(pendingIn(t, s))); diff != "" {
			t.Error(diff)
		}
		pass(time.Minute)
		q.Record(denied("user:eve", "/Apply")) // a new window
		q.Record(denied("user:eve", "/Apply"))
		stop() // and what is counted at the end isn't lost
		if got := len(pendingIn(t, s)); got != len(want)+2 {
			t.Errorf("%d entries, want %d", got, len(want)+2)
		}
	})
}

func TestAFullQueueCountsWhatItLoses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		q, err := NewQueue(QueueConfig{Store: s, Origin: origin(), Logger: quiet(), Size: 4})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			q.Record(denied(fmt.Sprintf("user:u%d", i), "/Apply"))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := q.Run(ctx); err != nil {
			t.Fatal(err)
		}
		got := told(pendingIn(t, s))
		if len(got) != 5 || got[4] != "lost system: 6 events lost: more came than could be written" || q.Dropped() != 6 {
			t.Errorf("dropped %d, entries %q", q.Dropped(), got)
		}
	})
}

func TestEntriesWaitForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		for range 5 {
			s.FailNext(errs.New(errs.Unavailable, "no leader"))
		}
		q, stop := running(t, s, 0)
		defer stop()
		q.Record(denied("user:eve", "/Apply"))
		pass(time.Minute)
		synctest.Wait()
		if got := pendingIn(t, s); len(got) != 1 {
			t.Errorf("entries %v", got)
		}
	})
}

// Whoever tries one object after another is seen with all of them.
func TestRepeatsOfADeniedCallNameTheirObjects(t *testing.T) {
	t.Parallel()
	c := coalescer{span: 10 * time.Second, windows: map[sameness]*window{}}
	now := time.Unix(1, 0)
	for i := range 40 {
		e := denied("user:eve", "/Get")
		e.Time, e.Object = now, fmt.Sprintf("agent/a%d", i%30)
		c.add(e, now)
	}
	due := c.due(now.Add(time.Minute))
	if len(due) != 1 || len(due[0].Objects) != maxListed || due[0].Objects[0] != "agent/a1" || due[0].Message != "39 more times within 10s" {
		t.Errorf("got %+v", due)
	}
}

func TestCallersWithoutEndMakeNoEntriesWithoutEnd(t *testing.T) {
	t.Parallel()
	c := coalescer{span: 10 * time.Second, windows: map[sameness]*window{}}
	now, entries := time.Unix(1, 0), 0
	for i := range 100_000 {
		e := denied(fmt.Sprintf("10.0.%d", i), "/Apply")
		e.Time = now
		if _, told := c.add(e, now); told {
			entries++
		}
	}
	if entries != maxWindows+1 || len(c.windows) != maxWindows+1 {
		t.Errorf("%d entries, %d windows", entries, len(c.windows))
	}
	if due := c.due(now.Add(10 * time.Second)); len(due) != 1 || due[0].Actor != "several" || len(c.windows) != 0 {
		t.Errorf("%d due, %d windows left", len(due), len(c.windows))
	}
}

func TestWhoReadsFindsWhatWasJustTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		q, stop := running(t, s, 0)
		began := time.Now()
		for i := range 3 {
			q.Record(denied(fmt.Sprintf("user:u%d", i), "/Apply"))
			if err := q.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := len(pendingIn(t, s)); got != i+1 {
				t.Errorf("%d entries after %d", got, i+1)
			}
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("waited %s", waited)
		}
		stop()
		late, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := q.Flush(late); !errs.Is(err, errs.Timeout) {
			t.Errorf("after its end: %v", err)
		}
	})
}
