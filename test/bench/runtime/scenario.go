package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The systems that take turns.
const (
	direct  = "direct"
	asFloor = "floor"
	asAgent = "agentd"
)

// scenario is one row of requests.
type scenario struct {
	name    string
	tools   bool
	stream  bool
	session bool // for agentd only: the floor keeps none
	workers int
	direct  bool   // the model's own answer is the same, so a direct call means something
	binding string // of the A2A door, for agentd only: the floor's column is its plain turn; "": a chat completion
}

func scenarios(o options) []scenario {
	return []scenario{
		{name: "turn-1", workers: 1, direct: true},
		{name: "turn-many", workers: o.workers, direct: true},
		{name: "tool-1", workers: 1, tools: true},
		{name: "tool-many", workers: o.workers, tools: true},
		{name: "stream-many", workers: o.workers, stream: true, direct: true},
		{name: "session-many", workers: o.workers, session: true},
		{name: "a2a-1", workers: 1, binding: byJSONRPC},
		{name: "a2a-many", workers: o.workers, binding: byJSONRPC},
		{name: "a2a-http-many", workers: o.workers, binding: byHTTP},
		{name: "a2a-grpc-many", workers: o.workers, binding: byGRPC},
	}
}

// measured is one system in one scenario: medians over the rounds.
type measured struct {
	RPS    float64 `json:"rps"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	CPU    float64 `json:"cpu_ms_per_turn"` // of the process itself; 0 for direct
	Failed int     `json:"failed"`
}

type row struct {
	Name    string              `json:"name"`
	Workers int                 `json:"workers"`
	Systems map[string]measured `json:"systems"`
}

func (s scenario) systems() []string {
	if s.direct {
		return []string{direct, asFloor, asAgent}
	}
	return []string{asFloor, asAgent}
}

func (s scenario) agent() string {
	if s.tools {
		return toolsAgent
	}
	return plainAgent
}

// job gives what is asked of a system, and the process that answers.
func (s scenario) job(w *world, system string) (job, int, error) {
	text := "Which configs are there in the namespace public?"
	if s.tools {
		text += " Please " + askTool + "."
	}
	j := job{body: fmt.Appendf(nil, `{"model":"bench","stream":%t,"messages":[{"role":"user","content":%q}]}`, s.stream, text), stream: s.stream}
	switch system {
	case direct:
		j.url = w.stubs.url
		return j, w.stubs.cmd.Process.Pid, nil
	case asFloor:
		j.url = w.floor.url
		if s.tools {
			j.url += "/tools"
		}
		return j, w.floor.cmd.Process.Pid, nil
	}
	a := w.agents[s.agent()]
	if s.binding != "" {
		j, err := a2aJob(a.URL(), s.binding, text)
		return j, a.PID(), err
	}
	j.url = a.URL()
	if s.session {
		stamp := time.Now().UnixNano()
		j.session = func(worker, n int) string { return fmt.Sprintf("bench-%d-%d-%d", stamp, worker, n/10) }
	}
	return j, a.PID(), nil
}

func (s scenario) measure(ctx context.Context, o options, w *world) (row, error) {
	r := row{Name: s.name, Workers: s.workers, Systems: map[string]measured{}}
	all := map[string][]measured{}
	for round := range o.rounds + 1 {
		for _, system := range s.systems() {
			d := o.each
			if round == 0 {
				d /= 3 // warms up: connections, heaps
			}
			m, err := s.once(ctx, w, system, d)
			if err != nil {
				return r, fmt.Errorf("%s: %w", system, err)
			}
			if round > 0 {
				all[system] = append(all[system], m)
			}
		}
	}
	for system, ms := range all {
		r.Systems[system] = medians(ms)
	}
	return r, nil
}

// once measures one system for a while.
func (s scenario) once(ctx context.Context, w *world, system string, d time.Duration) (measured, error) {
	j, pid, err := s.job(w, system)
	if err != nil {
		return measured{}, err
	}
	before, err := cpuOf(pid)
	if err != nil {
		return measured{}, err
	}
	l := drive(ctx, j, s.workers, d)
	if err := ctx.Err(); err != nil {
		return measured{}, err
	}
	if l.failed > 0 || len(l.took) == 0 {
		return measured{}, fmt.Errorf("%d of %d requests failed: %w", l.failed, l.failed+len(l.took), l.fault)
	}
	after, err := cpuOf(pid)
	if err != nil {
		return measured{}, err
	}
	return measured{RPS: l.rps(), P50: l.quantile(0.5), P99: l.quantile(0.99), CPU: ms(after-before) / float64(len(l.took))}, nil
}

func medians(ms []measured) measured {
	return measured{
		RPS: median(ms, func(m measured) float64 { return m.RPS }),
		P50: median(ms, func(m measured) float64 { return m.P50 }),
		P99: median(ms, func(m measured) float64 { return m.P99 }),
		CPU: median(ms, func(m measured) float64 { return m.CPU }),
	}
}

func median(ms []measured, f func(measured) float64) float64 {
	vs := make([]float64, len(ms))
	for i, m := range ms {
		vs[i] = f(m)
	}
	slices.Sort(vs)
	return vs[len(vs)/2]
}

// profile runs the scenario once more against agentd, with its CPU profile on, and then reads what it allocated.
func (s scenario) profile(ctx context.Context, o options, w *world) error {
	if err := os.MkdirAll(o.profiles, 0o750); err != nil {
		return err
	}
	base := "http://" + w.debug[s.agent()] + "/debug/pprof/"
	j, _, err := s.job(w, asAgent)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		done <- save(ctx, base+"profile?seconds=5", filepath.Join(o.profiles, s.name+".cpu.pb.gz"))
	}()
	drive(ctx, j, s.workers, 6*time.Second)
	if err := <-done; err != nil {
		return err
	}
	for _, kind := range []string{"allocs", "heap"} {
		if err := save(ctx, base+kind, filepath.Join(o.profiles, s.name+"."+kind+".pb.gz")); err != nil {
			return err
		}
	}
	return nil
}

func save(ctx context.Context, url, path string) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	var b strings.Builder
	if _, err := io.Copy(&b, resp.Body); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(b.String()), 0o600)
}
