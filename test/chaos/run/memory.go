package run

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/agentry/agentry/test/chaos/world"
)

// memory samples how much memory processes have resident.
type memory struct {
	world *world.World

	mu    sync.Mutex // guards the rest
	first map[string]int64
	now   map[string]int64
	peak  map[string]int64
}

func newMemory(w *world.World) *memory {
	return &memory{world: w, first: map[string]int64{}, now: map[string]int64{}, peak: map[string]int64{}}
}

func (m *memory) run(ctx context.Context) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		m.sample()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (m *memory) sample() {
	for _, n := range m.world.Nodes() {
		if !n.Running() {
			continue
		}
		b, err := resident(n.PID())
		if err != nil {
			continue
		}
		m.mu.Lock()
		if m.first[n.Name] == 0 {
			m.first[n.Name] = b
		}
		m.now[n.Name], m.peak[n.Name] = b, max(m.peak[n.Name], b)
		m.mu.Unlock()
	}
}

// planes gives the greatest resident size of a control plane now, in bytes.
func (m *memory) planes() int64 {
	m.sample()
	m.mu.Lock()
	defer m.mu.Unlock()
	var most int64
	for _, n := range m.world.Planes {
		most = max(most, m.now[n.Name])
	}
	return most
}

// table gives first and peak of every node, in MiB.
func (m *memory) table() map[string][2]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string][2]int64{}
	for name, peak := range m.peak {
		out[name] = [2]int64{m.first[name] >> 20, peak >> 20}
	}
	return out
}

func resident(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var kb int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("no VmRSS of %d", pid)
}
