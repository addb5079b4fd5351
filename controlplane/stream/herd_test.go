package stream

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
)

// 5,000 instances come back at one moment and do what they are told: all are in well within 30 s, never faster than the rate.
func TestHerdIsAdmittedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const instances, rate = 5000, 1000
		g := gate{bucket: newBucket(rate, rate)}
		began := time.Now()
		var mu sync.Mutex
		perSecond := map[int]int{}
		tries := 0
		var all sync.WaitGroup
		for range instances {
			all.Go(func() {
				for {
					mu.Lock()
					tries++
					mu.Unlock()
					away := g.admit(time.Now())
					if away == nil {
						break
					}
					<-time.After(away.GetRetryAfter().AsDuration())
				}
				mu.Lock()
				defer mu.Unlock()
				perSecond[int(time.Since(began)/time.Second)]++
			})
		}
		all.Wait()
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("the last came in after %s", took)
		}
		in := 0
		for s := range 30 {
			if in += perSecond[s]; in > rate+(s+1)*rate {
				t.Errorf("%d were in after %d s", in, s+1)
			}
		}
		if tries > 4*instances {
			t.Errorf("%d tries of %d instances", tries, instances)
		}
	})
}

func TestBucket(t *testing.T) {
	t.Parallel()
	b := newBucket(10, 2)
	now := time.Unix(100, 0)
	var got []time.Duration
	for _, at := range []int{0, 0, 0, 0, 50, 100, 100, 400, 10_000, 10_000, 10_000} {
		got = append(got, b.take(now.Add(time.Duration(at)*time.Millisecond)).Round(time.Millisecond))
	}
	want := []time.Duration{
		0, 0, 100 * time.Millisecond, 200 * time.Millisecond, 250 * time.Millisecond, 0, 300 * time.Millisecond, 0, 0, 0, 100 * time.Millisecond,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestTooManyStreamsAreSentAwayBeforeAnyWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.OpenRate, c.OpenBurst = 1, 2 })
	w.set(config(10, 1, "agent/x=a"))
	for i := range 2 {
		w.dial(hello(fmt.Sprintf("i%d", i))).expect("snapshot 1 g10 1[agent/x]")
	}
	p := w.dial(hello("late"))
	m := p.expect("goaway busy")
	if after := m.GetGoaway().GetRetryAfter().AsDuration(); after < 500*time.Millisecond || after > 30*time.Second {
		t.Errorf("come back after %s", after)
	}
	p.expect("end")
	if n := len(w.table.All()); n != 2 {
		t.Errorf("%d instances were entered, want 2", n)
	}
	if got := w.hub.Stats(); got.Early != 1 || got.Snapshots != 2 {
		t.Errorf("%+v", got)
	}
}

func TestAStopSpreadsWithTheNumberOfStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.dial(hello("i1")).expect("unknown g0")
	got := map[int]time.Duration{}
	for _, n := range []int{0, 5, 1000, 5000, 1_000_000} {
		got[n] = w.hub.spread(n)
	}
	want := map[int]time.Duration{
		0: 0, 5: 10 * time.Millisecond, 1000: 2 * time.Second, 5000: 10 * time.Second, 1_000_000: 30 * time.Second,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestAnOldStreamEndsWhenItsLastOfferIsAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.MaxAge = 200 * time.Millisecond })
	a, b := config(10, 1, "agent/x=a"), config(11, 2, "agent/x=b")
	w.set(a)
	p := w.dial(hello("i1"))
	m := p.expect("snapshot 1 g10 1[agent/x]")
	w.set(b)
	<-time.After(400 * time.Millisecond) // old by now
	p.report(nonce(m), applied, token(a), token(a))
	p.report(nonce(p.expect("snapshot 2 g11 1[agent/x]")), applied, token(b), token(b))
	p.expect("goaway rebalance")
	if err := p.gone(); status.Code(err) != codes.Unknown && err.Error() != "EOF" {
		t.Errorf("ended with %v", err)
	}
	if all := w.table.Agent(ns, helper); len(all) != 1 || all[0].Running.Token != b.Snapshot.Token {
		t.Errorf("fleet: %+v", all)
	}
	h := hello("i1")
	h.Running, h.Held = token(b), heldOf(b)
	w.dial(h).expect("current 2 g11")
}

// Several hundred streams of one agent stand in line; all of them get the newest, and so does who leaves and comes back meanwhile.
func TestManyStreamsInLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	const streams = 4 * atWork
	rounds := 5
	w.set(config(1, 1, "agent/x=1"))
	var all sync.WaitGroup
	last := fmt.Sprintf("snapshot %d ", rounds)
	for i := range streams {
		p := w.dial(hello(fmt.Sprintf("i%03d", i)))
		leaves := i%10 == 0
		all.Go(func() {
			for {
				s, m := p.next()
				if !strings.HasPrefix(s, "snapshot") {
					t.Errorf("instance %d got %q", i, s)
					return
				}
				tok := m.GetSnapshot().GetToken()
				p.report(nonce(m), applied, tok, tok)
				if strings.HasPrefix(s, last) {
					return
				}
				if leaves {
					p.close()
					p = w.dial(hello(fmt.Sprintf("i%03d", i)))
				}
			}
		})
	}
	w.until("all here", func(in []fleet.Instance) bool {
		return !slices.ContainsFunc(in, func(i fleet.Instance) bool { return i.Running.Token.IsZero() }) && len(in) == streams
	})
	for r := 2; r <= rounds; r++ {
		w.set(config(int64(r), int64(r), fmt.Sprintf("agent/x=%d", r)))
	}
	all.Wait()
	// Who learnt of the newest by an answer may still stand there: the line is slower on a busy machine.
	w.until("nobody in line", func([]fleet.Instance) bool {
		w.hub.line.mu.Lock()
		defer w.hub.line.mu.Unlock()
		return len(w.hub.line.waiting) == 0
	})
}

