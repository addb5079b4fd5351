package run

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/harness"
)

// End ends the work, judges what is left, ends the world and answers the report. What was found is in it.
func (s *Stage) End(ctx context.Context) *report.Report {
	ctx = context.WithoutCancel(ctx)
	s.Findings.During("the end")
	worked := time.Since(s.began) - s.ready
	s.last(ctx)
	stops := s.stop
	s.stop = nil
	for i, stop := range stops { // the last one ends the background
		if i == len(stops)-1 {
			s.Load.Settle()
			if err := s.store.CompareEnd(ctx); err != nil {
				s.Findings.Violate("harness", "read the store at the end: %v", err)
			}
			s.store.Settle(true)
			s.watches.Settle(ctx, true, 20*time.Second)
		}
		stop()
	}
	s.wg.Wait()
	for _, n := range s.World.Nodes() {
		n.Kill()
	}
	s.refusals()
	logs := s.secrets()
	r := s.report(worked)
	r.Logs = logs
	s.World.Stop()
	_ = s.store.Close()
	all, n := s.Findings.All()
	r.Findings, r.Violations = all, n
	return r
}

// last updates every agent once more, and waits until all is well everywhere.
func (s *Stage) last(ctx context.Context) {
	for i, a := range s.World.Fleet() {
		s.Writer.Update(ctx, a.Name, i)
	}
	again := s.Writer.Quiet()
	defer again()
	since := time.Now()
	if _, err := s.Fleet.Converged(ctx, s.doors, since, convergeLimit); err != nil {
		s.Findings.Violate("P3", "at the end the fleet isn't on what the store wants: %v", err)
	}
	if took, err := s.Fleet.Settled(ctx, s.doors, since, time.Minute); err != nil {
		s.Findings.Violate("P3", "at the end not every replica shows every agent settled: %v", err)
	} else {
		s.cfg.Logf("every replica shows every agent settled after %s", took.Round(time.Millisecond))
	}
}

var rejected = regexp.MustCompile(`msg="config settled" config=(\S+) phase=REJECTED`)

// refusals holds every instance to have been offered a refused config once (P5), by what it logged.
func (s *Stage) refusals() {
	for _, n := range s.World.Agents {
		b, err := os.ReadFile(filepath.Join(s.World.Dir, n.Name+".log"))
		if err != nil {
			s.Findings.Violate("harness", "%v", err)
			continue
		}
		times := map[string]int{}
		for _, m := range rejected.FindAllSubmatch(b, -1) {
			times[string(m[1])]++
		}
		for config, k := range times {
			if k > 1 && !s.refusable[n] {
				s.Findings.Violate("P5", "%s was offered config %s, which it refuses, %d times", n.Name, config, k)
			}
		}
	}
}

// secrets searches the logs and what the run kept for the canary and for secrets of the product's own.
func (s *Stage) secrets() (files int) {
	canary := []byte(s.World.Canary)
	forms := [][]byte{canary, []byte(base64.StdEncoding.EncodeToString(canary))[:12], []byte(hex.EncodeToString(canary))}
	var paths []string
	for _, pattern := range []string{"*.log", "*.jsonl"} {
		found, err := filepath.Glob(filepath.Join(s.World.Dir, pattern))
		if err != nil {
			s.Findings.Violate("harness", "%v", err)
		}
		paths = append(paths, found...)
	}
	for _, path := range paths {
		b, err := os.ReadFile(filepath.Clean(path))
		if err != nil {
			s.Findings.Violate("harness", "%v", err)
			continue
		}
		files++
		for _, leak := range harness.Leaks(b) {
			s.Findings.Violate("secrets", "%s: %s", filepath.Base(path), leak)
		}
		for _, form := range forms {
			if bytes.Contains(b, form) {
				s.Findings.Violate("secrets", "the canary is in %s", filepath.Base(path))
			}
		}
	}
	if files < len(s.World.Nodes()) {
		s.Findings.Violate("harness", "only %d logs were searched for secrets", files)
	}
	return files
}

