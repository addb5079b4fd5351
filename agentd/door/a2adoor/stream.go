package a2adoor

import (
	"context"
	"errors"
	"fmt"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/a2a"
)

// sink gets what a stream tells, from one goroutine; nil: nothing to tell, but the stream lives. Its error ends the stream.
type sink func(*pb.StreamResponse) error

// streamed takes a place among the open streams.
func (d *Door) streamed(c call) (leave func(), err error) {
	if !c.face.A2A.Streaming {
		return nil, a2a.Fail(a2a.UnsupportedOperation, "this agent does not stream (capabilities.streaming)")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.streams >= d.cfg.MaxStreams {
		return nil, a2a.Fail(a2a.Exhausted, "the agent has as many streams open as it can; try again")
	}
	d.streams++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.streams--
	}, nil
}

// sendStream is SendStreamingMessage: a lone message, or the task and what happens to it until it ends or asks for something. An error before the
// first thing that is told is the request's.
func (d *Door) sendStream(ctx context.Context, c call, req *pb.SendMessageRequest, tell sink) error {
	leave, err := d.streamed(c)
	if err != nil {
		return err
	}
	defer leave()
	a, err := d.read(c, req)
	if err != nil {
		return err
	}
	x, err := d.launch(ctx, c, a, true)
	if err != nil {
		return err
	}
	x.settle(ctx)
	x.mu.Lock()
	lone, refused, rec, feed := x.lone, x.refused, x.first, x.feed
	x.mu.Unlock()
	switch {
	case refused != nil:
		if feed != nil {
			feed.Close()
		}
		return d.refusal(refused)
	case lone != nil:
		return tell(&pb.StreamResponse{Payload: &pb.StreamResponse_Message{Message: wireMessage(*lone, "", x.begin.Task.ContextID)}})
	}
	defer feed.Close()
	defer d.use(x.place)()
	return d.pump(ctx, rec, feed, a.view(), true, tell)
}

// subscribe is SubscribeToTask: the task as it is and what happens to it until it ends.
func (d *Door) subscribe(ctx context.Context, c call, req *pb.SubscribeToTaskRequest, tell sink) error {
	leave, err := d.streamed(c)
	if err != nil {
		return err
	}
	defer leave()
	if err := checkID("id", req.GetId()); err != nil {
		return err
	}
	at, rec, feed, err := d.watch(ctx, c, req.GetId())
	if err != nil {
		return err
	}
	defer feed.Close()
	defer d.use(at)()
	if state := rec.Task.Status.State; state.Terminal() {
		return a2a.Fail(a2a.UnsupportedOperation, fmt.Sprintf("the task is %s: nothing more happens to it", wireState(state)), "taskId", req.GetId())
	}
	return d.pump(ctx, rec, feed, whole(), false, tell)
}

// pump tells a task and what follows.
func (d *Door) pump(ctx context.Context, rec task.Record, feed task.Feed, v view, turn bool, tell sink) error {
	id, contextID := rec.Task.ID, rec.Task.ContextID
	if err := tell(&pb.StreamResponse{Payload: &pb.StreamResponse_Task{Task: wireTask(rec.Task, v)}}); err != nil {
		return err
	}
	for {
		event, err := d.next(ctx, feed, tell)
		switch {
		case errors.Is(err, task.ErrEnded):
			return nil
		case errors.Is(err, task.ErrLagged):
			return a2a.Fail(a2a.Unavailable, "the stream fell too far behind; subscribe to the task again", "taskId", id)
		case err != nil:
			return err
		}
		if told := wireEvent(event, id, contextID); told != nil {
			if err := tell(told); err != nil {
				return err
			}
		}
		if event.Status != nil && (event.Status.State.Terminal() || turn && event.Status.State.Interrupted()) {
			return nil
		}
	}
}

// next waits for an event, and shows now and then that the stream lives.
func (d *Door) next(ctx context.Context, feed task.Feed, tell sink) (task.Event, error) {
	for {
		waiting, cancel := context.WithTimeout(ctx, d.cfg.KeepAlive)
		event, err := feed.Next(waiting)
		cancel()
		if err == nil || !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return event, err
		}
		if err := tell(nil); err != nil {
			return task.Event{}, err
		}
	}
}
