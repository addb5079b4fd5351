package a2adoor_test

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/agentd/builtin"
	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/pending/inpending"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/task/intask"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/secret"
)

// scripted is a model that does what the prefix of the message's ID says.
type scripted struct {
	mu   sync.Mutex
	seen []model.Request
	left chan string // the message whose call was cancelled
}

// requests are what it was asked.
func (s *scripted) requests() []model.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]model.Request(nil), s.seen...)
}

func call(name, args string) model.Chunk {
	return model.Chunk{ToolCalls: []model.ToolCall{{ID: "c1", Name: name, Arguments: args}}, FinishReason: "tool_calls", Usage: &model.Usage{InputTokens: 1, OutputTokens: 1}}
}

// Generate implements model.Model.
func (s *scripted) Generate(ctx context.Context, r model.Request) iter.Seq2[model.Chunk, error] {
	s.mu.Lock()
	s.seen = append(s.seen, r)
	s.mu.Unlock()
	id := r.Metadata["message_id"]
	after := len(r.Messages) > 0 && r.Messages[len(r.Messages)-1].Role == model.Tool
	return func(yield func(model.Chunk, error) bool) {
		say := func(texts ...string) {
			for _, t := range texts {
				if !yield(model.Chunk{Text: t}, nil) {
					return
				}
			}
			yield(model.Chunk{FinishReason: "stop", Usage: &model.Usage{InputTokens: 3, OutputTokens: 2}}, nil)
		}
		wait := func(d time.Duration) bool {
			select {
			case <-time.After(d):
				return true
			case <-ctx.Done():
				s.left <- id
				yield(model.Chunk{}, ctx.Err())
				return false
			}
		}
		switch {
		case strings.HasPrefix(id, "ask") && !after:
			yield(call(builtin.AskUser, `{"question":"Which day?"}`), nil)
		case strings.HasPrefix(id, "auth") && !after:
			yield(call(builtin.RequestAuth, `{"message":"Log in at example.com."}`), nil)
		case strings.HasPrefix(id, "reject"):
			yield(call(builtin.Reject, `{"reason":"not mine"}`), nil)
		case strings.HasPrefix(id, "fail"):
			yield(call(builtin.GiveUp, `{"reason":"broken"}`), nil)
		case strings.HasPrefix(id, "reply"):
			yield(call(builtin.Reply, `{"text":"just a message"}`), nil)
		case strings.HasPrefix(id, "attach") && !after:
			yield(call(builtin.Attach, `{"name":"report","data":{"key":"value","count":42}}`), nil)
		case strings.HasPrefix(id, "pieces") && !after:
			yield(model.Chunk{ToolCalls: []model.ToolCall{
				{ID: "p1", Name: builtin.Attach, Arguments: `{"artifactId":"big","text":"one "}`},
				{ID: "p2", Name: builtin.Attach, Arguments: `{"artifactId":"big","text":"two","append":true,"last":true}`},
			}, FinishReason: "tool_calls"}, nil)
		case strings.HasPrefix(id, "refund") && !after:
			yield(call("shop__refund", `{"amount":5}`), nil)
		case strings.HasPrefix(id, "slow"):
			if wait(20 * time.Second) {
				say("late")
			}
		case strings.HasPrefix(id, "delayed"):
			if wait(700 * time.Millisecond) {
				say("after a while")
			}
		case strings.HasPrefix(id, "drip"):
			for i := range 5 {
				if !yield(model.Chunk{Text: fmt.Sprint(i)}, nil) || !wait(50*time.Millisecond) {
					return
				}
			}
			say()
		case strings.HasPrefix(id, "broken"):
			yield(model.Chunk{}, &model.Error{Code: "model_unavailable", Message: "the model is down"})
		default:
			say("Hello ", r.Messages[len(r.Messages)-1].Text)
		}
	}
}

// source serves one Runtime.
type source struct{ rt *run.Runtime }

// Acquire implements run.Source.
func (s source) Acquire() (*run.Runtime, func(), error) { return s.rt, func() {}, nil }

// rig is an agent behind its door, on a real port.
type rig struct {
	*httptest.Server

	rt    *run.Runtime
	model *scripted
	door  *a2adoor.Door
	store *intask.Store

	runner *run.Runner
}

