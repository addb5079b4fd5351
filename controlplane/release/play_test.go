package release

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

var start = time.Unix(1_800_000_000, 0).UTC()

func after(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

func specHash(name string) manifest.Hash { return manifest.Sum([]byte("spec " + name)) }

// config is own spec s with version p of the shared prompt, as revision n.
func config(n int64, s, p string) Config {
	lines := []manifest.Line{
		{Kind: manifest.KindAgent, Name: "a", Version: "-", SHA256: specHash(s)},
		{Kind: manifest.KindPrompt, Name: "p", Version: p, SHA256: manifest.Sum([]byte("prompt " + p))},
	}
	manifest.Sort(lines)
	return Config{Revision: n, Hash: manifest.Of(lines), Lines: lines, Generation: 100 + n}
}

// with is a config with other shared lines, each "kind name version", in the place of its own or beside them. A policy's version
// stands for its content.
func with(c Config, lines ...string) Config {
	c.Lines = slices.Clone(c.Lines)
	for _, text := range lines {
		f := strings.Fields(text)
		l := manifest.Line{Kind: f[0], Name: f[1], Version: f[2], SHA256: manifest.Sum([]byte(f[0] + " " + f[2]))}
		switch l.Kind {
		case manifest.KindPolicy:
			l.Version = "-"
		case manifest.KindCredential:
			l.SHA256 = manifest.Hash{}
		}
		c.Lines = append(slices.DeleteFunc(c.Lines, func(o manifest.Line) bool { return o.Resource() == l.Resource() }), l)
	}
	manifest.Sort(c.Lines)
	c.Hash = manifest.Of(c.Lines)
	return c
}

// vetoed says which of a config's lines a veto decided.
func vetoed(c Config, resources ...string) *Config {
	c.Vetoed = resources
	return &c
}

func hash(s, p string) manifest.Hash { return config(0, s, p).Hash }

func apply(s string, live bool) Apply {
	return Apply{At: start, Spec: specHash(s), Manifest: hash(s, "1"), Live: live}
}

var fault = []phase.Fault{{Resource: "agent/a", Field: "tools.allow[0]", Code: phase.ToolMissing, Severity: phase.Error}}

// runs is an instance that serves what it should.
func runs(id string, c Config) Instance {
	return Instance{ID: id, Target: c.Revision, Desired: c.Hash, Runs: c.Revision, Running: c.Hash}
}

// silent is an instance that serves c and hasn't answered for want.
func silent(id string, c, want Config) Instance {
	return Instance{ID: id, Target: want.Revision, Desired: want.Hash, Runs: c.Revision, Running: c.Hash}
}

func refuses(in Instance) Instance {
	in.Refused = map[manifest.Hash][]phase.Fault{in.Desired: fault}
	return in
}

func retries(in Instance) Instance {
	in.Retrying = true
	in.Faults = []phase.Fault{{Resource: "mcp/m", Code: phase.Unreachable, Severity: phase.Error, Retryable: true}}
	return in
}

// play steps a state through events and fails on a refused command.
func play(t *testing.T, events ...Event) State {
	t.Helper()
	var s State
	for i, e := range events {
		next, actions := Step(s, witnessed(e))
		for _, a := range actions {
			if r, ok := a.(Refuse); ok {
				t.Fatalf("event %d: %s", i, r.Reason)
			}
		}
		s = next
	}
	return s
}

var (
	c1  = config(1, "one", "1")
	c2  = config(2, "two", "1")
	c3  = config(3, "three", "1")
	c12 = config(1, "one", "2") // the prompt moved
	c22 = config(2, "two", "2")
	c1m = with(c1, "mcp m 1") // a line that c1 hasn't
)

// proven1 is revision 1 stable and proven.
func proven1() []Event {
	return []Event{
		apply("one", false),
		Observe{At: start, Complete: true, Stable: &c1, Instances: []Instance{runs("i", c1)}},
	}
}

// candidate2 is revision 2 on its way over a proven 1.
func candidate2(policy string) []Event {
	e := apply("two", true)
	e.Policy.OnReject = policy
	return append(proven1(), e)
}

func onCandidate(at time.Time, instances ...Instance) Observe {
	return Observe{
		At: at, Complete: true, Stable: &c1, Candidate: &c2, Applied: []Config{c1}, Instances: instances,
		Seen: seen(map[string]time.Time{"prompt/p": start}),
	}
}

func refused2(policy string) []Event {
	return append(candidate2(policy), onCandidate(after(1), refuses(silent("i", c1, c2))))
}

// seen says that everything pending was seen at the start, and shared heads then.
func seen(written map[string]time.Time) Seen {
	return Seen{Opened: start, Moved: start, Written: written}
}

// witnessed is an event whose observer saw everything at the start where it says nothing else.
func witnessed(e Event) Event {
	if o, ok := e.(Observe); ok && o.Seen.Opened.IsZero() && o.Seen.Moved.IsZero() {
		o.Seen.Opened, o.Seen.Moved = start, start
		return o
	}
	return e
}

// summary is what a head says, in one line.
func summary(s State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "stable %d", s.Stable)
	if s.Unproven {
		b.WriteString(" unproven")
	}
	fmt.Fprintf(&b, " proven %d", s.Proven)
	if s.Candidate != nil {
		fmt.Fprintf(&b, " candidate %d", s.Candidate.Revision)
	}
	if s.Hold != nil {
		fmt.Fprintf(&b, " hold %d served %t", s.Hold.Revision, s.Hold.Served)
	}
	if l := s.LastRefusal; l != nil {
		fmt.Fprintf(&b, " refusal %d %s %d", l.Revision, l.Action, l.RolledBackTo)
	}
	for _, v := range s.Vetoes {
		fmt.Fprintf(&b, " veto %s %v use %s", v.Resource(), v.Refused, v.Use)
	}
	if s.Pin != nil {
		fmt.Fprintf(&b, " pin %d", s.Pin.Revision)
	}
	b.WriteString(" |")
	for _, r := range s.Revisions {
		fmt.Fprintf(&b, " %d:%s", r.N, r.State)
	}
	return b.String()
}

// did names actions.
func did(actions []Action) []string {
	var out []string
	for _, a := range actions {
		switch a := a.(type) {
		case Refuse:
			out = append(out, fmt.Sprintf("refuse %d", a.Why))
		case Unchanged:
			out = append(out, fmt.Sprintf("unchanged %d", a.Revision))
		case Moved:
			out = append(out, fmt.Sprintf("%s %d->%d", a.Move, a.From, a.To))
		case Reset:
			out = append(out, "reset")
		case KeepApplied:
			out = append(out, "applied "+manifest.ConfigName(a.Config.Revision, a.Config.Hash)[:1])
		case KeepRefusal:
			out = append(out, "refusal "+a.Config[:1])
		case Write:
			out = append(out, "write")
		case Drop:
			out = append(out, "drop "+a.Instance)
		case Check:
			out = append(out, fmt.Sprintf("check %ds", int(a.At.Sub(start).Seconds())))
		}
	}
	return out
}

func neverProven() []Event {
	return []Event{apply("one", true), Observe{
		At: after(1), Complete: true, Candidate: &c1,
		Instances: []Instance{refuses(Instance{ID: "i", Target: 1, Desired: c1.Hash})},
	}}
}
