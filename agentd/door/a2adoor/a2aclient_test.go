package a2adoor_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/a2aclient"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// breaker is a TCP proxy whose connections can be cut, and which may refuse new ones.
type breaker struct {
	net.Listener

	to string

	mu    sync.Mutex // guards what follows
	conns []net.Conn
	deaf  bool
}

func newBreaker(t *testing.T, to string) *breaker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &breaker{Listener: l, to: to}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { b.carry(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		b.cut(true)
		wg.Wait()
	})
	return b
}

func (b *breaker) carry(in net.Conn) {
	defer func() { _ = in.Close() }()
	out, err := net.Dial("tcp", b.to)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	b.mu.Lock()
	deaf := b.deaf
	b.conns = append(b.conns, in, out)
	b.mu.Unlock()
	if deaf {
		return
	}
	var wg sync.WaitGroup
	for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
		wg.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = in.Close()
			_ = out.Close()
		})
	}
	wg.Wait()
}

// cut ends every connection; deaf: new ones end at once, too.
func (b *breaker) cut(deaf bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deaf = deaf
	for _, c := range b.conns {
		_ = c.Close()
	}
	b.conns = nil
}

func (b *breaker) url() string { return "http://" + b.Addr().String() }

// caller is a Config for what listens on this machine.
func caller(t *testing.T, change ...func(*a2aclient.Config)) a2aclient.Config {
	t.Helper()
	policy, err := egress.ParsePolicy("loopback")
	if err != nil {
		t.Fatal(err)
	}
	cfg := a2aclient.Config{Egress: egress.Config{Policy: policy}, CardTimeout: 10 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	return cfg
}

func opened(t *testing.T, address string, cfg a2aclient.Config) *a2aclient.Agent {
	t.Helper()
	a, err := a2aclient.Open(t.Context(), address, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// eachOutside runs f with the client over each binding.
func eachOutside(t *testing.T, address string, change []func(*a2aclient.Config), f func(t *testing.T, a *a2aclient.Agent)) {
	t.Helper()
	for _, binding := range []string{a2a.BindingJSONRPC, a2a.BindingHTTP, a2a.BindingGRPC} {
		t.Run(binding, func(t *testing.T) {
			t.Parallel()
			only := func(c *a2aclient.Config) { c.Bindings = []string{binding} }
			f(t, opened(t, address, caller(t, append(slices.Clone(change), only)...)))
		})
	}
}

// followed reads everything that becomes of a message, and gives the last event and the text of each artifact.
func followed(t *testing.T, a *a2aclient.Agent, r *pb.SendMessageRequest, each func(a2aclient.Event)) (last a2aclient.Event, texts string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for ev, err := range a.Follow(ctx, r) {
		if err != nil {
			t.Fatal(err)
		}
		if last.Update != nil && last.Done() && !ev.Done() {
			t.Error("an event after the last one")
		}
		last = ev
		if each != nil {
			each(ev)
		}
	}
	for _, art := range last.Task.GetArtifacts() {
		for _, p := range art.GetParts() {
			texts += p.GetText()
		}
	}
	return last, texts
}

func TestTheClientDoesEveryOperation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	eachOutside(t, r.URL, nil, func(t *testing.T, a *a2aclient.Agent) {
		t.Helper()
		got, err := a.Send(t.Context(), say("hello-1"))
		if err != nil || got.GetTask().GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED {
			t.Fatalf("send: %v, %v", got, err)
		}
		id := got.GetTask().GetId()
		if task, err := a.Get(t.Context(), &pb.GetTaskRequest{Id: id}); err != nil || task.GetId() != id {
			t.Errorf("get: %v, %v", task, err)
		}
		if page, err := a.List(t.Context(), &pb.ListTasksRequest{ContextId: got.GetTask().GetContextId()}); err != nil || len(page.GetTasks()) != 1 || page.GetTasks()[0].GetId() != id {
			t.Errorf("list: %v, %v", page, err)
		}
		for ev, err := range a.Subscribe(t.Context(), id) {
			var e *a2a.Error
			if !errors.As(err, &e) || e.Reason != a2a.UnsupportedOperation {
				t.Errorf("subscribe to what ended: %v, %v", ev, err)
			}
		}
		_, err = a.Get(t.Context(), &pb.GetTaskRequest{Id: "no such/task?&"})
		if !errs.Is(err, errs.NotFound) {
			t.Errorf("get what isn't there: %v", err)
		}
		_, err = a.Send(t.Context(), say("again", at(id)))
		var e *a2a.Error
		if !errors.As(err, &e) || e.Reason != a2a.UnsupportedOperation {
			t.Errorf("send to what ended: %v", err)
		}
		_, err = a.Send(t.Context(), &pb.SendMessageRequest{Message: &pb.Message{MessageId: "m", Role: pb.Role_ROLE_USER}})
		if !errors.As(err, &e) || e.Reason != a2a.InvalidParams || len(e.Fields) == 0 {
			t.Errorf("send nothing: %v", err)
		}

		slow, err := a.Send(t.Context(), say("slow-1", configured(&pb.SendMessageConfiguration{ReturnImmediately: true})))
		if err != nil {
			t.Fatal(err)
		}
		push, err := a.CreatePush(t.Context(), &pb.TaskPushNotificationConfig{TaskId: slow.GetTask().GetId(), Url: "http://127.0.0.1:1/hook"})
		if err != nil || push.GetId() == "" {
			t.Fatalf("create push: %v, %v", push, err)
		}
		if one, err := a.Push(t.Context(), slow.GetTask().GetId(), push.GetId()); err != nil || one.GetUrl() != "http://127.0.0.1:1/hook" {
			t.Errorf("get push: %v, %v", one, err)
		}
		if all, err := a.Pushes(t.Context(), &pb.ListTaskPushNotificationConfigsRequest{TaskId: slow.GetTask().GetId()}); err != nil || len(all.GetConfigs()) != 1 {
			t.Errorf("list pushes: %v, %v", all, err)
		}
		if err := a.DeletePush(t.Context(), slow.GetTask().GetId(), push.GetId()); err != nil {
			t.Errorf("delete push: %v", err)
		}
		if task, err := a.Cancel(t.Context(), slow.GetTask().GetId()); err != nil || task.GetStatus().GetState() != pb.TaskState_TASK_STATE_CANCELED {
			t.Errorf("cancel: %v, %v", task, err)
		}
	})
}

func TestFollowEndsAsTheTaskDoes(t *testing.T) {
	t.Parallel()
	streams, polls := newRig(t), newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) { rt.A2A.Streaming = false })
	for name, r := range map[string]*rig{"streams": streams, "polls": polls} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachOutside(t, r.URL, nil, func(t *testing.T, a *a2aclient.Agent) {
				t.Helper()
				if last, text := followed(t, a, say("drip-1"), nil); last.Task.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED || text != "01234" {
					t.Errorf("drip: %v, %q", last.Task, text)
				}
				if last, _ := followed(t, a, say("reject-1"), nil); last.Task.GetStatus().GetState() != pb.TaskState_TASK_STATE_REJECTED {
					t.Errorf("reject: %v", last.Task)
				}
				if last, _ := followed(t, a, say("reply-1"), nil); last.Task != nil || last.Update.GetMessage().GetParts()[0].GetText() != "just a message" {
					t.Errorf("reply: %v", last)
				}
				asked, _ := followed(t, a, say("ask-1"), nil)
				if asked.Task.GetStatus().GetState() != pb.TaskState_TASK_STATE_INPUT_REQUIRED {
					t.Fatalf("ask: %v", asked.Task)
				}
				if last, _ := followed(t, a, say("delayed-2", at(asked.Task.GetId())), nil); last.Task.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED || last.Task.GetId() != asked.Task.GetId() {
					t.Errorf("answer: %v", last.Task)
				}
			})
		})
	}
}

