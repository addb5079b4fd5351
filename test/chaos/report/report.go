package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// Doing is one fault that happened.
type Doing struct {
	Kind     string        `json:"kind"`
	What     string        `json:"what"`
	At       time.Time     `json:"at"`
	Lasted   time.Duration `json:"lastedNs"` // until it was healed
	Fired    int64         `json:"fired"`
	NoWrites bool          `json:"noWrites,omitempty"`
	// Converged is how long after the healing every instance ran what the store says.
	Converged time.Duration `json:"convergedNs"`
	// Memory is by how much the largest control plane grew, in bytes.
	Memory int64 `json:"memory"`
}

// LeftOut is a kind of fault that could not be made here.
type LeftOut struct {
	Kind string `json:"kind"`
	Why  string `json:"why"`
}

// Times sums up durations.
type Times struct {
	N   int           `json:"n"`
	P50 time.Duration `json:"p50Ns"`
	P99 time.Duration `json:"p99Ns"`
	Max time.Duration `json:"maxNs"`
}

// NewTimes sums up.
func NewTimes(all []time.Duration) Times {
	if len(all) == 0 {
		return Times{}
	}
	all = slices.Sorted(slices.Values(all))
	at := func(p float64) time.Duration { return all[min(len(all)-1, int(p*float64(len(all))))] }
	return Times{len(all), at(0.5), at(0.99), all[len(all)-1]}
}

// Report is what a run found and counted.
type Report struct {
	Command  string        `json:"command"`
	Seed     uint64        `json:"seed"`
	Scenario string        `json:"scenario"`
	Began    time.Time     `json:"began"`
	Start    time.Duration `json:"startNs"` // until everything was at work
	Worked   time.Duration `json:"workedNs"`
	Topology string        `json:"topology"`
	Host     string        `json:"host"`

	Faults  []Doing   `json:"faults"`
	LeftOut []LeftOut `json:"leftOut,omitempty"`

	Acked        int            `json:"acked"`
	Stale        int            `json:"stale"`
	Reads        int            `json:"reads"`
	Unknown      int            `json:"unknown"`
	UnknownReads int            `json:"unknownReads"`
	Checked      int            `json:"checked"`
	Chunks       int            `json:"chunks"`
	TryErrors    map[string]int `json:"tryErrors"`
	KeysCount    bool           `json:"keysCount"`

	Updates        int           `json:"updates"`
	UpdatesUnknown int           `json:"updatesUnknown"`
	UpdatesRetried int           `json:"updatesRetried"`
	Spread         Times         `json:"spread"` // of an update, from its acknowledgement to all instances
	Converged      Times         `json:"converged"`
	WriteGap       time.Duration `json:"writeGapNs"`         // longest with a quorum
	WriteGapAny    time.Duration `json:"writeGapNoQuorumNs"` // longest of all

	Requests any `json:"requests"`
	Judged   any `json:"judged"`
	Store    any `json:"store"`
	Looks    int `json:"looks"` // at what every instance runs
	// Memory is first and peak resident size by node, in MiB.
	Memory map[string][2]int64 `json:"memoryMiB"`
	Logs   int                 `json:"logs"` // files searched for secrets

	// Figures are a scenario's own.
	Figures map[string]any `json:"figures,omitempty"`

	Violations int       `json:"violations"`
	Findings   []Finding `json:"findings,omitempty"`
}

// Kind sums up one kind of fault.
type Kind struct {
	Name      string
	N         int
	Fired     int64
	Converged Times
}

// Kinds counts faults by kind, in order of their names.
func (r *Report) Kinds() []Kind {
	by, took := map[string]*Kind{}, map[string][]time.Duration{}
	for _, d := range r.Faults {
		if by[d.Kind] == nil {
			by[d.Kind] = &Kind{Name: d.Kind}
		}
		by[d.Kind].N++
		by[d.Kind].Fired += d.Fired
		took[d.Kind] = append(took[d.Kind], d.Converged)
	}
	var out []Kind
	for _, name := range slices.Sorted(maps.Keys(by)) {
		by[name].Converged = NewTimes(took[name])
		out = append(out, *by[name])
	}
	return out
}

// Write writes the report as JSON and as a page beside it.
func (r *Report) Write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".json", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.WriteFile(path+".md", []byte(r.Markdown()), 0o600)
}

// Markdown gives the report as a page.
func (r *Report) Markdown() string {
	var b strings.Builder
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format+"\n", args...) }
	row := func(name, format string, args ...any) {
		line("| %s | %s |", name, fmt.Sprintf(format, args...))
	}
	ms := func(d time.Duration) string { return d.Round(time.Millisecond).String() }
	line("| | |\n|---|---|")
	row("command", "`%s`", r.Command)
	row("seed", "%d", r.Seed)
	row("when, where", "%s, %s", r.Began.UTC().Format(time.RFC3339), r.Host)
	row("topology", "%s", r.Topology)
	row("at work", "%s (after a start of %s)", r.Worked.Round(time.Second), ms(r.Start))
	row("faults", "%d of %d kinds", len(r.Faults), len(r.Kinds()))
	row("operations checked by porcupine", "%d (%d writes acknowledged, %d refused as stale, %d linearizable reads; %d writes and %d reads of unknown outcome) in %d chunks", r.Checked, r.Acked, r.Stale, r.Reads, r.Unknown, r.UnknownReads, r.Chunks)
	row("hot updates", "%d acknowledged (%d at a second replica), %d unknown; acknowledged to all instances: p50 %s, p99 %s, max %s", r.Updates, r.UpdatesRetried, r.UpdatesUnknown, ms(r.Spread.P50), ms(r.Spread.P99), ms(r.Spread.Max))
	row("requests", "%s", text(r.Requests))
	row("judged for one config", "%s", text(r.Judged))
	row("store and watches", "%s", text(r.Store))
	row("longest time without an acknowledged write", "%s (where a fault takes the quorum itself: %s)", ms(r.WriteGap), ms(r.WriteGapAny))
	row("convergence after a fault", "p50 %s, p99 %s, max %s", ms(r.Converged.P50), ms(r.Converged.P99), ms(r.Converged.Max))
	row("looks at what instances run", "%d", r.Looks)
	row("logs searched for secrets", "%d", r.Logs)
	for _, name := range slices.Sorted(maps.Keys(r.Figures)) {
		row(name, "%v", r.Figures[name])
	}
	row("violations", "%d", r.Violations)
	if kinds := r.Kinds(); len(kinds) > 0 {
		line("\n| fault | times | fired | converged p50 | max |\n|---|---|---|---|---|")
		for _, k := range kinds {
			line("| %s | %d | %d | %s | %s |", k.Name, k.N, k.Fired, ms(k.Converged.P50), ms(k.Converged.Max))
		}
	}
	if len(r.LeftOut) > 0 {
		line("\nNot run here:\n")
		for _, l := range r.LeftOut {
			line("* %s: %s", l.Kind, l.Why)
		}
	}
	if len(r.Findings) > 0 {
		line("\nViolations:\n")
		slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(a.Property, b.Property) })
		for _, f := range r.Findings {
			line("* %s %s (%s): %s", f.Property, f.At.Format("15:04:05"), f.During, f.Detail)
		}
	}
	return b.String()
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return strings.NewReplacer(`"`, "", "{", "", "}", "", ",", ", ", ":", " ").Replace(string(b))
}
