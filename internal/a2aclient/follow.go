package a2aclient

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/errs"
)

const (
	firstWait = 200 * time.Millisecond
	maxWait   = 5 * time.Second
	// lookback is how many messages of a task's history are read to find one's own.
	lookback = 50
)

// Event is one step of what Follow follows.
type Event struct {
	// Update is what came. After a gap it is a task as it is.
	Update *pb.StreamResponse
	// Task is the task with everything that came so far; nil for a lone message. It is Follow's own, and changes with the next event.
	Task *pb.Task
	// Resumed: events may have been missed before this one.
	Resumed bool
}

// Done reports whether nothing comes after this event unless somebody does something: a lone message, or a task that ended or asks.
func (e Event) Done() bool {
	s := e.Task.GetStatus().GetState()
	return e.Task == nil || Terminal(s) || Interrupted(s)
}

// Follow sends a message and stays with what becomes of it until it is done. A stream that is cut is subscribed to again, with growing waits between; where
// that fails, or the agent doesn't stream, the task is polled. The message itself is sent once. The last event is Done unless there is an error: those of Send,
// or a *LostError where the task goes on and can't be reached. Breaking off leaves the task alone; Cancel ends it.
func (a *Agent) Follow(ctx context.Context, req *pb.SendMessageRequest) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f := a.follower(yield)
		err := f.begin(ctx, req)
		if err == nil && f.live() {
			err = f.stay(ctx)
		}
		if err != nil && !f.left {
			yield(Event{}, err)
		}
	}
}

// Watch is Follow for a task that is there already.
func (a *Agent) Watch(ctx context.Context, taskID string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f := a.follower(yield)
		f.id = taskID
		if err := f.stay(ctx); err != nil && !f.left {
			yield(Event{}, err)
		}
	}
}

// follower is one Follow.
type follower struct {
	agent  *Agent
	yield  func(Event, error) bool
	folded folded
	id     string // of the task; "" until it is known
	gap    bool   // events may have been missed
	done   bool
	left   bool // the reader broke off
}

func (a *Agent) follower(yield func(Event, error) bool) *follower {
	return &follower{agent: a, yield: yield, folded: folded{limit: a.cfg.MaxTask}}
}

// live reports whether there is more to come, and somebody who reads it.
func (f *follower) live() bool { return !f.done && !f.left }

// take hands an event on.
func (f *follower) take(ev *pb.StreamResponse) error {
	out := Event{Update: ev}
	if ev.GetMessage() == nil {
		if err := f.folded.apply(ev); err != nil {
			return err
		}
		f.id, out.Task, out.Resumed = f.folded.task.GetId(), f.folded.task, f.gap
		f.gap = false
	}
	f.done = out.Done()
	f.left = !f.yield(out, nil)
	return nil
}

// begin sends the message. No error: done, or there is a task to stay with.
func (f *follower) begin(ctx context.Context, req *pb.SendMessageRequest) error {
	if !f.agent.Streams() {
		return f.send(ctx, req)
	}
	began := false
	for ev, err := range f.agent.Stream(ctx, req) {
		switch {
		case err == nil:
			began = true
			if err = f.take(ev); err != nil {
				return err
			}
			// The state of before the message, where a task was asked: its stream tells what comes of it.
			if ev.GetTask() != nil && Interrupted(f.folded.task.GetStatus().GetState()) && req.GetMessage().GetTaskId() != "" {
				f.done = false
			}
			if !f.live() {
				return nil
			}
			continue
		case !began && unsupported(err) && ctx.Err() == nil:
			return f.send(ctx, req) // refused, so that nothing was performed
		case !began:
			return f.found(ctx, req, uncertain(req, err))
		case ctx.Err() != nil:
			return f.lost(ctx.Err())
		case !dropped(err):
			return err
		}
	}
	if !began {
		return f.found(ctx, req, &UncertainError{TaskID: req.GetMessage().GetTaskId(), Err: errs.New(errs.Unavailable, "the stream ended before its first event")})
	}
	f.done = f.folded.task == nil || (Event{Task: f.folded.task}).Done()
	f.gap = true
	return nil
}

