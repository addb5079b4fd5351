package a2adoor

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/a2a"
)

// newID gives a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// asked is a message that was looked at.
type asked struct {
	msg       task.Message
	contextID string
	taskID    string
	metadata  map[string]string
	config    *pb.SendMessageConfiguration
	push      *task.Push
}

// read looks at a request to send a message.
func (d *Door) read(c call, req *pb.SendMessageRequest) (asked, error) {
	msg, err := message(req.GetMessage())
	if err != nil {
		return asked{}, err
	}
	a := asked{msg: msg, contextID: req.GetMessage().GetContextId(), taskID: req.GetMessage().GetTaskId(), config: req.GetConfiguration()}
	if err := checkHistory("configuration.historyLength", a.history()); err != nil {
		return asked{}, err
	}
	a.metadata = map[string]string{"message_id": msg.ID}
	if v := req.GetMetadata().GetFields()["private"]; v.GetBoolValue() || v.GetStringValue() == "true" {
		a.metadata["private"] = "true"
	}
	if p := a.config.GetTaskPushNotificationConfig(); p != nil {
		if !c.face.A2A.Push {
			return asked{}, errNoPush()
		}
		push, err := d.readPush("configuration.taskPushNotificationConfig", p)
		if err != nil {
			return asked{}, err
		}
		push.Legacy = c.legacy
		a.push = &push
	}
	return a, nil
}

// history is how much of it the answer shows. An absent configuration is nil all the way.
func (a asked) history() *int32 {
	if a.config == nil {
		return nil
	}
	return a.config.HistoryLength
}

func (a asked) view() view { return view{history: a.history(), artifacts: true} }

// launch begins the work that a message asks for. watched: somebody wants to see it from its beginning.
func (d *Door) launch(ctx context.Context, c call, a asked, watched bool) (*execution, error) {
	x := &execution{door: d, place: c.place, settled: make(chan struct{}), done: make(chan struct{}), watched: watched}
	if a.taskID == "" {
		d.open(c, a, x)
	} else if err := d.resume(ctx, c, a, x); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx)) // a task lives on when its caller leaves
	x.cancel = cancel
	x.leave = d.use(x.place)
	if err := d.enlist(ctx, x); err != nil {
		x.leave()
		return nil, x.unlaunched(err)
	}
	return x, nil
}

// enlist begins to work.
func (d *Door) enlist(ctx context.Context, x *execution) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return a2a.Fail(a2a.Unavailable, errClosing.Error())
	case len(d.running) >= d.cfg.MaxRunning:
		return a2a.Fail(a2a.Exhausted, "the agent works on as many tasks as it can; try again")
	}
	d.running[x.ref] = x
	d.work.Go(func() { x.run(ctx) })
	return nil
}

// unlaunched gives back what a message took that isn't worked on.
func (x *execution) unlaunched(err error) error {
	x.stop(err)
	if x.feed != nil {
		x.feed.Close()
	}
	if x.committed {
		x.giveBack()
	}
	return err
}

// open prepares a new task.
func (d *Door) open(c call, a asked, x *execution) {
	if a.contextID == "" {
		a.contextID = newID()
	}
	id := newID()
	rec := task.Record{Owner: c.owner, Turns: 1, Keeper: c.place.self, Task: task.Task{
		ID: id, ContextID: a.contextID, History: []task.Message{a.msg}, Status: task.Status{State: task.Submitted, At: d.now()},
	}}
	if a.push != nil {
		rec.Push = []task.Push{*a.push}
	}
	x.ref, x.begin, x.turn = rec.Ref(), rec, 1
	x.lonely = slices.Contains(c.face.Builtins, toolReply)
	x.start = func(ctx context.Context) (*run.Turn, error) {
		req := d.request(ctx, c, a, rec)
		req.Stream = x.watched || a.config.GetReturnImmediately() // else the caller gets the task's ID with its end: nobody waits for pieces
		return d.cfg.Runner.Start(ctx, req)
	}
}

// request is what the agent is asked.
func (d *Door) request(ctx context.Context, c call, a asked, rec task.Record) run.Request {
	metadata := a.metadata
	metadata["task_id"], metadata["context_id"] = rec.Task.ID, rec.Task.ContextID
	var messages []engine.Message
	for _, id := range a.msg.ReferenceTaskIDs {
		if _, other, err := d.find(ctx, c, id); err == nil {
			messages = append(messages, reference(other.Task))
		}
	}
	return run.Request{
		ID: requestID(rec), Door: run.DoorA2A, Principal: c.owner.Principal, Session: session(c.owner.Tenant, rec.Task.ContextID),
		Messages: append(messages, prompt(a.msg)), Stream: true, Metadata: metadata, Builtins: true, Steps: true,
	}
}

// requestID names a turn of a task: task/turn, and the tenant behind it. A run that waits carries it, so that whoever goes on with that finds
// the task.
func requestID(rec task.Record) string {
	id := fmt.Sprintf("%s/%d", rec.Task.ID, rec.Turns)
	if rec.Owner.Tenant != "" {
		id += "/" + rec.Owner.Tenant
	}
	return id
}

// session names a context's session. Contexts of tenants are apart, from each other's and from those without a tenant: neither a tenant nor a context
// has control characters (checkID), so the one between them is where both end.
func session(tenant, contextID string) string {
	if tenant == "" {
		return contextID
	}
	return tenant + "\x1f" + contextID
}