func TestFollowOutlivesCutConnections(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, binding := range []string{a2a.BindingJSONRPC, a2a.BindingHTTP, a2a.BindingGRPC} {
		t.Run(binding, func(t *testing.T) {
			t.Parallel()
			way := newBreaker(t, r.Listener.Addr().String())
			a := opened(t, way.url(), caller(t, func(c *a2aclient.Config) { c.Bindings = []string{binding} }))
			cuts, resumed := 0, 0
			id := "drip-cut-" + binding
			last, text := followed(t, a, say(id), func(ev a2aclient.Event) {
				if ev.Resumed {
					resumed++
				}
				if ev.Update.GetArtifactUpdate() != nil && cuts < 2 {
					cuts++
					way.cut(false)
				}
			})
			if last.Task.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED || text != "01234" {
				t.Errorf("ends as %v, %q", last.Task, text)
			}
			if cuts == 0 || resumed == 0 {
				t.Errorf("%d cuts, %d resumed", cuts, resumed)
			}
			r.model.mu.Lock()
			defer r.model.mu.Unlock()
			calls := 0
			for _, s := range r.model.seen {
				if s.Metadata["message_id"] == id {
					calls++
				}
			}
			if calls != 1 {
				t.Errorf("the message came %d times", calls)
			}
		})
	}
}

func TestFollowSaysThatATaskIsLost(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, binding := range []string{a2a.BindingJSONRPC, a2a.BindingHTTP, a2a.BindingGRPC} {
		t.Run(binding, func(t *testing.T) {
			t.Parallel()
			way := newBreaker(t, r.Listener.Addr().String())
			a := opened(t, way.url(), caller(t, func(c *a2aclient.Config) {
				c.Bindings, c.Tries, c.CardTimeout = []string{binding}, 1, time.Second
			}))
			id, told := "", false
			for ev, err := range a.Follow(t.Context(), say("slow-lost")) {
				if err == nil {
					id = ev.Task.GetId()
					way.cut(true)
					continue
				}
				told = true
				var lost *a2aclient.LostError
				if !errors.As(err, &lost) || lost.TaskID != id || id == "" {
					t.Errorf("error is %v", err)
				}
			}
			if !told {
				t.Error("no error")
			}
		})
	}
}

func TestAMessageIsNotSentTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, binding := range []string{a2a.BindingJSONRPC, a2a.BindingHTTP, a2a.BindingGRPC} {
		t.Run(binding, func(t *testing.T) {
			t.Parallel()
			way := newBreaker(t, r.Listener.Addr().String())
			a := opened(t, way.url(), caller(t, func(c *a2aclient.Config) { c.Bindings = []string{binding, a2a.BindingHTTP} }))
			id := "delayed-once-" + binding
			arrived := func() int {
				r.model.mu.Lock()
				defer r.model.mu.Unlock()
				n := 0
				for _, s := range r.model.seen {
					if s.Metadata["message_id"] == id {
						n++
					}
				}
				return n
			}
			done := make(chan error, 1)
			go func() {
				_, err := a.Send(t.Context(), say(id))
				done <- err
			}()
			for end := time.Now().Add(5 * time.Second); arrived() == 0 && time.Now().Before(end); {
				select {
				case <-time.After(5 * time.Millisecond):
				case <-t.Context().Done():
				}
			}
			way.cut(false)
			var unsure *a2aclient.UncertainError
			if err := <-done; !errors.As(err, &unsure) {
				t.Errorf("error is %v", err)
			}
			if n := arrived(); n != 1 {
				t.Errorf("it came %d times", n)
			}
		})
	}
}

func TestSignaturesOfCards(t *testing.T) {
	t.Parallel()
	key, other := ecKey(t), ecKey(t)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	private := secret.NewValue(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	signed := newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) {
		rt.A2A.SigningKey = func() secret.Value { return private }
	})
	unsigned := newRig(t)
	right, wrong := publicKeys(t, key), publicKeys(t, other)
	for name, c := range map[string]struct {
		at       *rig
		trust    a2aclient.Trust
		verified bool
		refused  bool
	}{
		"unsigned":                      {at: unsigned},
		"unsigned, off":                 {at: unsigned, trust: a2aclient.Trust{Mode: a2aclient.Off}},
		"unsigned, required":            {at: unsigned, trust: a2aclient.Trust{Mode: a2aclient.Require}, refused: true},
		"signed, by the card's own key": {at: signed, verified: true},
		"signed, required":              {at: signed, trust: a2aclient.Trust{Mode: a2aclient.Require}, verified: true},
		"signed, by the trusted key":    {at: signed, trust: a2aclient.Trust{Mode: a2aclient.Require, Keys: right}, verified: true},
		"signed, by another key":        {at: signed, trust: a2aclient.Trust{Keys: wrong}, refused: true},
		"signed by another, off":        {at: signed, trust: a2aclient.Trust{Mode: a2aclient.Off, Keys: wrong}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := a2aclient.Open(t.Context(), c.at.URL, caller(t, func(cfg *a2aclient.Config) { cfg.Trust = c.trust }))
			if c.refused {
				if !errs.Is(err, errs.Denied) {
					t.Errorf("error is %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if a.Signature().Verified != c.verified {
				t.Errorf("verdict is %+v", a.Signature())
			}
		})
	}
}

func TestTheClientShowsItsKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) { rt.Inbound.Keys = keyed("shop") })
	shows := []func(*a2aclient.Config){func(c *a2aclient.Config) { c.Credential = secret.NewValue("key-of-shop") }}
	eachOutside(t, r.URL, shows, func(t *testing.T, a *a2aclient.Agent) {
		t.Helper()
		if _, err := a.Send(t.Context(), say("hello")); err != nil {
			t.Error(err)
		}
		if card, err := a.ExtendedCard(t.Context()); err != nil || card.GetName() != "Helper" {
			t.Errorf("extended card: %v, %v", card, err)
		}
	})
	eachOutside(t, r.URL, nil, func(t *testing.T, a *a2aclient.Agent) {
		t.Helper()
		if _, err := a.Send(t.Context(), say("hello")); !errs.Is(err, errs.Unauthenticated) {
			t.Errorf("without a key: %v", err)
		}
	})
}

func TestACardIsFetchedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := opened(t, r.URL+"/a2a", caller(t)) // the interface's own URL does as well
	same, err := a.Refresh(t.Context())
	if err != nil || same != a {
		t.Errorf("refresh gives another one, %v", err)
	}
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func publicKeys(t *testing.T, k *ecdsa.PrivateKey) []a2aclient.Key {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := a2aclient.ParseKeys(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
