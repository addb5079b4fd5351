package fleet

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

var start = time.Unix(1_000_000, 0)

func table(t *testing.T, greeted bool) *Table {
	t.Helper()
	tb, err := New(Config{Started: start, Greeted: greeted})
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

func ref(generation int64, text string) Ref {
	return Ref{Token: manifest.Token{Epoch: 1, Generation: generation, Hash: manifest.Sum([]byte(text))}, Revision: generation}
}

func enter(tb *Table, at time.Time) Key {
	return tb.Hello(Hello{ID: snapshot.InstanceID{Namespace: "ns", Agent: "a", Instance: "i"}, Version: "v1"}, at).Key
}

func TestSilence(t *testing.T) {
	t.Parallel()
	tb := table(t, false)
	k := enter(tb, start)
	tb.Offer(k, Offer{Desired: ref(1, "a")}, start)
	tb.Report(k, Report{Phase: phase.Applied, Desired: ref(1, "a").Token, Running: ref(1, "a")}, start)
	steps := []struct {
		name string
		do   func()
		want []phase.Phase
	}{
		{"fresh", func() { tb.Tick(start.Add(44 * time.Second)) }, []phase.Phase{phase.Applied}},
		{"no beat for 45 s", func() { tb.Tick(start.Add(45 * time.Second)) }, []phase.Phase{phase.Stale}},
		{"a beat", func() { tb.Beat(k, ref(1, "a"), phase.Live, start.Add(50*time.Second)) }, []phase.Phase{phase.Applied}},
		{"stream lost", func() { tb.Leave(k, Lost, start.Add(60*time.Second)) }, []phase.Phase{phase.Applied}},
		{"within the lease", func() { tb.Tick(start.Add(89 * time.Second)) }, []phase.Phase{phase.Applied}},
		{"lease over", func() { tb.Tick(start.Add(90 * time.Second)) }, []phase.Phase{phase.Offline}},
		{"long gone", func() { tb.Tick(start.Add(660 * time.Second)) }, nil},
	}
	for _, s := range steps {
		s.do()
		var got []phase.Phase
		for _, i := range tb.Agent("ns", "a") {
			got = append(got, i.Phase)
		}
		if d := cmp.Diff(s.want, got); d != "" {
			t.Errorf("%s: %s", s.name, d)
		}
	}
}

func TestPhases(t *testing.T) {
	t.Parallel()
	a, b := ref(1, "a"), ref(2, "b")
	down := []phase.Fault{{Resource: "mcp/m", Code: phase.Unreachable, Severity: phase.Error, Retryable: true}}
	for name, tc := range map[string]struct {
		do   func(*Table, Key)
		want phase.Phase
	}{
		"offered": {func(*Table, Key) {}, phase.Pending},
		"building": {func(tb *Table, k Key) {
			tb.Report(k, Report{Phase: phase.Received, Desired: b.Token, Running: a}, start)
		}, phase.Received},
		"applied": {func(tb *Table, k Key) {
			tb.Report(k, Report{Phase: phase.Applied, Desired: b.Token, Running: b}, start)
		}, phase.Applied},
		"refused": {func(tb *Table, k Key) {
			tb.Report(k, Report{Phase: phase.Rejected, Desired: b.Token, Running: a}, start)
		}, phase.Rejected},
		"fenced": {func(tb *Table, k Key) { tb.Report(k, Report{Phase: phase.Fenced, Desired: b.Token, Running: a}, start) }, phase.Pending},
		"unasked refusal": {func(tb *Table, k Key) {
			tb.Report(k, Report{Phase: phase.Rejected, Desired: b.Token, Running: a, Unasked: true}, start)
		}, phase.Pending},
		"verdict of the releaser": {func(tb *Table, k Key) {
			tb.Report(k, Report{Phase: phase.Received, Desired: b.Token, Running: a, Faults: down}, start)
			tb.Refuse(k, b.Token, "", start)
		}, phase.Rejected},
		"back to what runs": {func(tb *Table, k Key) {
			tb.Report(k, Report{Phase: phase.Received, Desired: b.Token, Running: a, Faults: down}, start)
			tb.Offer(k, Offer{Desired: a}, start)
		}, phase.Applied},
		"of an older stream": {func(tb *Table, k Key) {
			k.Session--
			tb.Report(k, Report{Phase: phase.Applied, Desired: b.Token, Running: b}, start)
		}, phase.Pending},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tb := table(t, false)
			k := enter(tb, start)
			tb.Offer(k, Offer{Desired: a}, start)
			tb.Report(k, Report{Phase: phase.Applied, Desired: a.Token, Running: a}, start)
			tb.Offer(k, Offer{Desired: b}, start)
			tc.do(tb, k)
			if got := tb.Agent("ns", "a")[0].Phase; got != tc.want {
				t.Errorf("phase %s, want %s", got, tc.want)
			}
		})
	}
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	tb := table(t, false)
	first := enter(tb, start)
	h := Hello{ID: first.ID, Version: "v1"}
	for i := 1; i <= 3; i++ {
		g := tb.Hello(h, start.Add(time.Duration(i)*time.Second))
		if g.Replaced == 0 || g.Takeovers != i {
			t.Errorf("takeover %d: %+v", i, g)
		}
	}
	tb.Leave(first, Stopped, start)
	if n := len(tb.All()); n != 1 {
		t.Errorf("%d instances; the end of a replaced stream must change nothing", n)
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	if !table(t, false).Complete(start) {
		t.Error("a store that nobody greeted is complete at once")
	}
	tb := table(t, true)
	if tb.Complete(start.Add(34*time.Second)) || !tb.Complete(start.Add(35*time.Second)) {
		t.Error("a greeted store is complete after 35 s")
	}
}

func TestSubscription(t *testing.T) {
	t.Parallel()
	tb := table(t, false)
	s := tb.Subscribe()
	defer s.Close()
	k := enter(tb, start)
	tb.Leave(k, Lost, start)
	<-s.C
	if d := cmp.Diff([]AgentKey{{Namespace: "ns", Name: "a"}}, s.Take()); d != "" {
		t.Error(d)
	}
	if len(s.Take()) != 0 {
		t.Error("taken twice")
	}
}