// resume prepares the next turn of a task that waits.
func (d *Door) resume(ctx context.Context, c call, a asked, x *execution) error {
	ref := task.Ref{Owner: c.owner, ID: a.taskID}
	at, rec, err := d.find(ctx, c, ref.ID)
	if err != nil {
		return err
	}
	switch state := rec.Task.Status.State; {
	case a.contextID != "" && a.contextID != rec.Task.ContextID:
		return a2a.Bad("message.contextId", "it is not that of the task")
	case state.Terminal():
		return a2a.Fail(a2a.UnsupportedOperation, fmt.Sprintf("the task is %s and takes no further messages", wireState(state)), "taskId", a.taskID)
	case !state.Interrupted() || rec.Pending == "":
		return a2a.Fail(a2a.UnsupportedOperation, "the agent is working on the task; it takes a message when it asks for one", "taskId", a.taskID)
	}
	var decision run.Decision
	if rec.Approval {
		if decision, err = decide(c, a); err != nil {
			return err
		}
	}
	claimed, err := at.update(ref, func(r *task.Record) ([]task.Event, error) {
		if r.Pending != rec.Pending || !r.Task.Status.State.Interrupted() {
			return nil, a2a.Fail(a2a.UnsupportedOperation, "the task goes on already", "taskId", a.taskID)
		}
		if a.push != nil {
			var err error
			if r.Push, err = put(r.Push, *a.push); err != nil {
				return nil, err
			}
		}
		r.Pending, r.Approval, r.Keeper = "", false, at.self
		r.Turns++
		return []task.Event{{Message: &a.msg}, {Status: d.status(task.Working, nil)}}, nil
	})
	if err != nil {
		return err
	}
	d.forget(ref)
	x.place, x.ref, x.begin, x.turn, x.committed, x.first, x.seq = at, ref, rec, claimed.Turns, true, claimed, claimed.Seq
	close(x.settled)
	if x.watched {
		if x.first, x.feed, err = at.store.Watch(ctx, ref); err != nil {
			x.giveBack()
			return err
		}
	}
	d.push.changed(claimed, []task.Event{{Status: &claimed.Task.Status}})
	x.start = func(ctx context.Context) (*run.Turn, error) {
		if rec.Approval {
			return d.cfg.Runner.Decide(ctx, rec.Pending, decision)
		}
		req := d.request(ctx, c, a, claimed)
		req.Session = "" // the run's own, whatever sessions were called when it began
		return d.cfg.Runner.Resume(ctx, rec.Pending, req)
	}
	return nil
}

// send is SendMessage.
func (d *Door) send(ctx context.Context, c call, req *pb.SendMessageRequest) (*pb.SendMessageResponse, error) {
	a, err := d.read(c, req)
	if err != nil {
		return nil, err
	}
	x, err := d.launch(ctx, c, a, false)
	if err != nil {
		return nil, err
	}
	if a.config.GetReturnImmediately() {
		x.settle(ctx)
	} else {
		select {
		case <-x.done:
		case <-ctx.Done():
			x.settle(ctx) // the task is there for whoever asks for it later
			return nil, a2a.Fail(a2a.Unavailable, "the caller left")
		}
	}
	<-x.settled
	x.mu.Lock()
	lone, refused := x.lone, x.refused
	x.mu.Unlock()
	switch {
	case refused != nil:
		return nil, d.refusal(refused)
	case lone != nil:
		return &pb.SendMessageResponse{Payload: &pb.SendMessageResponse_Message{Message: wireMessage(*lone, "", x.begin.Task.ContextID)}}, nil
	}
	rec, err := x.place.store.Get(ctx, x.ref)
	if err != nil {
		return nil, missing(err, x.ref.ID)
	}
	return &pb.SendMessageResponse{Payload: &pb.SendMessageResponse_Task{Task: wireTask(rec.Task, a.view())}}, nil
}

// settle waits until it's known whether there is a task, and after a while decides that there is.
func (x *execution) settle(ctx context.Context) {
	hold := startTask
	if x.lonely {
		hold = holdTask
	}
	timer := time.NewTimer(hold)
	defer timer.Stop()
	select {
	case <-x.settled:
		return
	case <-timer.C:
	case <-ctx.Done():
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.commit()
}

// refusal is the error of a message that was not taken.
func (d *Door) refusal(err error) error {
	var e *run.Error
	if errors.As(err, &e) && e.Code == run.CodePending {
		return a2a.Fail(a2a.UnsupportedOperation, "another task of the context waits for an answer or a decision first", "pending", e.Pending)
	}
	return d.fault(err)
}

// decide reads a message to a task that waits for consent.
func decide(c call, a asked) (run.Decision, error) {
	if !c.caller.Approver {
		return run.Decision{}, a2a.Fail(a2a.UnsupportedOperation, "the task waits for the approval of its tool calls by somebody who may give it", "taskId", a.taskID)
	}
	for _, p := range a.msg.Parts {
		word, reason := p.Text, ""
		if p.Kind == task.Data {
			var in struct{ Decision, Reason string }
			if json.Unmarshal(p.Data, &in) != nil {
				continue
			}
			word, reason = in.Decision, in.Reason
		}
		switch word {
		case "approve":
			return run.Decision{By: c.owner.Principal, Approved: true, Reason: reason}, nil
		case "deny":
			return run.Decision{By: c.owner.Principal, Reason: reason}, nil
		}
	}
	return run.Decision{}, a2a.Fail(a2a.UnsupportedOperation, `the task waits for approval: send "approve" or "deny", as a text or as data {"decision": ..., "reason": ...}`, "taskId", a.taskID)
}
