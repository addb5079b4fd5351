package a2adoor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/errs"
)

// Why an execution was stopped.
var (
	errCanceled = errors.New("the task was canceled")
	errClosing  = errors.New("this instance is shutting down")
	errPanic    = errors.New("the agent failed internally")
)

// toolReply is the name of the built-in tool by which the model answers without a task (package builtin).
const toolReply = "reply"

// execution is one turn of work on a task. A new task is told of (committed) by the first thing that shows that it's no lone message; what came
// before is held.
type execution struct {
	door   *Door
	place  *place
	leave  func() // the place
	ref    task.Ref
	begin  task.Record // a new task as it will be created
	turn   int         // of the task, from 1
	start  func(context.Context) (*run.Turn, error)
	cancel context.CancelCauseFunc
	lonely bool // the model may answer by a lone message

	settled chan struct{} // closed: committed, lone or refused
	done    chan struct{} // closed: nothing follows

	mu        sync.Mutex // guards what follows; the store is called under it, so that its events have one order
	committed bool
	lone      *task.Message
	refused   error     // why there is no task
	feed      task.Feed // of a new task, from its very beginning
	first     task.Record
	watched   bool   // somebody wants feed
	replying  bool   // the model calls reply
	started   bool   // the run has begun
	sent      bool   // a piece of the answer was told
	gathered  []byte // text that waits for flush
	timer     *time.Timer
	attached  int
	lost      error // the store refused an event: the task is over
	seq       int64 // of the task's last event

	stopping sync.Mutex // guards what follows
	stopped  error
	also     context.CancelCauseFunc // of a run that goes on when its caller leaves
}

// stop ends the work early.
func (x *execution) stop(why error) {
	x.stopping.Lock()
	also := x.also
	if x.stopped == nil {
		x.stopped = why
	}
	x.stopping.Unlock()
	x.cancel(why)
	if also != nil {
		also(why)
	}
}

// alsoStop lets stop end a run that goes on without its caller.
func (x *execution) alsoStop(cancel context.CancelCauseFunc) {
	x.stopping.Lock()
	x.also = cancel
	why := x.stopped
	x.stopping.Unlock()
	if why != nil {
		cancel(why)
	}
}

// run does the work. It never panics.
func (x *execution) run(ctx context.Context) {
	defer func() {
		if p := recover(); p != nil {
			x.panicked(p)
		}
		x.cancel(nil)
		x.end()
	}()
	if x.turn > 1 { // else nobody knew of the task before
		if err := x.still(ctx); err != nil {
			x.refuse(ctx, err)
			return
		}
	}
	turn, err := x.start(ctx)
	if err != nil {
		x.refuse(ctx, err)
		return
	}
	x.mu.Lock()
	x.started = true
	switch {
	case x.turn > 1: // the task works since its message came
	case x.committed:
		x.tell(task.Event{Status: x.status(task.Working, nil)})
	case !x.lonely:
		x.commit()
	}
	x.mu.Unlock()
	res, err := turn.Do(ctx, x.emit)
	x.conclude(ctx, turn, res, err)
}

// still looks, once the execution can be stopped, whether its task was ended between the message's claim and that: nobody was told then.
func (x *execution) still(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	rec, err := x.place.store.Get(ctx, x.ref)
	if err == nil && rec.Task.Status.State.Terminal() {
		return errEnded
	}
	return err
}

// panicked ends the task of an execution that panicked, whatever else goes wrong.
func (x *execution) panicked(p any) {
	report := func(p any) {
		x.door.cfg.Log.LogAttrs(context.Background(), slog.LevelError, "panic in a task", slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	}
	defer func() {
		if p := recover(); p != nil {
			report(p)
		}
	}()
	report(p)
	x.stop(errPanic)
	x.finish(task.Failed, text(errPanic.Error()))
}

// emit gets the run's output. Its error stops the run.
func (x *execution) emit(d run.Delta) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case d.Tool != nil:
		if !d.Tool.Done && d.Tool.Name == toolReply && !x.committed && len(x.gathered) == 0 {
			x.replying = true
		} else if !x.replying {
			x.commit()
		}
	case d.Artifact != nil:
		x.flush()
		x.attach(*d.Artifact)
	case d.Text != "":
		x.gather(d.Text)
	}
	return x.lost
}