func (s *Stage) report(worked time.Duration) *report.Report {
	w := s.World
	r := &report.Report{
		Command: strings.Join(os.Args, " "), Seed: s.cfg.Seed, Began: s.began, Start: s.ready, Worked: worked, Faults: s.doings, LeftOut: s.leftOut,
		Topology: fmt.Sprintf("%d etcd members, %d control planes, %d instances of %d agents", len(w.Etcds), len(w.Planes), len(w.Agents), len(w.Fleet())),
		Host:     fmt.Sprintf("%s/%s, %d cores", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()),
		Memory:   s.memory.table(), Store: s.store.Stats(), Requests: s.Load.Stats(), Figures: s.figures,
	}
	reg := s.registers.Stats()
	r.Acked, r.Stale, r.Reads, r.Unknown, r.UnknownReads = reg.Acked, reg.Stale, reg.Reads, reg.Unknown, reg.UnknownReads
	r.Checked, r.Chunks, r.TryErrors, r.KeysCount = reg.Checked, reg.Chunks, reg.Errors, s.registers.KeysCount()
	hot := s.Writer.Stats()
	r.Updates, r.UpdatesUnknown, r.UpdatesRetried = hot.Acked, hot.Unknown, hot.Retried
	spread, _, looks := s.Fleet.Spread()
	r.Spread, r.Looks = report.NewTimes(spread), looks
	var took []time.Duration
	for _, d := range s.doings {
		took = append(took, d.Converged)
	}
	r.Converged = report.NewTimes(took)
	if r.Converged.P99 > convergeP99 {
		s.Findings.Violate("P3", "p99 of convergence is %s, above %s", r.Converged.P99, convergeP99)
	}
	for _, g := range reg.Gaps {
		r.WriteGapAny = max(r.WriteGapAny, g.Length)
		if !s.hadNoQuorum(g.From, g.From.Add(g.Length)) {
			r.WriteGap = max(r.WriteGap, g.Length)
		}
	}
	r.Judged = s.judge.Counts()
	return r
}

// hadNoQuorum tells whether a fault that keeps writes away was at work in part of a time.
func (s *Stage) hadNoQuorum(from, to time.Time) bool {
	for _, d := range s.doings {
		if d.NoWrites && from.Before(d.At.Add(d.Lasted+5*time.Second)) && d.At.Before(to) {
			return true
		}
	}
	return false
}

// Minimum holds a run to have done enough for its silence to mean something.
type Minimum struct{ Checked, Requests, Updates, Faults, Kinds int }

// Hold adds a violation for each that wasn't reached.
func (m Minimum) Hold(r *report.Report, s *Stage) {
	asked := s.Load.Stats().Asked
	for what, c := range map[string][2]int{
		"answers judged":     {s.judge.Counts().Answers, asked * 8 / 10},
		"operations checked": {r.Checked, m.Checked}, "requests": {asked, m.Requests}, "hot updates": {r.Updates, m.Updates},
		"faults": {len(r.Faults), m.Faults}, "kinds of faults": {len(r.Kinds()), m.Kinds},
	} {
		if c[0] < c[1] {
			r.Violations++
			r.Findings = append(r.Findings, report.Finding{Property: "harness", Detail: fmt.Sprintf("%d %s, want at least %d", c[0], what, c[1]), At: time.Now()})
		}
	}
}

// Finish writes the report, says where everything is, and answers an error where there is a violation.
func Finish(s *Stage, r *report.Report, path string, keep bool) error {
	if path == "" {
		path = filepath.Join(s.World.Dir, "report")
	}
	if err := r.Write(path); err != nil {
		return err
	}
	s.cfg.Logf("\n%s", r.Markdown())
	if r.Violations > 0 {
		s.cfg.Logf("%d violations. Logs, histories and the report are in %s; the same faults again: --seed %d", r.Violations, s.World.Dir, r.Seed)
		return errViolations
	}
	if keep || strings.HasPrefix(path, s.World.Dir) {
		s.cfg.Logf("0 violations; everything is kept in %s", s.World.Dir)
		return nil
	}
	return errors.Join(os.RemoveAll(s.World.Dir))
}
