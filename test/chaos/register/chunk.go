package register

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

// Bounds of a check.
const (
	checkLimit = 30 * time.Second // of porcupine's search in one chunk
	cutLimit   = 90 * time.Second // of the read that ends a chunk: longer than any fault keeps the store away
)

// chunk is part of one register's history.
type chunk struct {
	target Target
	first  State
	ops    []Op
}

// cut ends a register's chunk by a read while nobody else uses the register, which says where the next one begins. Writes whose outcome
// is unknown, and whose check can still hold, are in the next chunk too: they may yet happen.
func (s *Suite) cut(ctx context.Context, r *register, out chan<- chunk) {
	r.using.Lock()
	defer r.using.Unlock()
	var state State
	last := Op{Key: r.target.Name(), Client: s.cfg.Clients, Kind: Read, Outcome: OK, Tries: 1}
	err := harness.Poll(ctx, cutLimit, func(ctx context.Context) error {
		for _, d := range s.doors {
			one, cancel := context.WithTimeout(ctx, readDeadline)
			last.Call, last.Node = s.now(), d.Node.Name
			var err error
			state, err = r.target.Read(world.Linearizable(one), d)
			cancel()
			if err == nil {
				return nil
			}
		}
		return fmt.Errorf("no replica answers a read of %s", r.target.Name())
	})
	if err != nil {
		if ctx.Err() == nil {
			s.cfg.Findings.Violate("P1", "register %s can't be read: %v", r.target.Name(), err)
		}
		return
	}
	last.Return, last.Version, last.Value = s.now(), state.Version, state.Value
	r.saw(state.Version)
	s.done(r, last)
	r.mu.Lock()
	c := chunk{r.target, r.first, r.ops}
	r.first, r.ops = state, nil
	for _, op := range c.ops {
		if op.Kind == CAS && op.Outcome == Unknown && op.Expect >= state.Version {
			op.Call = last.Return
			r.ops = append(r.ops, op)
		}
	}
	r.mu.Unlock()
	out <- c
}

func (s *Suite) check(c chunk) {
	ok, undecided := Check(c.first, c.ops, checkLimit)
	s.mu.Lock()
	s.stats.Chunks++
	if undecided {
		s.stats.Undecided++
	} else {
		for _, op := range c.ops {
			if op.Outcome != Unknown {
				s.stats.Checked++
			}
		}
	}
	n := s.stats.Chunks
	s.mu.Unlock()
	if ok {
		return
	}
	file := filepath.Join(s.cfg.World.Dir, fmt.Sprintf("porcupine-%s-%d.html", c.target.Name(), n))
	if err := Explain(c.first, c.ops, checkLimit, file); err != nil {
		s.cfg.World.Logf("picture of the history: %v", err)
	}
	if undecided {
		s.cfg.Findings.Violate("P1", "no verdict within %s on %d operations on %s (%s)", checkLimit, len(c.ops), c.target.Name(), file)
		return
	}
	s.cfg.Findings.Violate("P1", "%d operations on %s can't be put in order (%s)", len(c.ops), c.target.Name(), file)
}
