package redistask_test

import (
	"slices"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/task/redistask"
)

// Who is dead depends on what the server said while it heard of this process without a pause.
func TestWhoIsDead(t *testing.T) {
	t.Parallel()
	const beat = 400 * time.Millisecond
	type look struct {
		after  time.Duration // the look before
		silent []string      // pairs of a keeper and when it was heard of
		dead   []string
	}
	steady := func(n int, silent ...string) []look {
		return slices.Repeat([]look{{after: beat, silent: silent}}, n)
	}
	for name, looks := range map[string][]look{
		"silent for long":        append(steady(4, "k", "5"), look{after: beat, silent: []string{"k", "5"}, dead: []string{"k"}}),
		"heard of again":         slices.Concat(steady(3, "k", "5"), steady(1), steady(4, "k", "9")),
		"another word":           slices.Concat(steady(4, "k", "5"), steady(4, "k", "9")),
		"goodbye":                {{after: beat, silent: []string{"k", "0", "j", "7"}, dead: []string{"k"}}},
		"the looker was silent":  slices.Concat(steady(4, "k", "5"), []look{{after: 3 * time.Second, silent: []string{"k", "5"}}}, steady(3, "k", "5")),
		"and looks for a while":  slices.Concat(steady(4, "k", "5"), []look{{after: 3 * time.Second, silent: []string{"k", "5"}}}, steady(3, "k", "5"), []look{{after: beat, silent: []string{"k", "5"}, dead: []string{"k"}}}),
		"the first look is none": {{after: time.Hour, silent: []string{"k", "5"}}},
	} {
		p := redistask.NewPulse()
		now := time.Unix(1000, 0)
		for i, l := range looks {
			now = now.Add(l.after)
			p.Suspect(l.silent, now)
			if got := p.Dead(now); !slices.Equal(got, l.dead) {
				t.Errorf("%s: look %d finds %v dead, want %v", name, i, got, l.dead)
			}
			if got := p.Dead(now.Add(2 * time.Second)); len(got) > 0 {
				t.Errorf("%s: look %d finds %v dead long after the server was heard", name, i, got)
			}
		}
	}
}
