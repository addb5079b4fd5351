package run

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/world"
)

// Bounds after a fault.
const (
	healLimit     = 3 * time.Minute
	convergeLimit = 30 * time.Second // P3's hard bound
	convergeP99   = 10 * time.Second
)

// tries is how often a fault is made that doesn't fire: whether one does may hang on what the programs happen to do just then.
const tries = 3

// Fault makes one fault happen from beginning to end, and returns when everybody runs again what the store says. One that doesn't fire is
// made again; one that never fires proves nothing, which is a violation. What was found is among the findings; an error ends the run.
func (s *Stage) Fault(ctx context.Context, f world.Fault, r *rand.Rand) error {
	for range tries {
		fired, err := s.once(ctx, f, r)
		if fired || err != nil || ctx.Err() != nil {
			return err
		}
		s.cfg.Logf("fault %s did not fire", f.Name())
	}
	s.Findings.Violate("fault", "%s never fired in %d tries", f.Name(), tries)
	return nil
}

// once makes a fault once; fired is true also where it went wrong, which is a finding of its own.
func (s *Stage) once(ctx context.Context, f world.Fault, r *rand.Rand) (fired bool, err error) {
	s.Findings.During(f.Name())
	began := time.Now()
	before := s.memory.planes()
	done := report.Doing{Kind: f.Name(), At: began}
	made := s.Fleet.Making()
	inj, err := f.Inject(ctx, s.World, r)
	endFree := made(inj.FallsBack)
	if err != nil {
		endFree()
		s.Findings.Violate("fault", "%s could not be made: %v", f.Name(), err)
		return true, s.allUp(ctx)
	}
	s.cfg.Logf("fault %s: %s", f.Name(), inj.What)
	endExcuse := s.excuses.Begin(inj.Excused, began)
	for _, n := range inj.FallsBack {
		s.refusable[n] = true
	}
	select {
	case <-ctx.Done():
	case <-time.After(inj.Hold):
	}
	if inj.Heal != nil {
		heal, cancel := context.WithTimeout(context.WithoutCancel(ctx), healLimit)
		err = inj.Heal(heal)
		cancel()
	}
	healed := time.Now()
	endExcuse()
	if err != nil {
		s.Findings.Violate("fault", "%s could not be healed: %v", f.Name(), err)
		return true, s.allUp(ctx)
	}
	done.Fired = 1
	if inj.Fired != nil {
		if done.Fired, err = inj.Fired(); err != nil {
			s.Findings.Violate("fault", "%s can't tell whether it fired: %v", f.Name(), err)
		}
	}
	done.What, done.NoWrites = inj.What, inj.NoWrites
	done.Lasted = healed.Sub(began)
	again := s.Writer.Quiet()
	took, err := s.Fleet.Converged(context.WithoutCancel(ctx), s.doors, healed, convergeLimit)
	done.Converged = took
	if err != nil {
		s.Findings.Violate("P3", "after %s (%s) the fleet isn't on what the store wants: %v", f.Name(), inj.What, err)
	}
	endFree()
	again()
	done.Memory = s.memory.planes() - before
	s.settle(ctx)
	s.doings = append(s.doings, done)
	s.cfg.Logf("fault %s: healed after %s, converged %s later", f.Name(), done.Lasted.Round(time.Millisecond), took.Round(time.Millisecond))
	return done.Fired > 0, nil
}

// allUp starts what doesn't run, after a fault that went wrong itself.
func (s *Stage) allUp(ctx context.Context) error {
	for _, n := range s.World.Nodes() {
		if n.Running() {
			continue
		}
		s.cfg.Logf("%s doesn't run: it is started", n.Name)
		if err := n.Up(ctx, time.Minute); err != nil {
			return err
		}
	}
	return nil
}

// settle judges what can be judged while the work goes on.
func (s *Stage) settle(ctx context.Context) {
	s.Load.Settle()
	s.store.Settle(false)
	s.watches.Settle(ctx, false, 0)
}

// LeaveOut notes a fault that can't be made here.
func (s *Stage) LeaveOut(f world.Fault, why error) {
	s.leftOut = append(s.leftOut, report.LeftOut{Kind: f.Name(), Why: why.Error()})
	s.cfg.Logf("fault %s is left out, it counts as not run: %v", f.Name(), why)
}

// Plan draws faults from a seed: all kinds in a random order, again and again. The same seed draws the same, however long the run is.
type Plan struct {
	kinds []world.Fault
	seed  uint64
	r     *rand.Rand
	left  []world.Fault
	n     uint64
}

// NewPlan makes one.
func NewPlan(kinds []world.Fault, seed uint64) *Plan {
	return &Plan{kinds: kinds, seed: seed, r: rand.New(rand.NewPCG(seed, 0xfa17))} //nolint:gosec // seeded on purpose
}

// Next gives the next fault with the choices that it makes.
func (p *Plan) Next() (world.Fault, *rand.Rand) {
	if len(p.left) == 0 {
		for _, i := range p.r.Perm(len(p.kinds)) {
			p.left = append(p.left, p.kinds[i])
		}
	}
	f := p.left[0]
	p.left = p.left[1:]
	p.n++
	return f, rand.New(rand.NewPCG(p.seed, p.n)) //nolint:gosec // seeded on purpose
}

// Wait gives how long to wait before the next fault, from low to twice as long.
func (p *Plan) Wait(low time.Duration) time.Duration {
	return low + time.Duration(p.r.Int64N(int64(low)+1))
}
