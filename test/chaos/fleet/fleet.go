// Package fleet watches what every instance really runs: that it never goes back (P2), and how long it takes until all of them run what
// the store says (P3).
package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

// Dump is what an agentd says of itself, as far as it counts here.
type Dump struct {
	Client struct {
		Connected bool           `json:"connected"`
		Address   string         `json:"address"`
		Reason    string         `json:"reason"`
		Phase     string         `json:"phase"`
		State     string         `json:"configState"`
		Fence     manifest.Fence `json:"fence"`
		Refusals  []struct {
			Token manifest.Token `json:"token"`
		} `json:"refusals"`
	} `json:"controlPlane"`
	Loaded *struct {
		Revision int64          `json:"revision"`
		Config   string         `json:"config"`
		Token    manifest.Token `json:"token"`
	} `json:"loaded"`
}

// Read asks an agentd what it runs.
func Read(ctx context.Context, n *world.Node) (Dump, error) {
	var d Dump
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	code, body, err := harness.Get(ctx, n.URL()+"/admin/config")
	if err != nil {
		return d, err
	}
	if code != 200 {
		return d, fmt.Errorf("%s: /admin/config %d: %s", n.Name, code, body)
	}
	return d, json.Unmarshal([]byte(body), &d)
}

// Watch polls all instances.
type Watch struct {
	World    *world.World
	Findings *report.Findings
	// Every is the time between two looks.
	Every time.Duration

	asking  sync.Map   // *world.Node -> *sync.Mutex: see Look
	mu      sync.Mutex // guards what follows
	last    map[*world.Node]mark
	free    map[*world.Node]bool
	making  bool    // see Making
	doubts  []doubt // that came up since
	looks   int
	pending []update
	spread  []time.Duration
}

// mark is the furthest that an instance was seen.
type mark struct {
	epoch      uint64
	generation int64
	revision   int64 // what it runs now
	fence      manifest.Fence
	config     string
}

// doubt is a node that went back while a fault was made, which may have been let to.
type doubt struct {
	node *world.Node
	text string
}

// update is one that not every instance was seen to run yet.
type update struct {
	agent    string
	revision int64
	at       time.Time
}

// Run polls until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	tick := time.NewTicker(w.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.look(ctx)
	}
}

func (w *Watch) look(ctx context.Context) {
	var wg sync.WaitGroup
	for _, n := range w.World.Agents {
		wg.Go(func() {
			_, _ = w.Look(ctx, n) // who can't be asked is seen the next time
		})
	}
	wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	now := time.Now()
	keep := w.pending[:0]
	for _, u := range w.pending {
		if w.everywhere(u) {
			w.spread = append(w.spread, now.Sub(u.at))
		} else {
			keep = append(keep, u)
		}
	}
	w.pending = keep
}

// everywhere tells whether all instances of an agent run an update or a later one. w.mu is held.
func (w *Watch) everywhere(u update) bool {
	for _, n := range w.World.Instances(u.agent) {
		if w.last[n].revision < u.revision {
			return false
		}
	}
	return true
}

// Look asks an instance and takes what it said. One look at an instance follows the other: an answer that was long on its way would pass
// for one that went back.
func (w *Watch) Look(ctx context.Context, n *world.Node) (Dump, error) {
	turn, _ := w.asking.LoadOrStore(n, &sync.Mutex{})
	mu, ok := turn.(*sync.Mutex)
	if !ok {
		panic("fleet: not a mutex")
	}
	mu.Lock()
	defer mu.Unlock()
	d, err := Read(ctx, n)
	if err == nil {
		w.Saw(n, d)
	}
	return d, err
}

// Saw takes what an instance said. What it runs and its fence never fall, whatever replica it talks to and however often it is started.
func (w *Watch) Saw(n *world.Node, d Dump) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		w.last, w.free = map[*world.Node]mark{}, map[*world.Node]bool{}
	}
	m, known := w.last[n]
	if d.Loaded != nil {
		t := d.Loaded.Token
		back := t.Epoch < m.epoch || (t.Epoch == m.epoch && t.Generation < m.generation)
		if known && back {
			w.wentBack(n, "%s went back from epoch %d, generation %d (%s) to %d, %d (%s)", n.Name, m.epoch, m.generation, m.config, t.Epoch, t.Generation, d.Loaded.Config)
		}
		m.epoch, m.generation, m.revision, m.config = t.Epoch, t.Generation, d.Loaded.Revision, d.Loaded.Config
	}
	if f := d.Client.Fence; f.ClusterID != "" {
		back := f.Epoch < m.fence.Epoch || (f.Epoch == m.fence.Epoch && f.Generation < m.fence.Generation)
		if known && back && f.ClusterID == m.fence.ClusterID {
			w.wentBack(n, "the fence of %s went back from %+v to %+v", n.Name, m.fence, f)
		}
		m.fence = f
	}
	w.last[n] = m
}

// wentBack finds fault with a node that was not let. w.mu is held.
func (w *Watch) wentBack(n *world.Node, format string, args ...any) {
	switch {
	case w.free[n]:
	case w.making:
		w.doubts = append(w.doubts, doubt{n, fmt.Sprintf(format, args...)})
	default:
		w.Findings.Violate("P2", format, args...)
	}
}

// Making begins a fault that doesn't say yet from whom it takes what: until the answer is called nobody is judged. Its nodes may go back from
// then on, as Free has it, and might before; whoever else did is found.
func (w *Watch) Making() (made func(free []*world.Node) (end func())) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.making = true
	return func(free []*world.Node) (end func()) {
		end = w.Free(free)
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, d := range w.doubts {
			if !slices.Contains(free, d.node) {
				w.Findings.Violate("P2", "%s", d.text)
			}
		}
		w.making, w.doubts = false, nil
		return end
	}
}

// Free lets nodes go back until the answer is called: what they had was taken from them.
func (w *Watch) Free(nodes []*world.Node) (end func()) {
	set := func(v bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, n := range nodes {
			if w.free == nil {
				w.last, w.free = map[*world.Node]mark{}, map[*world.Node]bool{}
			}
			w.free[n] = v
		}
	}
	set(true)
	return func() { set(false) }
}

// Expect begins to measure how long an acknowledged update takes to be run by all instances of its agent.
func (w *Watch) Expect(agent string, revision int64, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = append(w.pending, update{agent, revision, at})
}

// Spread gives how long updates took, and how many are still on their way.
func (w *Watch) Spread() (took []time.Duration, pending, looks int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Duration{}, w.spread...), len(w.pending), w.looks
}