func newRig(tb testing.TB, change ...func(*run.Runtime, *a2adoor.Config)) *rig {
	tb.Helper()
	m := &scripted{left: make(chan string, 100)}
	waits, err := inpending.New(inpending.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	rt := &run.Runtime{
		Namespace: "default", Agent: "helper", Revision: 8, Config: "8-abcdef01", Model: m, ModelName: "scripted", MaxIterations: 10, Pending: waits,
		Builtins: builtin.Names(), A2A: run.A2A{DisplayName: "Helper", Description: "Helps.", Version: "1.2.0", Streaming: true, Push: true},
	}
	policy, err := egress.ParsePolicy("loopback")
	if err != nil {
		tb.Fatal(err)
	}
	store := intask.New(intask.Config{})
	cfg := a2adoor.Config{Store: store, Guard: egress.New(egress.Config{Policy: policy})}
	for _, f := range change {
		f(rt, &cfg)
	}
	runner, err := run.New(run.Config{Source: source{rt}, Builtin: builtin.Tools{}, Instance: "i1"})
	if err != nil {
		tb.Fatal(err)
	}
	cfg.Runner = runner
	door, err := a2adoor.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	guard, err := front.New(front.Config{Source: runner})
	if err != nil {
		tb.Fatal(err)
	}
	mux := http.NewServeMux()
	for _, p := range a2adoor.Open() {
		mux.Handle(p, door)
	}
	guarded := guard.Guard(door, door.Refuse)
	for _, p := range a2adoor.Guarded() {
		mux.Handle(p, guarded)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = door.Run(ctx)
	}()
	s := httptest.NewUnstartedServer(mux)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	tb.Cleanup(func() {
		closing, end := context.WithTimeout(context.Background(), 5*time.Second)
		defer end()
		if err := door.Close(closing); err != nil {
			tb.Error(err)
		}
		cancel()
		<-done
		s.CloseClientConnections()
		s.Close()
		_ = runner.Close(closing)
	})
	return &rig{Server: s, rt: rt, model: m, door: door, store: store, runner: runner}
}

// say makes a request to send a message.
func say(id string, more ...func(*pb.SendMessageRequest)) *pb.SendMessageRequest {
	r := &pb.SendMessageRequest{Message: &pb.Message{MessageId: id, Role: pb.Role_ROLE_USER, Parts: []*pb.Part{{Content: &pb.Part_Text{Text: "hi"}}}}}
	for _, f := range more {
		f(r)
	}
	return r
}

func at(taskID string) func(*pb.SendMessageRequest) {
	return func(r *pb.SendMessageRequest) { r.Message.TaskId = taskID }
}

func configured(c *pb.SendMessageConfiguration) func(*pb.SendMessageRequest) {
	return func(r *pb.SendMessageRequest) { r.Configuration = c }
}

// sent sends a message that makes, or goes on with, a task.
func sent(t *testing.T, c client, r *pb.SendMessageRequest) *pb.Task {
	t.Helper()
	out := &pb.SendMessageResponse{}
	if f := c.call(t, "SendMessage", r, out); f != nil {
		t.Fatalf("SendMessage: %+v", f)
	}
	if out.GetTask() == nil {
		t.Fatalf("no task: %v", out)
	}
	return out.GetTask()
}

// state reads a task's state.
func state(t *testing.T, c client, id string) pb.TaskState {
	t.Helper()
	out := &pb.Task{}
	if f := c.call(t, "GetTask", &pb.GetTaskRequest{Id: id}, out); f != nil {
		t.Fatalf("GetTask: %+v", f)
	}
	return out.GetStatus().GetState()
}

// until waits for a state.
func until(t *testing.T, c client, id string, want pb.TaskState) {
	t.Helper()
	end := time.Now().Add(5 * time.Second)
	for {
		got := state(t, c, id)
		if got == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the task is %v, want %v", got, want)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the test ended")
		}
	}
}

// failsWith expects an error.
func failsWith(t *testing.T, f *fault, reason string) {
	t.Helper()
	if f == nil {
		t.Fatalf("no error, want %s", reason)
	}
	if f.Reason != reason {
		t.Fatalf("error is %+v, want %s", f, reason)
	}
}

func keyed(names ...string) []run.InboundKey {
	var out []run.InboundKey
	for _, n := range names {
		out = append(out, run.InboundKey{Name: n, Approver: n == "boss", Value: func() secret.Value { return secret.NewValue("key-of-" + n) }})
	}
	return out
}
