package a2adoor

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

// asks gives the state and the words of a task whose run waits.
func asks(p pending.Run) (task.State, []task.Part) {
	switch p.Kind {
	case pending.Auth:
		return task.AuthRequired, text(p.Question)
	case pending.Input:
		return task.InputRequired, text(p.Question)
	case pending.Approval:
	}
	var b strings.Builder
	b.WriteString("These tool calls wait for approval:")
	for _, c := range p.Calls {
		if c.Needs {
			b.WriteString("\n" + c.Tool + " " + string(c.Arguments))
			if c.Why != "" {
				b.WriteString(" (" + c.Why + ")")
			}
		}
	}
	words := text(b.String())
	data, err := json.Marshal(map[string]any{"kind": "approval", "id": p.ID, "calls": p.Calls, "expiresAt": p.ExpiresAt.UTC().Format(time.RFC3339)})
	if err == nil {
		words = append(words, task.Part{Kind: task.Data, Data: data, MediaType: "application/json"})
	}
	return task.InputRequired, words
}

// waits is what a task waits for: a suspended run.
type waits struct {
	place *place
	run   string
}

// await notes a task whose run somebody else may go on with, or whose time may run out.
func (d *Door) await(p *place, rec task.Record) {
	if rec.Pending == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting[rec.Ref()] = waits{place: p, run: rec.Pending}
}

// forget takes a task off the list of those that wait.
func (d *Door) forget(ref task.Ref) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.waiting, ref)
}

// abandon ends a suspended run whose task is over.
func (d *Door) abandon(by, id string) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	if err := d.cfg.Runner.Abandon(ctx, id, by, "the task was canceled"); err != nil && !errs.Is(err, errs.Conflict) {
		d.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "a suspended run could not be ended", slog.String("run", id), slog.String("error", err.Error()))
	}
}

// lookAtWaiting looks what became of runs that tasks wait for: decided about at another door, or overdue. At most maxLooks at a time, whichever
// the map gives: where more wait each has its turn, some seconds later.
func (d *Door) lookAtWaiting(ctx context.Context) {
	waiting := make(map[task.Ref]waits, maxLooks)
	d.mu.Lock()
	for ref, w := range d.waiting {
		if w.place.shared != nil && w.place != d.current {
			continue // its run is in a storage that is asked no more here, and may go on elsewhere
		}
		if waiting[ref] = w; len(waiting) == maxLooks {
			break
		}
	}
	d.mu.Unlock()
	for ref, w := range waiting {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		p, err := d.cfg.Runner.PendingRun(ctx, w.run)
		cancel()
		switch {
		case errs.Is(err, errs.NotFound):
			d.goOn(ref, w, pending.Run{ID: w.run, State: pending.Failed, Result: &pending.Outcome{
				Code: "lost", Message: "what the task waited for is gone: it was forgotten with its session, or the agent keeps its sessions elsewhere now",
			}})
		case err != nil:
			return // the store is gone: later
		case p.State != pending.Waiting:
			d.goOn(ref, w, p)
		}
	}
}

// maxLooks bounds the tasks that wait and are looked at at a time.
const maxLooks = 256

// goOn tells a task what became of the run that it waited for.
func (d *Door) goOn(ref task.Ref, w waits, p pending.Run) {
	again, err := d.following(p)
	if err != nil {
		return // later
	}
	next := ""
	var events []task.Event
	rec, err := w.place.update(ref, func(r *task.Record) ([]task.Event, error) {
		events, next = nil, ""
		if r.Pending != w.run || r.Keeper != w.place.self || r.Task.Status.State.Terminal() {
			return nil, nil
		}
		switch {
		case p.State == pending.Running:
			next = w.run
			if r.Task.Status.State != task.Working {
				events = []task.Event{{Status: d.status(task.Working, nil)}}
			}
			return events, nil
		case again.State == pending.Expired:
			p = again
		case again.ID != "": // it asks again: said together with what it waits for now
			next = again.ID
			state, words := asks(again)
			r.Pending, r.Approval = again.ID, again.Kind == pending.Approval
			events = []task.Event{{Status: d.status(state, words)}}
			return events, nil
		}
		r.Pending, r.Approval = "", false
		events = d.outcome(p, r.Turns)
		return events, nil
	})
	switch {
	case errs.Is(err, errs.Unavailable) || errs.Is(err, errs.Timeout): // later
	case next == "" || err != nil:
		d.forget(ref)
	default:
		d.await(w.place, rec)
	}
	if err == nil && len(events) > 0 {
		d.push.changed(rec, events)
	}
}

// following gives the run that p suspended again as; one that is there no more has expired.
func (d *Door) following(p pending.Run) (pending.Run, error) {
	if p.Next == "" {
		return pending.Run{}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	again, err := d.cfg.Runner.PendingRun(ctx, p.Next)
	if errs.Is(err, errs.NotFound) {
		return pending.Run{ID: p.Next, State: pending.Expired}, nil
	}
	return again, err
}

// outcome gives the events of a task whose run ended elsewhere.
func (d *Door) outcome(p pending.Run, turn int) []task.Event {
	if p.State == pending.Expired {
		return []task.Event{{Status: d.status(task.Failed, text("nobody decided or answered in time"))}}
	}
	if p.Result == nil {
		return []task.Event{{Status: d.status(task.Failed, text("the run ended without a result"))}}
	}
	if p.State == pending.Failed || p.Result.Code != "" {
		return []task.Event{{Status: d.status(task.Failed, text(p.Result.Message))}}
	}
	var events []task.Event
	if p.Result.Text != "" {
		events = append(events, task.Event{Chunk: &task.Chunk{
			Artifact: task.Artifact{ID: answerID(turn) + "-decided", Name: "answer", Parts: text(p.Result.Text)}, Last: true,
		}})
	}
	return append(events, task.Event{Status: d.status(task.Completed, nil)})
}
