package releaser

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/phase"
)

// clocks are how much the clock of whoever writes is ahead of the releaser's.
var clocks = map[string]time.Duration{
	"the leader's clock is an hour ahead": -time.Hour, "the leader's clock is an hour behind": time.Hour,
	"the leader's clock is a month ahead": -30 * 24 * time.Hour,
}

// A leader whose clock was ahead of the writer's by more than the deadline gave a good release up at once; one whose clock was behind
// never did.
func TestProgressDeadlineByTheLeadersOwnClock(t *testing.T) {
	for name, off := range clocks {
		t.Run(name, func(t *testing.T) {
			t.Run("an instance is silent", func(t *testing.T) {
				within(t, func(r *rig) {
					r.proven()
					r.apply("two")
					r.pass(29 * time.Second)
					r.want("stable 1 proven 1 candidate 2")
					p, _ := r.rel.Progress("d", "a", time.Now())
					if got := p.Line(time.Now()); got != "1 -> 2  0 of 1  rolls back on a refusal, deadline in 0:01" {
						t.Errorf("progress %q", got)
					}
					r.pass(time.Second)
					r.want("stable 1 proven 1 hold 2")
				}, func(r *rig, _ *Config) { r.off = off })
			})
			t.Run("an instance retries", func(t *testing.T) {
				within(t, func(r *rig) {
					r.proven()
					r.apply("two")
					r.answer(phase.Received, slow)
					r.pass(29 * time.Second)
					r.want("stable 1 proven 1 candidate 2")
					r.pass(time.Second)
					r.want("stable 1 proven 1 refusal 2 rolled_back")
				}, func(r *rig, _ *Config) { r.off = off })
			})
			t.Run("a slow instance is in time", func(t *testing.T) {
				within(t, func(r *rig) {
					r.proven()
					r.apply("two")
					r.pass(20 * time.Second)
					r.answer(phase.Applied)
					r.want("stable 2 proven 2")
				}, func(r *rig, _ *Config) { r.off = off })
			})
			t.Run("a shared version is retried", func(t *testing.T) {
				within(t, func(r *rig) {
					r.proven()
					r.pass(time.Hour)
					r.prompt("2")
					r.pass(10 * time.Second) // counts, although nobody complains yet
					r.answer(phase.Received, slow)
					r.pass(19 * time.Second)
					r.want("stable 1 proven 1")
					r.pass(time.Second)
					r.want("stable 1 proven 1 refusal 1 held")
				}, func(r *rig, _ *Config) { r.off = off })
			})
		})
	}
}

// A replica that takes the lead goes on with the deadline: its view saw the write. One that was started since begins it again.
func TestProgressDeadlineOfANewLeader(t *testing.T) {
	for name, c := range map[string]struct {
		started bool
		want    string
	}{
		"it ran":         {false, "stable 1 proven 1 hold 2"},
		"it was started": {true, "stable 1 proven 1 candidate 2"},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(r *rig) {
				r.proven()
				r.apply("two")
				r.pass(20 * time.Second)
				r.stop()
				if c.started {
					v, err := view.Open(t.Context(), view.Config{Store: r.store, Logger: slog.New(slog.DiscardHandler)})
					if err != nil {
						t.Fatal(err)
					}
					r.view = v
					r.begin(v.Run)
				}
				r.cfg.View = r.view
				r.lead()
				r.pass(10 * time.Second)
				r.want(c.want)
				r.pass(20 * time.Second)
				r.want("stable 1 proven 1 hold 2")
			})
		})
	}
}

// lead runs a releaser until stop, or the end of the test.
func (r *rig) lead() {
	r.t.Helper()
	rel, err := New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	stopped := make(chan struct{})
	stop := sync.OnceFunc(func() { close(stopped) })
	r.rel, r.stop = rel, stop
	r.begin(func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(ctx, stop)()
		ended := make(chan error, 1)
		go func() { ended <- rel.Run(ctx) }()
		<-stopped
		cancel()
		return <-ended
	})
}