// gather adds to the answer. What comes within flushText is told together.
func (x *execution) gather(s string) {
	x.gathered = append(x.gathered, s...)
	if x.timer == nil && x.attached == 0 {
		x.timer = time.AfterFunc(flushText, x.later)
	}
}

// later tells what gathered. A reply, or the closing words beside artifacts, is told at the end.
func (x *execution) later() {
	defer func() { // it has a goroutine of its own
		if p := recover(); p != nil {
			x.panicked(p)
		}
	}()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.timer = nil
	if !x.replying {
		x.flush()
	}
}

// flush tells the text that gathered, as a piece of the artifact of this turn's answer.
func (x *execution) flush() {
	if len(x.gathered) == 0 || x.attached > 0 {
		return
	}
	x.answer(string(x.gathered), false)
	x.gathered = x.gathered[:0]
}

// answer tells a piece of the answer.
func (x *execution) answer(s string, last bool) {
	x.commit()
	x.tell(task.Event{Chunk: &task.Chunk{
		Artifact: task.Artifact{ID: answerID(x.turn), Name: "answer", Parts: text(s)}, Append: x.sent, Last: last, Merge: true,
	}})
	x.sent = true
}

// attach tells an artifact that a tool made.
func (x *execution) attach(a engine.Artifact) {
	x.commit()
	x.attached++
	id := a.ID
	if id == "" {
		id = fmt.Sprintf("artifact-%d-%d", x.turn, x.attached)
	}
	x.tell(task.Event{Chunk: &task.Chunk{
		Artifact: task.Artifact{ID: id, Name: a.Name, Description: a.Description, Parts: parts(a.Parts)}, Append: a.Append, Last: a.Last,
	}})
}

// commit creates a new task, once. x.mu is held.
func (x *execution) commit() {
	if x.committed || x.refused != nil || x.lone != nil {
		return
	}
	x.committed = true
	defer close(x.settled)
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	rec, err := x.place.store.Create(ctx, x.begin)
	if err == nil && x.watched {
		rec, x.feed, err = x.place.store.Watch(ctx, x.ref)
	}
	if err != nil {
		x.refused, x.lost = err, err
		x.stop(err)
		return
	}
	x.first, x.seq = rec, rec.Seq
	if x.started {
		x.tell(task.Event{Status: x.status(task.Working, nil)})
	}
}

// status gives a status as of now.
func (x *execution) status(s task.State, words []task.Part) *task.Status {
	return x.door.status(s, words)
}

func (d *Door) status(s task.State, words []task.Part) *task.Status {
	out := &task.Status{State: s, At: d.now()}
	if len(words) > 0 {
		out.Message = &task.Message{ID: newID(), Role: task.Agent, Parts: words}
	}
	return out
}

// refuse ends work that could not begin.
func (x *execution) refuse(ctx context.Context, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case !x.committed:
		x.refused = err
		close(x.settled)
	case x.turn > 1 && (errs.Is(err, errs.Unavailable) || errs.Is(err, errs.Exhausted) || errs.Is(err, errs.Timeout)):
		x.refused = err
		x.giveBack()
	case x.turn > 1 && errs.Is(err, errs.Conflict): // what became of the run is told as soon as it's looked at
		x.refused = a2a.Fail(a2a.UnsupportedOperation, "somebody else decided about the task meanwhile", "taskId", x.ref.ID)
		x.giveBack()
	default:
		x.tell(task.Event{Status: x.status(failState(ctx), text(err.Error()))})
		if x.turn > 1 { // its run still waits, and would keep the context closed
			x.door.abandon(x.ref.Owner.Principal, x.begin.Pending)
		}
	}
}

