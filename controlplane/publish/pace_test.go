package publish

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
)

// Changes of one agent at these times (in ms) are told at those.
func TestPace(t *testing.T) {
	t.Parallel()
	every := func(step, until int) (out []int) {
		for at := 0; at < until; at += step {
			out = append(out, at)
		}
		return out
	}
	for name, tc := range map[string]struct {
		changes, want []int
	}{
		"one":                                 {[]int{0}, []int{0}},
		"quiet ones":                          {[]int{0, 11, 22, 100, 2000}, []int{0, 11, 22, 100, 2000}},
		"two within a window":                 {[]int{0, 4}, []int{0, 10}},
		"many within a window are one":        {[]int{0, 1, 2, 3, 9}, []int{0, 10}},
		"the second window is twice as long":  {[]int{0, 4, 25, 80}, []int{0, 10, 30, 80}},
		"an empty window ends the churn":      {[]int{0, 4, 35, 40}, []int{0, 10, 35, 45}},
		"churn is told ever less":             {every(2, 700), []int{0, 10, 30, 70, 150, 310, 630, 1270}},
		"but once a second":                   {every(3, 4500), []int{0, 10, 30, 70, 150, 310, 630, 1270, 2270, 3270, 4270, 5270}},
		"the last of the churn is never lost": {[]int{0, 9}, []int{0, 10}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDriven(t)
				began := time.Now()
				go func() {
					for _, at := range tc.changes {
						d.at(began, at)
						d.change("x")
					}
				}()
				<-time.After(10 * time.Second)
				synctest.Wait()
				if diff := cmp.Diff(tc.want, d.times(began)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// What an instance can't see opens no window.
func TestWhatNobodySeesIsNoChurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDriven(t)
		began := time.Now()
		d.touch("x")
		synctest.Wait()
		d.change("x")
		synctest.Wait()
		<-time.After(4 * time.Millisecond)
		d.touch("x") // at the end of the window nothing is told, so it counts as empty
		<-time.After(8 * time.Millisecond)
		d.change("x")
		synctest.Wait()
		if diff := cmp.Diff([]int{0, 12}, d.times(began)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSingleChangesGoFirst(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	agents := func(names string) (out []view.AgentKey) {
		for n := range strings.FieldsSeq(names) {
			out = append(out, view.AgentKey{Name: n})
		}
		return out
	}
	for name, tc := range map[string]struct {
		batches []string
		want    string
	}{
		"many in order":              {[]string{"a b c d e f g h i"}, "A B C D E F G H I"},
		"one that came later":        {[]string{"a b c d e f g h i", "z"}, "z A B C D E F G H I"},
		"one of the many":            {[]string{"a b c d e f g h i", "c"}, "c A B D E F G H I"},
		"one that is then among all": {[]string{"c", "a b c d e f g h i"}, "c A B D E F G H I"},
		"twice":                      {[]string{"b a", "a"}, "b a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSchedule()
			for _, b := range tc.batches {
				s.add(agents(b), now)
			}
			var got []string
			for {
				k, many, ok := s.next(now)
				if !ok {
					break
				}
				if many {
					k.Name = strings.ToUpper(k.Name)
				}
				got = append(got, k.Name)
				s.went(k, true, now)
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
			if len(s.queued) != 0 || len(s.single) != 0 || len(s.many) != 0 {
				t.Errorf("left over: %+v", s)
			}
			if _, _, ok := s.next(now.Add(time.Hour)); ok || len(s.paces) != 0 || len(s.windows) != 0 {
				t.Errorf("windows are left: %d %d", len(s.paces), len(s.windows))
			}
		})
	}
}

// A single change doesn't wait for the fan-out of thousands of agents that is under way.
func TestSingleChangeOvertakesAFanOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDriven(t)
		d.gate = make(chan struct{})
		var all []string
		for i := range 3000 {
			all = append(all, fmt.Sprintf("agent-%04d", i))
		}
		d.watch(append(all, "single")...)
		d.change(all...)
		for range 100 {
			d.gate <- struct{}{}
		}
		d.change("single")
		for range 2901 {
			d.gate <- struct{}{}
		}
		synctest.Wait()
		names := d.names()
		if at := slices.Index(names, "single"); at < 100 || at > 102 {
			t.Errorf("told as number %d of %d", at, len(names))
		}
	})
}

// driven is a publisher that runs over a fake source; each change of an agent moves its head.
type driven struct {
	p *Publisher
	c chan struct{}

	mu      sync.Mutex
	mods    map[string]int64
	touched map[view.AgentKey]bool
	told    []told
	gate    chan struct{} // before each wake-up, where set
}

type told struct {
	agent string
	at    time.Time
}

func newDriven(t *testing.T) *driven {
	t.Helper()
	d := &driven{c: make(chan struct{}, 1), mods: map[string]int64{}, touched: map[view.AgentKey]bool{}}
	f := newFake()
	var err error
	d.p, err = New(Config{Logger: slog.New(slog.DiscardHandler), Source: d, Choose: snapshot.Choose, Build: f.build, Changed: d.c, Changes: d})
	if err != nil {
		t.Fatal(err)
	}
	d.watch("x")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.p.Run(ctx, d) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return d
}

// watch makes the publisher render agents, as their streams do.
func (d *driven) watch(agents ...string) {
	for _, a := range agents {
		_, _ = d.p.Target(snapshot.InstanceID{Namespace: "ns", Agent: a, Instance: "i"}, 1, never)
	}
}

func (d *driven) change(agents ...string) {
	d.mu.Lock()
	for _, a := range agents {
		d.mods[a]++
	}
	d.mu.Unlock()
	d.touch(agents...)
}

func (d *driven) touch(agents ...string) {
	d.mu.Lock()
	for _, a := range agents {
		d.touched[view.AgentKey{Namespace: "ns", Name: a}] = true
	}
	d.mu.Unlock()
	select {
	case d.c <- struct{}{}:
	default:
	}
}

func (d *driven) at(began time.Time, ms int) {
	<-time.After(time.Until(began.Add(time.Duration(ms) * time.Millisecond)))
}

func (d *driven) Heads(_, agent string) (snapshot.Heads, snapshot.Immutables) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return snapshot.Heads{Epoch: 1, Agent: snapshot.AgentHead{ModRevision: 10 + d.mods[agent], Exists: true, Stable: 1}}, nothing{}
}

func (d *driven) Reset(string, string) (epoch uint64, generation int64) { return 0, 0 }

func (d *driven) MoveUpTo(_, _, _ string, _ int64) (view.Move, bool) { return view.Move{}, false }

func (d *driven) Take() ([]view.AgentKey, int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []view.AgentKey
	for k := range d.touched {
		out = append(out, k)
	}
	clear(d.touched)
	return out, 0
}

func (d *driven) Changed(_, agent string) int {
	if d.gate != nil {
		<-d.gate
	}
	d.watch(agent) // a stream that is woken asks
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = append(d.told, told{agent, time.Now()})
	return 1
}

func (d *driven) Proven(namespace, agent string, _ []manifest.Hash) int {
	return d.Changed(namespace, agent)
}

func (d *driven) ChangedWithMany(namespace, agent string) int { return d.Changed(namespace, agent) }

func (d *driven) times(began time.Time) (out []int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.told {
		out = append(out, int(w.at.Sub(began)/time.Millisecond))
	}
	return out
}

func (d *driven) names() (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.told {
		out = append(out, w.agent)
	}
	return out
}
