package traffic

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

// requestLimit is how long a client waits for an answer.
const requestLimit = 30 * time.Second

// Load asks the agents' doors at a steady rate; every third request streams for more than a second.
type Load struct {
	World    *world.World
	Findings *report.Findings
	Judge    *Judge
	Excuses  *Excuses
	// Rate is requests per second over all instances.
	Rate int
	Seed uint64

	mu       sync.Mutex // guards what follows
	stats    LoadStats
	failures []Failure
	streams  int // in flight
}

// LoadStats counts requests.
type LoadStats struct {
	Asked    int `json:"asked"`
	Streamed int `json:"streamed"`
	Served   int `json:"served"`
	// Excused failed at an instance that the fault at work was done to itself; Failed at any other: each is a violation.
	Excused int           `json:"excused"`
	Failed  int           `json:"failed"`
	Slowest time.Duration `json:"slowest"`
}

// Failure is a request that wasn't served.
type Failure struct {
	ID       string
	Node     *world.Node
	From, To time.Time
	Err      error
}

// Run asks until ctx ends, then waits for the last answers.
func (l *Load) Run(ctx context.Context) {
	r := rand.New(rand.NewPCG(l.Seed, 0x10ad)) //nolint:gosec // seeded on purpose
	tick := time.NewTicker(time.Second / time.Duration(l.Rate))
	defer tick.Stop()
	gather := time.NewTicker(time.Second)
	defer gather.Stop()
	var wg sync.WaitGroup
	for id := 1; ; {
		select {
		case <-ctx.Done():
			wg.Wait()
			l.Judge.Gather(l.World)
			return
		case <-gather.C:
			l.Judge.Gather(l.World)
		case <-tick.C:
			n, i := l.World.Agents[r.IntN(len(l.World.Agents))], id
			id++
			wg.Go(func() { l.ask(context.WithoutCancel(ctx), n, i) })
		}
	}
}

func (l *Load) ask(ctx context.Context, n *world.Node, i int) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	a := harness.Agent{Agent: n.Agent, Addr: n.Addr}
	id := fmt.Sprintf("r%d", i)
	streams := i%3 == 0
	from := time.Now()
	var ans harness.Answer
	var err error
	if streams {
		l.stream(1)
		defer l.stream(-1)
		ans, err = a.ChatStream(ctx, "", "slow req "+id, nil)
	} else {
		ans, err = a.Chat(ctx, "", "req "+id)
	}
	to := time.Now()
	if err == nil {
		l.Judge.Answered(n.Agent, id, ans)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Asked++
	if streams {
		l.stats.Streamed++
	}
	if err != nil {
		l.failures = append(l.failures, Failure{id, n, from, to, err})
		return
	}
	l.stats.Served++
	l.stats.Slowest = max(l.stats.Slowest, to.Sub(from))
}

func (l *Load) stream(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams += n
}

// Streams is how many streamed answers are on their way now.
func (l *Load) Streams() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.streams
}

// Settle judges the failures so far: each must be excused. It is called when no fault is at work, and at the end.
func (l *Load) Settle() {
	l.mu.Lock()
	failures := l.failures
	l.failures = nil
	l.mu.Unlock()
	slices.SortFunc(failures, func(a, b Failure) int { return cmp.Compare(a.From.UnixNano(), b.From.UnixNano()) })
	excused, failed := 0, 0
	for _, f := range failures {
		if l.Excuses.Holds(f.Node, f.From, f.To) {
			excused++
			continue
		}
		failed++
		l.Findings.Violate("P6", "request %s at %s failed after %s: %v", f.ID, f.Node.Name, f.To.Sub(f.From).Round(time.Millisecond), f.Err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Excused += excused
	l.stats.Failed += failed
}

// Stats gives the counts so far.
func (l *Load) Stats() LoadStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// Excuses are the times in which requests at a node may fail.
type Excuses struct {
	mu   sync.Mutex // guards list
	list []*Excuse
}

// Excuse is one of them; zero To: it goes on.
type Excuse struct {
	Node     *world.Node
	From, To time.Time
}

// Begin excuses nodes from a moment on; the answer ends it.
func (e *Excuses) Begin(nodes []*world.Node, from time.Time) (end func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var mine []*Excuse
	for _, n := range nodes {
		x := &Excuse{Node: n, From: from}
		mine = append(mine, x)
		e.list = append(e.list, x)
	}
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, x := range mine {
			x.To = time.Now()
		}
	}
}

// Holds tells whether a request at a node that ran between two moments is excused.
func (e *Excuses) Holds(n *world.Node, from, to time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.list, func(x *Excuse) bool {
		return x.Node == n && !to.Before(x.From) && (x.To.IsZero() || !from.After(x.To))
	})
}