// giveBack lets the task wait as it did before the message of this turn.
func (x *execution) giveBack() {
	old := x.begin
	var events []task.Event
	rec, err := x.place.update(x.ref, func(r *task.Record) ([]task.Event, error) {
		r.Pending, r.Approval = old.Pending, old.Approval
		events = []task.Event{{Status: &task.Status{State: old.Task.Status.State, Message: old.Task.Status.Message, At: x.door.now()}}}
		return events, nil
	})
	if err == nil {
		x.door.await(x.place, rec)
		x.door.push.changed(rec, events)
	}
}

// failState is what work that failed comes to.
func failState(ctx context.Context) task.State {
	if errors.Is(context.Cause(ctx), errCanceled) {
		return task.Canceled
	}
	return task.Failed
}

// finish ends the task.
func (x *execution) finish(s task.State, words []task.Part) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.commit()
	if len(x.gathered) > 0 && x.attached == 0 {
		x.answer(string(x.gathered), true)
	}
	x.gathered = nil
	x.tell(task.Event{Status: x.status(s, words)})
}

// conclude tells what the run came to.
func (x *execution) conclude(ctx context.Context, turn *run.Turn, res engine.Result, err error) {
	switch {
	case res.End == engine.BySuspend && turn.Pending != nil:
		x.suspend(turn)
	case res.End == engine.ByAnswer && err == nil:
		x.complete(res)
	case res.End == engine.ByReject:
		x.finish(task.Rejected, text(res.Message))
	case res.End == engine.ByGiveUp:
		x.finish(task.Failed, text(res.Message))
	default:
		why := "the run failed"
		switch {
		case errors.Is(context.Cause(ctx), errClosing):
			why = errClosing.Error()
		case err != nil:
			why = err.Error()
		case res.Message != "":
			why = res.Message
		}
		x.finish(failState(ctx), text(why))
	}
}

// complete ends the task by an answer.
func (x *execution) complete(res engine.Result) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if res.Lone && !x.committed && x.refused == nil {
		x.lone = &task.Message{ID: newID(), Role: task.Agent, Parts: text(res.Text)}
		close(x.settled)
		return
	}
	x.commit()
	rest := string(x.gathered)
	x.gathered = nil
	var events []task.Event
	var words []task.Part
	switch {
	case x.attached > 0 || res.Lone:
		if rest != "" {
			words = text(rest)
		}
	case rest != "":
		events = append(events, task.Event{Chunk: &task.Chunk{
			Artifact: task.Artifact{ID: answerID(x.turn), Name: "answer", Parts: text(rest)}, Append: x.sent, Last: true, Merge: true,
		}})
	}
	x.tell(append(events, task.Event{Status: x.status(task.Completed, words)})...)
}

// suspend makes the task wait for what its run waits for.
func (x *execution) suspend(turn *run.Turn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.commit()
	if x.attached == 0 {
		x.flush()
	}
	x.gathered = nil
	if x.lost != nil { // nobody will answer
		x.door.abandon(x.ref.Owner.Principal, turn.Pending.ID)
		return
	}
	state, words := asks(*turn.Pending)
	rec := x.begin
	err := x.write([]task.Event{{Status: x.status(state, words)}}, func(r *task.Record) {
		r.Pending, r.Approval = turn.Pending.ID, turn.Pending.Kind == pending.Approval
	})
	if err != nil {
		x.lost = err
		x.door.abandon(x.ref.Owner.Principal, turn.Pending.ID)
		return
	}
	rec.Pending = turn.Pending.ID
	x.door.await(x.place, rec)
}

// end lets go of the execution.
func (x *execution) end() {
	x.mu.Lock()
	if x.timer != nil {
		x.timer.Stop()
	}
	x.mu.Unlock()
	x.door.mu.Lock()
	if x.door.running[x.ref] == x {
		delete(x.door.running, x.ref)
	}
	x.door.mu.Unlock()
	x.leave()
	close(x.done)
}