// found looks whether a message whose fate is uncertain is in its task; if so, there is something to stay with.
func (f *follower) found(ctx context.Context, req *pb.SendMessageRequest, fault error) error {
	var u *UncertainError
	if !errors.As(fault, &u) || u.TaskID == "" || ctx.Err() != nil {
		return fault
	}
	t, err := f.agent.Get(ctx, &pb.GetTaskRequest{Id: u.TaskID, HistoryLength: proto.Int32(lookback)})
	if err != nil {
		return fault
	}
	for _, m := range t.GetHistory() {
		if m.GetMessageId() == req.GetMessage().GetMessageId() {
			f.gap = true
			return f.take(&pb.StreamResponse{Payload: &pb.StreamResponse_Task{Task: t}})
		}
	}
	return fault
}

// send sends the message to an agent that doesn't stream.
func (f *follower) send(ctx context.Context, req *pb.SendMessageRequest) error {
	req = proto.CloneOf(req)
	if req.GetConfiguration() == nil {
		req.Configuration = &pb.SendMessageConfiguration{}
	}
	req.Configuration.ReturnImmediately = true
	out, err := f.agent.Send(ctx, req)
	switch {
	case err != nil:
		return f.found(ctx, req, err)
	case out.GetMessage() != nil:
		return f.take(&pb.StreamResponse{Payload: &pb.StreamResponse_Message{Message: out.GetMessage()}})
	default:
		return f.take(&pb.StreamResponse{Payload: &pb.StreamResponse_Task{Task: out.GetTask()}})
	}
}

// stay is with the task until it is done: by subscriptions, and by polling where they don't work.
func (f *follower) stay(ctx context.Context) error {
	wait := firstWait
	for failed := 0; f.live() && f.agent.Streams() && failed < f.agent.cfg.Tries; failed++ {
		some, err := f.subscribe(ctx)
		switch {
		case !f.live():
			return nil
		case ctx.Err() != nil:
			return f.lost(ctx.Err())
		case unsupported(err): // it ended meanwhile, or is not to be subscribed to
			return f.poll(ctx)
		case err != nil && !dropped(err):
			return err
		}
		f.gap = true
		if some {
			failed, wait = -1, firstWait
		}
		if wait, err = pause(ctx, wait); err != nil {
			return f.lost(err)
		}
	}
	if !f.live() {
		return nil
	}
	return f.poll(ctx)
}

// subscribe reads one subscription to its end, and reports whether the task moved in it: the first event only repeats it.
func (f *follower) subscribe(ctx context.Context) (moved bool, err error) {
	n := 0
	for ev, err := range f.agent.Subscribe(ctx, f.id) {
		if err != nil {
			return n > 1, err
		}
		n++
		if err := f.take(ev); err != nil {
			return n > 1, err
		}
		if !f.live() {
			return true, nil
		}
	}
	return n > 1, nil
}

// poll reads the task until it is done.
func (f *follower) poll(ctx context.Context) error {
	wait := firstWait
	for failed := 0; f.live(); {
		t, err := f.agent.Get(ctx, &pb.GetTaskRequest{Id: f.id, HistoryLength: proto.Int32(0)})
		switch {
		case err == nil:
			failed = 0
			f.gap = true
			if f.folded.task == nil || !proto.Equal(f.folded.task, t) {
				wait = firstWait
				if err := f.take(&pb.StreamResponse{Payload: &pb.StreamResponse_Task{Task: t}}); err != nil {
					return err
				}
			}
		case ctx.Err() != nil:
			return f.lost(ctx.Err())
		case dropped(err):
			if failed++; failed > f.agent.cfg.Tries {
				return f.lost(err)
			}
		default:
			return err
		}
		if !f.live() {
			return nil
		}
		if wait, err = pause(ctx, wait); err != nil {
			return f.lost(err)
		}
	}
	return nil
}

// dropped reports whether a task may go on although its stream, or a question after it, failed by err.
func dropped(err error) bool {
	return passes(err, true) || isReason(err, a2a.Unavailable, a2a.Exhausted, a2a.Internal)
}

func (f *follower) lost(err error) error { return &LostError{TaskID: f.id, Err: err} }

// pause waits, with jitter, and gives how long to wait the next time.
func pause(ctx context.Context, d time.Duration) (time.Duration, error) {
	t := time.NewTimer(d/2 + rand.N(d)) // #nosec G404 -- jitter
	defer t.Stop()
	select {
	case <-t.C:
		return min(2*d, maxWait), nil
	case <-ctx.Done():
		return d, ctx.Err()
	}
}
