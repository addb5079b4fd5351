package release

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The stands of a release (Progress.Stand).
const (
	StandProgressing = "progressing" // a candidate is open
	StandHeld        = "held"        // a release is open and red
	StandSettled     = "settled"     // none is open
)

// Progress is how an agent's release stands, for people.
type Progress struct {
	Stand    string
	Release  string // the open release's id
	From     int64  // stable; 0: none
	To       int64  // the open release's revision, else stable
	Since    time.Time
	Deadline time.Duration // of the candidate
	Due      time.Time     // when it falls by the clock of Observe.At, which is another than that of Since; zero: not known
	OnReject string        // of the candidate
	// Served is true for a hold that has nothing to go back to.
	Served bool
	// Live counts the instances, Settled those that serve what Build gives them, Refused and Retrying those that don't because
	// of faults. Lagging names those that answered nothing within the deadline.
	Live, Settled, Refused, Retrying int
	Lagging                          []string
	// Vetoes are those that count now; Pin is the pinned config's name.
	Vetoes []Veto
	Pin    string
	// Retryable is what Retry would reopen; 0: none. LastRefusal is State's.
	Retryable   int64
	LastRefusal *LastRefusal
}

// Describe tells how a release stands by the facts that Step would judge.
func Describe(s State, e Observe) Progress {
	p := Progress{
		Stand: StandSettled, From: s.Stable, To: s.Stable, Live: len(e.Instances), Retryable: s.Retryable(), LastRefusal: s.LastRefusal,
		Vetoes: Counting(s, e), Since: s.LastMoveAt,
	}
	if s.Pin != nil {
		p.Pin = s.Pin.Config()
	}
	overdue := false
	switch {
	case s.Candidate != nil:
		c := s.Candidate
		p.Stand, p.Release, p.To, p.Since, p.OnReject = StandProgressing, c.Release, c.Revision, c.Since, c.OnReject
		p.Deadline = c.deadline()
		p.Due = end(e.Seen.Opened, p.Deadline)
		overdue = !p.Due.IsZero() && !e.At.Before(p.Due)
	case s.Hold != nil:
		h := s.Hold
		p.Stand, p.Release, p.To, p.Since, p.Served = StandHeld, h.Release, h.Revision, h.Since, h.Served
	}
	for _, in := range e.Instances {
		_, refused := in.Refused[in.Desired]
		switch {
		case in.Running == in.Desired && !in.Desired.IsZero():
			p.Settled++
		case refused:
			p.Refused++
		case in.Retrying:
			p.Retrying++
		case overdue:
			p.Lagging = append(p.Lagging, in.ID)
		}
	}
	slices.Sort(p.Lagging)
	return p
}

// Counting gives the vetoes that count: a revision in play resolves to what they refuse.
func Counting(s State, e Observe) []Veto {
	var out []Veto
	for _, v := range s.Vetoes {
		for _, c := range []*Config{e.Stable, e.Candidate, e.Held} {
			if c != nil && slices.Contains(c.Vetoed, v.Resource()) {
				out = append(out, v)
				break
			}
		}
	}
	return out
}

// Line says it all in one line; now is of the clock of Observe.At. Such as "7 -> 8  3 of 12  1 retrying  rolls back on a refusal, deadline in 0:42".
func (p Progress) Line(now time.Time) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch {
	case p.To == 0:
		add("nothing to run")
	case p.From == 0 || p.From == p.To:
		add("%d", p.To)
	default:
		add("%d -> %d", p.From, p.To)
	}
	if p.Live > 0 {
		add("%d of %d", p.Settled, p.Live)
	} else {
		add("no instance")
	}
	if p.Retrying > 0 {
		add("%d retrying", p.Retrying)
	}
	if p.Refused > 0 {
		add("%d refused", p.Refused)
	}
	if len(p.Lagging) > 0 {
		add("%d lagging", len(p.Lagging))
	}
	switch p.Stand {
	case StandProgressing:
		add("%s", p.deadlineText(now))
	case StandHeld:
		if p.Served {
			add("held: nothing to go back to, only apply ends it")
		} else {
			add("held: retry, abort or apply")
		}
	}
	for _, v := range p.Vetoes {
		add("%s held at %s (%s refused)", v.Resource(), short(v.Kind, v.Use), short(v.Kind, v.Refused[len(v.Refused)-1]))
	}
	if p.Pin != "" {
		add("pinned to %s", p.Pin)
	}
	return strings.Join(parts, "  ")
}

func (p Progress) deadlineText(now time.Time) string {
	left := p.Due.Sub(now)
	if left <= 0 && !p.Due.IsZero() {
		return "past its deadline"
	}
	what := "rolls back"
	if p.OnReject == OnRejectHold || p.From == 0 {
		what = "holds"
	}
	if p.Due.IsZero() {
		return what + " on a refusal"
	}
	left = left.Round(time.Second)
	return fmt.Sprintf("%s on a refusal, deadline in %d:%02d", what, int(left.Minutes()), int(left.Seconds())%60)
}
