package world

import (
	"context"
	"math/rand/v2"
	"time"
)

// Fault is one kind of thing that goes wrong. Package faults has them; the runner draws them from a seed.
type Fault interface {
	// Name is the kind as the report counts it, such as "kill-etcd-leader".
	Name() string
	// Needs says why this fault can't be made here ("needs root"); nil when it can. It is asked once, after the world started. A fault
	// that can't be made is reported as left out, never passed over.
	Needs(w *World) error
	// Inject makes it go wrong, and returns once it did. Everything that is chosen comes from r, so that a seed makes the same
	// choices. An error means that the fault could not be made: the run fails. What was changed by then must have been undone.
	Inject(ctx context.Context, w *World, r *rand.Rand) (Injected, error)
}

// Injected is a fault at work.
type Injected struct {
	// What says what was done to whom: "kill -9 etcd-1 (leader)".
	What string
	// Hold is how long the runner leaves it before Heal. 0: Heal at once.
	Hold time.Duration
	// Heal puts everything right: processes that were ended run and are ready, rules are gone. It is called exactly once, also when the
	// run ends early, and returns once nothing of the fault is left. nil: nothing to do.
	Heal func(ctx context.Context) error
	// Fired tells, after Heal, how often the thing really happened (packets dropped, failpoints passed, writes that failed). 0 fails
	// the run: a fault that never fired proves nothing. nil: Inject did it for certain (a process was killed).
	Fired func() (int64, error)
	// Excused are agents' nodes whose own requests may fail between Inject and the moment they are ready again after Heal: the fault is
	// their own death, or cuts their clients off. Nobody else's may.
	Excused []*Node
	// Unsettled are agents' nodes that need not converge before Heal, as all needn't; after it everybody must. It is for a fault that
	// leaves something behind on purpose; nil as a rule.
	Unsettled []*Node
	// FallsBack are agents' nodes that may serve an older config than before until they are settled again, because the newest that they
	// had was taken from their disk. Nobody else may ever go back.
	FallsBack []*Node
	// NoWrites is set where the control plane can't take writes while the fault is at work (quorum lost): the writers' gap isn't
	// counted as a finding then.
	NoWrites bool
}
