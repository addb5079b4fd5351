package traffic

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/test/chaos/register"
	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/world"
)

// applyLimit is how long one hot update is tried, at one replica after another.
const applyLimit = 20 * time.Second

// Writer updates the agents that serve, one whole marked config at a time.
type Writer struct {
	World    *world.World
	Findings *report.Findings
	Judge    *Judge
	// Name and Seed are the run's; Every is the time between two updates.
	Name  string
	Seed  uint64
	Every time.Duration
	// Pinned names prompts by their versions: see Spec.
	Pinned bool
	// Acked is told of every acknowledged update; nil: nobody is.
	Acked func(u Update)

	quiet sync.RWMutex // held for writing while nobody may update

	mu      sync.Mutex // guards what follows
	doors   []*world.Door
	markers map[string]int
	stats   WriterStats
}

// Update is one acknowledged update.
type Update struct {
	Agent         string
	Marker        int
	Revision      int64 // the agent's
	StoreRevision int64
	Head          string // the agent head's key
	At            time.Time
}

// WriterStats counts updates.
type WriterStats struct {
	Acked   int           `json:"acked"`
	Unknown int           `json:"unknown"`
	Retried int           `json:"retried"` // acknowledged at the second try or later
	Longest time.Duration `json:"longest"` // of an acknowledged one
}

// Begin applies the first configs, before the agents start.
func (h *Writer) Begin(ctx context.Context) error {
	h.doors, h.markers = h.World.Doors(), map[string]int{}
	for _, a := range h.World.Fleet() {
		u, err := h.first(ctx, a.Name)
		if err != nil {
			return fmt.Errorf("first config of %s: %w", a.Name, err)
		}
		h.done(u)
	}
	return nil
}

// Run updates until ctx ends.
func (h *Writer) Run(ctx context.Context) {
	r := rand.New(rand.NewPCG(h.Seed, 0x407)) //nolint:gosec // seeded on purpose
	tick := time.NewTicker(h.Every)
	defer tick.Stop()
	agents := h.World.Fleet()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		h.quiet.RLock()
		h.Update(context.WithoutCancel(ctx), agents[r.IntN(len(agents))].Name, r.IntN(len(h.doors)))
		h.quiet.RUnlock()
	}
}

// Update applies an agent's next config, first at door at. ok is false when nobody said that it was written.
func (h *Writer) Update(ctx context.Context, agent string, at int) (u Update, ok bool) {
	u, ok = h.write(ctx, agent, at, func(k int) map[string]string { return Spec(h.World, agent, k, h.Pinned) })
	if ok {
		h.done(u)
	}
	return u, ok
}

// Refused applies a config that every instance refuses: it asks for a tool that its server doesn't have. Writer must be Pinned.
func (h *Writer) Refused(ctx context.Context, agent string, at int) (u Update, ok bool) {
	return h.write(ctx, agent, at, func(k int) map[string]string {
		files := Spec(h.World, agent, k, true)
		name := agent + "/mcp-servers.json"
		files[name] = strings.Replace(files[name], fmt.Sprintf(`"n%d"`, k%world.ToolNumbers), `"missing"`, 1)
		return files
	})
}

// write applies what spec makes of the agent's next marker.
func (h *Writer) write(ctx context.Context, agent string, at int, spec func(k int) map[string]string) (Update, bool) {
	h.mu.Lock()
	h.markers[agent]++
	k := h.markers[agent]
	h.mu.Unlock()
	files := spec(k)
	ctx, cancel := context.WithTimeout(world.Once(ctx, fmt.Sprintf("%s-%s-%d", h.Name, agent, k)), applyLimit)
	defer cancel()
	began := time.Now()
	var last error
	for try := 0; ctx.Err() == nil; try++ {
		one, stop := context.WithTimeout(ctx, 8*time.Second)
		u, err := h.applyAt(one, h.doors[(at+try)%len(h.doors)], agent, k, files)
		stop()
		if err == nil {
			h.mu.Lock()
			if try > 0 {
				h.stats.Retried++
			}
			h.stats.Longest = max(h.stats.Longest, time.Since(began))
			h.mu.Unlock()
			return u, true
		}
		last = err
		switch connect.CodeOf(err) {
		case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled, connect.CodeUnknown, connect.CodeInternal, connect.CodeResourceExhausted, connect.CodeAborted:
		default:
			h.Findings.Violate("API", "update of %s to marker %d: %v", agent, k, err)
			return Update{}, false
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	h.World.Logf("update of %s to marker %d is unknown: %v", agent, k, last)
	h.mu.Lock()
	h.stats.Unknown++
	h.mu.Unlock()
	return Update{}, false
}

func (h *Writer) first(ctx context.Context, agent string) (Update, error) {
	h.mu.Lock()
	h.markers[agent]++
	k := h.markers[agent]
	h.mu.Unlock()
	return h.applyAt(ctx, h.doors[0], agent, k, Spec(h.World, agent, k, h.Pinned))
}

func (h *Writer) applyAt(ctx context.Context, d *world.Door, agent string, k int, files map[string]string) (Update, error) {
	resp, err := register.Apply(ctx, d, files, nil, fmt.Sprintf("%s marker %d", agent, k))
	if err != nil {
		return Update{}, err
	}
	u := Update{Agent: agent, Marker: k, StoreRevision: resp.GetStoreRevision(), Head: view.HeadKey("agent", "default", agent), At: time.Now()}
	for _, r := range resp.GetResults() {
		if r.GetKind() == "agent" {
			u.Revision = r.GetRevision()
		}
		if r.GetAction() == "refused" {
			return Update{}, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s %s was refused: %s", r.GetKind(), r.GetName(), r.GetReason()))
		}
	}
	return u, nil
}

func (h *Writer) done(u Update) {
	h.mu.Lock()
	h.stats.Acked++
	h.mu.Unlock()
	h.Judge.Acked(u.Agent, u.Revision, u.Marker)
	if h.Acked != nil {
		h.Acked(u)
	}
}

// Quiet waits for the update under way and lets no other begin until the answer is called.
func (h *Writer) Quiet() (again func()) {
	h.quiet.Lock()
	return h.quiet.Unlock
}

// Stats gives the counts so far.
func (h *Writer) Stats() WriterStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stats
}