// A change to one agent is sent before what is left of a change to many.
func TestFewOvertakeMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.set(config(1, 1, "agent/x=1"))
	w.mu.Lock()
	w.targets["single"] = config(1, 1, "agent/s=1")
	w.mu.Unlock()
	h := hello("s")
	h.Agent = "single"
	s := w.dial(h)
	r := config(1, 1, "agent/s=1")
	s.report(nonce(s.expect("snapshot 1 g1 1[agent/s]")), applied, token(r), token(r))
	// Streams that hold their turn until the test lets them go: none is taken, as if all cores were busy with the many.
	w.hub.line.mu.Lock()
	w.hub.line.busy = atWork
	w.hub.line.mu.Unlock()
	many := w.dial(hello("m0"))
	first := config(1, 1, "agent/x=1")
	many.report(nonce(many.expect("snapshot 1 g1 1[agent/x]")), applied, token(first), token(first))
	w.until("applied", func(in []fleet.Instance) bool { return len(in) == 1 && !in[0].Running.Token.IsZero() })
	second := config(2, 2, "agent/x=2")
	w.mu.Lock()
	w.targets[helper] = second
	w.targets["single"] = config(2, 2, "agent/s=2")
	w.mu.Unlock()
	w.hub.ChangedWithMany(ns, helper)
	w.hub.Changed(ns, "single")
	s.expect("snapshot 2 g2 1[agent/s]")
	w.hub.line.mu.Lock()
	if got := len(w.hub.line.waiting); got != 1 {
		t.Errorf("%d in line, want 1", got)
	}
	w.hub.line.busy = 0
	w.hub.line.advance()
	w.hub.line.mu.Unlock()
	many.expect("snapshot 2 g2 1[agent/x]")
}

// While more goroutines wait to run than the process gets through, no stream of many begins; then all do, without anybody's asking.
func TestManyWaitWhileTheProcessIsCrowded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first, second := config(1, 1, "agent/x=1"), config(2, 2, "agent/x=2")
	w.set(first)
	var many []*peer
	for i := range few + 1 {
		p := w.dial(hello(fmt.Sprintf("i%03d", i)))
		p.report(nonce(p.expect("snapshot 1 g1 1[agent/x]")), applied, token(first), token(first))
		many = append(many, p)
	}
	w.until("applied", func(in []fleet.Instance) bool {
		return !slices.ContainsFunc(in, func(i fleet.Instance) bool { return i.Running.Token.IsZero() })
	})
	var crowded atomic.Bool
	crowded.Store(true)
	asked := make(chan struct{}, 1)
	w.hub.line.mu.Lock()
	w.hub.line.crowded = func() bool {
		select {
		case asked <- struct{}{}:
		default: // the test knows already
		}
		return crowded.Load()
	}
	w.hub.line.endure = 1 << 30
	w.hub.line.mu.Unlock()
	w.set(second)
	for range 3 { // it looks again by itself
		<-asked
	}
	w.hub.line.mu.Lock()
	if got := len(w.hub.line.waiting); got != len(many) {
		t.Errorf("%d in line, want %d", got, len(many))
	}
	w.hub.line.mu.Unlock()
	crowded.Store(false)
	for _, p := range many {
		p.report(nonce(p.expect("snapshot 2 g2 1[agent/x]")), applied, token(second), token(second))
	}
	crowded.Store(true) // for good: they get through all the same
	w.hub.line.mu.Lock()
	w.hub.line.endure = 0
	w.hub.line.mu.Unlock()
	w.set(config(3, 3, "agent/x=3"))
	for _, p := range many {
		p.expect("snapshot 3 g3 1[agent/x]")
	}
}

// A stuck stream gives its turn back before it waits, so a fan-out passes it.
func TestStuckStreamsHoldNoTurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.SendWait = wait })
	big := func(generation int64) *snapshot.Rendered {
		return config(generation, generation, "agent/x="+strings.Repeat("a", 256<<10)+fmt.Sprint(generation))
	}
	w.set(big(1))
	for i := range atWork + 3 {
		stuck := w.connect() // never reads
		stuck.send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Hello{Hello: hello(fmt.Sprintf("stuck%d", i))}})
	}
	w.until("offered", func(all []fleet.Instance) bool {
		return len(all) == atWork+3 && !slices.ContainsFunc(all, func(i fleet.Instance) bool { return i.Offered.IsZero() })
	})
	p := w.dial(hello("i1"))
	r := big(1)
	p.report(nonce(p.expect("snapshot 1 g1 1[agent/x]")), applied, token(r), token(r))
	w.until("applied", func(all []fleet.Instance) bool {
		return slices.ContainsFunc(all, func(i fleet.Instance) bool { return !i.Running.Token.IsZero() })
	})
	p.quiet(w)
	for g := int64(2); g < 5; g++ {
		r := with(big(g), func(r *snapshot.Rendered) { r.Denied = []string{fmt.Sprint("t", g)} }) // an overlay is sent to the stuck too
		w.mu.Lock()
		w.targets[helper] = r
		w.mu.Unlock()
		w.hub.ChangedWithMany(ns, helper)
		p.expect(fmt.Sprint("overlay t", g))
		p.report(nonce(p.expect(fmt.Sprintf("snapshot %d g%d 1[agent/x]", g, g))), applied, token(r), token(r))
	}
}
