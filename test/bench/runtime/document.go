package main

import (
	"fmt"
	"io"
	"slices"
)

// document is what a run found.
type document struct {
	Load      float64     `json:"load_average_before"`
	Scenarios []row       `json:"scenarios"`
	Idle      *idleResult `json:"idle,omitempty"`
	Soak      *soakResult `json:"soak,omitempty"`
	Push      *pushResult `json:"push,omitempty"`
	Goals     []goal      `json:"goals"`
}

// goal is one number of runtime.md with what it came to.
type goal struct {
	Name string  `json:"name"`
	Got  float64 `json:"got"`
	Want string  `json:"want"`
	Met  bool    `json:"met"`
}

func (d *document) goal(name string, got float64, want string, met bool) {
	d.Goals = append(d.Goals, goal{name, got, want, met})
}

// judge holds the numbers against what is to be reached.
func (d *document) judge() {
	for _, r := range d.Scenarios {
		f, a := r.Systems[asFloor], r.Systems[asAgent]
		switch r.Name {
		case "turn-1":
			d.goal("turn at 1: p50 over the floor's, ms", a.P50-f.P50, "<= 0.3", a.P50-f.P50 <= 0.3)
			d.goal("turn at 1: p99, ms", a.P99, "<= 3", a.P99 <= 3)
		case "tool-1":
			d.goal("with a tool at 1: p50 over the floor's, ms", a.P50-f.P50, "<= 0.5", a.P50-f.P50 <= 0.5)
		case "turn-many":
			d.goal("turn at many: rps / floor's", a.RPS/f.RPS, ">= 0.5", a.RPS >= f.RPS/2)
			d.goal("turn at many: CPU / floor's", a.CPU/f.CPU, "<= 2", a.CPU <= 2*f.CPU)
		case "tool-many":
			d.goal("with a tool at many: rps / floor's", a.RPS/f.RPS, ">= 0.5", a.RPS >= f.RPS/2)
		case "a2a-many":
			d.goal("A2A task at many: CPU, ms", a.CPU, "<= 0.7", a.CPU <= 0.7)
			d.goal("A2A task at many: rps", a.RPS, ">= 2000", a.RPS >= 2000)
		}
	}
	if i := d.Idle; i != nil {
		d.goal("one idle instance: RSS, MB", i.OneRSS, "<= 30", i.OneRSS <= 30)
		d.goal(fmt.Sprintf("%d idle instances: PSS each, MB", i.Instances), i.EachPSS, "<= 8", i.EachPSS <= 8)
	}
	if s := d.Soak; s != nil {
		d.goal("under load: peak RSS, MB", s.Peak, "<= 60", s.Peak <= 60)
		d.goal("under load: RSS at the end / at half", s.End/s.Half, "<= 1.1", s.End <= 1.1*s.Half)
		d.goal("under load: requests failed", float64(s.Failed), "0", s.Failed == 0)
	}
	if p := d.Push; p != nil {
		d.goal("a revision a second: requests failed", float64(p.Failed), "0", p.Failed == 0 && p.Answered > p.Pushed/2)
	}
}

// table prints what a person compares.
func (d *document) table(out io.Writer) {
	fmt.Fprintf(out, "load average before: %.1f\n\n", d.Load)
	fmt.Fprintf(out, "%-14s %3s %-7s %9s %9s %9s %13s %14s %14s\n", "scenario", "c", "system", "p50 ms", "p99 ms", "rps", "CPU ms/turn", "rps / floor", "CPU / floor")
	for _, r := range d.Scenarios {
		f := r.Systems[asFloor]
		for _, name := range []string{direct, asFloor, asAgent} {
			m, ok := r.Systems[name]
			if !ok {
				continue
			}
			fmt.Fprintf(out, "%-14s %3d %-7s %9.3f %9.2f %9.0f %13.3f", r.Name, r.Workers, name, m.P50, m.P99, m.RPS, m.CPU)
			if name == asAgent {
				fmt.Fprintf(out, " %14.2f %14.2f", m.RPS/f.RPS, m.CPU/f.CPU)
			}
			fmt.Fprintln(out)
		}
	}
	if i := d.Idle; i != nil {
		fmt.Fprintf(out, "\nidle: one instance RSS %.1f MB, PSS %.1f MB; %d instances PSS %.1f MB each, of that its own %.1f MB\n", i.OneRSS, i.OnePSS, i.Instances, i.EachPSS, i.EachAnon)
	}
	if s := d.Soak; s != nil {
		fmt.Fprintf(out, "load for %.0f s: %d requests, %d failed; RSS after 1 s %.1f, at half %.1f, peak %.1f, end %.1f MB (floor %.1f)\n", s.Seconds, s.Requests, s.Failed, s.RSS[0], s.Half, s.Peak, s.End, s.Floor)
	}
	if p := d.Push; p != nil {
		fmt.Fprintf(out, "a revision a second for %.0f s: %d pushed, %d configs answered, %d requests, %d failed, p99 %.1f ms %s\n", p.Seconds, p.Pushed, p.Answered, p.Requests, p.Failed, p.P99, p.Fault)
	}
	fmt.Fprintf(out, "\n%-46s %9s  %-7s\n", "to reach", "got", "want")
	for _, g := range d.Goals {
		verdict := "met"
		if !g.Met {
			verdict = "MISSED"
		}
		fmt.Fprintf(out, "%-46s %9.2f  %-7s %s\n", g.Name, g.Got, g.Want, verdict)
	}
	if slices.ContainsFunc(d.Goals, func(g goal) bool { return !g.Met }) && d.Load > 1 {
		fmt.Fprintln(out, "\nthe machine was busy: only ratios within this run count")
	}
}
