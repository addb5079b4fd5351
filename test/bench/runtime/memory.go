package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// settle is how long instances idle before their memory is read.
const settle = 5 * time.Second

// idleResult is what idle instances take, in MB.
type idleResult struct {
	Instances int     `json:"instances"`
	OneRSS    float64 `json:"one_rss_mb"`
	OnePSS    float64 `json:"one_pss_mb"`
	EachPSS   float64 `json:"each_pss_mb"`  // proportional, of all
	EachAnon  float64 `json:"each_anon_mb"` // of that the instance's own
}

// idle starts one instance that nobody asks, then more, and reads their memory.
func idle(ctx context.Context, o options, w *world, doc *document) error {
	var agents []*harness.Agent
	defer func() {
		for _, a := range agents {
			a.Kill()
		}
	}()
	grow := func(n int) error {
		for i := len(agents); i < n; i++ {
			a, err := w.env.StartAgent(w.cp, toolsAgent, harness.AgentOptions{Instance: "idle-" + strconv.Itoa(i)})
			if err != nil {
				return err
			}
			agents = append(agents, a)
			if err := a.WaitReady(ctx, 20*time.Second); err != nil {
				return err
			}
		}
		return wait(ctx, settle)
	}
	r := &idleResult{Instances: o.idle}
	if err := grow(1); err != nil {
		return err
	}
	for key, into := range map[[2]string]*float64{{"status", "VmRSS:"}: &r.OneRSS, {"smaps_rollup", "Pss:"}: &r.OnePSS} {
		v, err := memory(agents[0].PID(), key[0], key[1])
		if err != nil {
			return err
		}
		*into = v
	}
	if err := grow(o.idle); err != nil {
		return err
	}
	for _, a := range agents {
		for key, into := range map[string]*float64{"Pss:": &r.EachPSS, "Pss_Anon:": &r.EachAnon} {
			v, err := memory(a.PID(), "smaps_rollup", key)
			if err != nil {
				return err
			}
			*into += v / float64(len(agents))
		}
	}
	doc.Idle = r
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// sessionTurns is how many turns a session of the mixed load has before it's deleted: what is kept is state and would grow for as long as
// its bounds let it (16 MB in memory), so that a leak couldn't be seen.
const sessionTurns = 20

// mixed is a load of everything: half of the workers call the tool, half of the requests belong to sessions.
func (w *world) mixed(ctx context.Context, o options, d time.Duration, seen func(http.Header)) load {
	var all load
	var mu sync.Mutex // guards all
	var both sync.WaitGroup
	for _, tools := range []bool{false, true} {
		j, _, err := scenario{tools: tools}.job(w, asAgent)
		if err != nil {
			all.failed, all.fault = all.failed+1, err
			continue
		}
		j.url, j.seen = w.agents[toolsAgent].URL(), seen
		j.session = func(worker, n int) string {
			if n%2 == 0 {
				return ""
			}
			return fmt.Sprintf("mixed-%t-%d-%d", tools, worker, n/(2*sessionTurns))
		}
		j.forget = func(_, n int) bool { return n%(2*sessionTurns) == 2*sessionTurns-1 }
		both.Go(func() {
			l := drive(ctx, j, max(o.workers/2, 1), d)
			mu.Lock()
			defer mu.Unlock()
			all.took = append(all.took, l.took...)
			all.failed += l.failed
			all.wall = max(all.wall, l.wall)
			if all.fault == nil {
				all.fault = l.fault
			}
		})
	}
	both.Wait()
	return all
}

// soakResult is an instance's memory under load, in MB.
type soakResult struct {
	Seconds  float64   `json:"seconds"`
	Requests int       `json:"requests"`
	Failed   int       `json:"failed"`
	RSS      []float64 `json:"rss_mb"` // every second
	Half     float64   `json:"rss_at_half_mb"`
	Peak     float64   `json:"rss_peak_mb"`
	End      float64   `json:"rss_end_mb"`
	Floor    float64   `json:"floor_rss_mb"` // the floor's, after its part of the scenarios
}

// soak watches memory while the mixed load runs.
func soak(ctx context.Context, o options, w *world, doc *document) error {
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o750); err != nil {
			return err
		}
	}
	pid := w.agents[toolsAgent].PID()
	r := &soakResult{Seconds: o.soak.Seconds()}
	ended, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		for wait(ended, time.Second) == nil {
			if v, err := memory(pid, "status", "VmRSS:"); err == nil {
				r.RSS = append(r.RSS, v)
			}
		}
	})
	l := w.mixed(ctx, o, o.soak, nil)
	stop()
	watch.Wait()
	if len(r.RSS) == 0 {
		return fmt.Errorf("the memory of the instance could not be read (it may be gone), %d requests failed: %w", l.failed, l.fault)
	}
	r.Requests, r.Failed = len(l.took), l.failed
	r.Half, r.End = r.RSS[len(r.RSS)/2], r.RSS[len(r.RSS)-1]
	for _, v := range r.RSS {
		r.Peak = max(r.Peak, v)
	}
	if o.profiles != "" {
		if err := save(ctx, "http://"+w.debug[toolsAgent]+"/debug/pprof/heap?gc=1", filepath.Join(o.profiles, "soak.heap.pb.gz")); err != nil {
			return err
		}
	}
	var err error
	r.Floor, err = memory(w.floor.cmd.Process.Pid, "status", "VmRSS:")
	doc.Soak = r
	return err
}

// pushResult is what requests felt of revisions.
type pushResult struct {
	Seconds  float64 `json:"seconds"`
	Pushed   int     `json:"pushed"`
	Answered int     `json:"configs_that_answered"`
	Requests int     `json:"requests"`
	Failed   int     `json:"failed"`
	Fault    string  `json:"fault,omitempty"`
	P99      float64 `json:"p99_ms"`
}

// push applies a revision every second while the mixed load runs.
func push(ctx context.Context, o options, w *world, doc *document) error {
	r := &pushResult{Seconds: o.push.Seconds()}
	var mu sync.Mutex // guards configs
	configs := map[string]bool{}
	ended, stop := context.WithCancel(ctx)
	var pushing sync.WaitGroup
	var fault error
	pushing.Go(func() {
		for wait(ended, time.Second) == nil {
			if err := w.revise(ctx, toolsAgent); err != nil {
				fault = err
				return
			}
			r.Pushed++
		}
	})
	l := w.mixed(ctx, o, o.push, func(h http.Header) {
		mu.Lock()
		defer mu.Unlock()
		configs[h.Get("X-Agentry-Config")] = true
	})
	stop()
	pushing.Wait()
	if fault != nil {
		return fmt.Errorf("apply: %w", fault)
	}
	r.Requests, r.Failed, r.Answered = len(l.took), l.failed, len(configs)
	if l.fault != nil {
		r.Fault = l.fault.Error()
	}
	r.P99 = l.quantile(0.99)
	doc.Push = r
	return nil
}
