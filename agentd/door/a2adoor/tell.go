package a2adoor

import (
	"slices"
	"time"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

// tellAgain is the wait between two attempts to tell something to a store that is gone.
const tellAgain = 200 * time.Millisecond

// tell writes events into the task. x.mu is held. What the store refuses ends the run: the task was canceled, or is too large.
func (x *execution) tell(events ...task.Event) {
	if x.lost != nil {
		return
	}
	err := x.write(events, nil)
	if errs.Is(err, errs.Exhausted) {
		_ = x.write([]task.Event{{Status: x.status(task.Failed, text(err.Error()))}}, nil)
	}
	if err != nil {
		x.lost = err
		x.stop(err)
	}
}

// errEnded says that somebody else ended the task.
var errEnded = errs.New(errs.Precondition, "the task has ended")

// write writes events, and what beside changes of the record, into the task. x.mu is held. Where the store is gone it is tried again for a while, and
// an attempt whose answer was lost is not made twice: nobody else tells anything of a task that is worked on but its end.
func (x *execution) write(events []task.Event, beside func(*task.Record)) error {
	limit := x.door.cfg.patience.try
	for _, e := range events {
		if e.Status != nil && (e.Status.State.Terminal() || e.Status.State.Interrupted()) {
			limit = x.door.cfg.patience.end
		}
	}
	over := time.Now().Add(limit)
	for {
		rec, err := x.place.update(x.ref, func(r *task.Record) ([]task.Event, error) {
			switch {
			case r.Seq == x.seq:
				if beside != nil {
					beside(r)
				}
				return slices.Clone(events), nil
			case r.Seq == x.seq+int64(len(events)) && told(events, r.Task.Status):
				return nil, nil
			default:
				return nil, errEnded
			}
		})
		if err == nil {
			x.seq = rec.Seq
			x.door.push.changed(rec, events)
			return nil
		}
		if !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.Timeout) || time.Now().After(over) || !x.door.pause(tellAgain) {
			return err
		}
	}
}

// told reports whether a task's status is what the last status of events made it; where they have none nothing speaks against it but an end.
func told(events []task.Event, now task.Status) bool {
	for _, e := range slices.Backward(events) {
		if e.Status != nil {
			return e.Status.State == now.State && e.Status.At.Equal(now.At)
		}
	}
	return !now.State.Terminal()
}

// pause waits a moment; false: the door closes.
func (d *Door) pause(t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-d.closing:
		return false
	}
}
