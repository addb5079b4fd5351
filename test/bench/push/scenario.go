package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentry/agentry/test/harness"
	"github.com/agentry/agentry/test/harness/herd"
)

// scene is a control plane with the bench's agents, and what a scenario does to it.
type scene struct {
	*agentry

	o       options
	out     io.Writer
	files   sync.Mutex // the versions of the prompts
	herds   []*herd.Herd
	results map[string]any
}

// settleTime bounds every wait for a herd.
const settleTime = 2 * time.Minute

// runScenario runs one of the scenarios that have no counterpart in the servers to compare with.
func runScenario(ctx context.Context, o options, name, dir string, out io.Writer) error {
	run, ok := map[string]func(*scene, context.Context) error{
		"stuck": (*scene).stuck, "restart": (*scene).restart, "shared": (*scene).shared, "latency": (*scene).latency,
	}[name]
	if !ok {
		return fmt.Errorf("no scenario %q: one of stuck, restart, shared and latency", name)
	}
	srv, err := startServer(ctx, o, nameAgentry, filepath.Join(dir, nameAgentry), nil)
	if err != nil {
		return err
	}
	defer srv.close()
	a, ok := srv.(*agentry)
	if !ok {
		return errors.New("the scenario is for agentry")
	}
	s := &scene{agentry: a, o: o, out: out, results: map[string]any{"scenario": name, "n": o.n, "agents": o.agents}}
	defer func() {
		for _, h := range s.herds {
			h.Close()
		}
	}()
	if err := run(s, ctx); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(s.results)
}

// tell prints a line of the result.
func (s *scene) tell(key string, value any) {
	if f, ok := value.(float64); ok {
		value = float64(int64(f*100)) / 100
	}
	s.results[strings.TrimSpace(key)] = value
	fmt.Fprintf(s.out, "%-52s %v\n", key, value)
}

// herd starts simulated instances and waits until all are served.
func (s *scene) herd(prefix string, n int, agents ...string) (*herd.Herd, error) {
	h, err := herd.Start(herd.Config{Target: s.cp.Runtime, CACert: s.o.ca.cert, CAKey: s.o.ca.key, N: n, Agents: agents, Prefix: prefix})
	if err != nil {
		return nil, err
	}
	s.herds = append(s.herds, h)
	_, err = h.Confirmed(settleTime)
	return h, err
}

func (s *scene) agents() (names []string) {
	for i := range s.o.agents {
		names = append(names, agentName(i))
	}
	return names
}

// publish applies the next version of the prompt of a scope.
func (s *scene) publish(ctx context.Context, scope string) error {
	files := harness.Files{}
	s.files.Lock()
	s.prompt(files, scope)
	s.files.Unlock()
	_, err := s.api.Apply(ctx, files)
	return err
}

// push makes one change to a scope and waits until all of a herd have applied it. Times are from the start of the write.
func (s *scene) push(ctx context.Context, scope string, h *herd.Herd) (times, error) {
	from, err := h.State()
	if err != nil {
		return times{}, err
	}
	began := herd.Now()
	if err := s.publish(ctx, scope); err != nil {
		return times{}, err
	}
	wrote := herd.Now()
	at, err := h.Above(from.Newest, settleTime)
	return times{last: ms(at.Last - began), p50: ms(at.P50 - began), p99: ms(at.P99 - began), write: ms(wrote - began)}, err
}

// pushes makes changes one after the other, each when the one before has settled.
func (s *scene) pushes(ctx context.Context, scope string, h *herd.Herd, n int) (last, p99 []float64, err error) {
	for range n {
		if err := quiet(ctx, s.process()); err != nil {
			return nil, nil, err
		}
		t, err := s.push(ctx, scope, h)
		if err != nil {
			return nil, nil, err
		}
		last, p99 = append(last, t.last), append(p99, t.p99)
	}
	return last, p99, nil
}

// rests waits until nothing was written for three seconds: what was applied is recorded a moment later.
func (s *scene) rests(ctx context.Context) (float64, error) {
	last, still := -1.0, 0
	for still < 6 {
		at, err := s.cp.Metric(ctx, "agentry_view_revision")
		if err != nil {
			return 0, err
		}
		still++
		if at != last {
			last, still = at, 0
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return last, quiet(ctx, s.process())
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// rank gives the value that a part of all doesn't exceed.
func rank(v []float64, part float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[min(len(v)-1, int(float64(len(v))*part))]
}
