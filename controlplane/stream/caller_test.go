package stream

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/errs"
)

// untilEarly waits until a stream is open that hasn't said who it is.
func (w *world) untilEarly() {
	w.tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(wait)
	for {
		w.hub.mu.RLock()
		n := len(w.hub.early)
		w.hub.mu.RUnlock()
		if n == 1 {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			w.tb.Fatal("no stream without a hello")
		}
	}
}

// TestForeignHello: a certificate of one agent opens no stream of another, and so writes nobody else's status.
func TestForeignHello(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		caller string
		want   codes.Code
	}{
		"its own instance":  {ns + "|" + helper + "|i1", codes.OK},
		"any instance":      {ns + "|" + helper + "|", codes.OK},
		"another instance":  {ns + "|" + helper + "|i2", codes.PermissionDenied},
		"another agent":     {ns + "|other|i1", codes.PermissionDenied},
		"another case":      {ns + "|Nacos-Helper|i1", codes.PermissionDenied},
		"another namespace": {"prod|" + helper + "|i1", codes.PermissionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var (
				mu     sync.Mutex
				denied []snapshot.InstanceID
			)
			w := newWorld(t, func(c *Config) {
				c.Denied = func(_ context.Context, _ Caller, asked snapshot.InstanceID, _ error) {
					mu.Lock()
					defer mu.Unlock()
					denied = append(denied, asked)
				}
			})
			w.set(config(10, 1, "agent/x=a"))
			p := w.dialAs(tc.caller, hello("i1"))
			if tc.want == codes.OK {
				p.expect("snapshot 1 g10 1[agent/x]")
				return
			}
			p.expect("end")
			if err := <-p.err; status.Code(err) != tc.want {
				t.Errorf("ended with %v, want %v", err, tc.want)
			}
			if n := len(w.table.All()); n != 0 {
				t.Errorf("%d instances were entered", n)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(denied) != 1 || denied[0] != (snapshot.InstanceID{Namespace: ns, Agent: helper, Instance: "i1"}) {
				t.Errorf("told: %v", denied)
			}
		})
	}
}

func TestRevokedStreamsAreCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	r := config(10, 1, "agent/x=a")
	w.set(r)
	caller := ns + "|" + helper + "|"
	out, stays := w.dialAs(caller+"out", hello("out")), w.dialAs(caller+"stays", hello("stays"))
	out.expect("snapshot 1 g10 1[agent/x]")
	early := w.connectAs(caller + "out") // hasn't said hello; were the other's still on its way, this one would end it
	stays.report(nonce(stays.expect("snapshot 1 g10 1[agent/x]")), applied, token(r), token(r))
	w.mu.Lock()
	w.revoked[snapshot.InstanceID{Namespace: ns, Agent: helper, Instance: "out"}] = errs.New(errs.Denied, "revoked")
	w.mu.Unlock()
	w.untilEarly()
	w.hub.Recheck()
	out.expect("end")
	if err := <-out.err; status.Code(err) != codes.PermissionDenied {
		t.Errorf("ended with %v", err)
	}
	if _, err := early.stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("before its hello: ended with %v", err)
	}
	again := w.dialAs(caller+"out", hello("out"))
	again.expect("end")
	if err := <-again.err; status.Code(err) != codes.PermissionDenied {
		t.Errorf("came back: %v", err)
	}
	w.set(config(11, 2, "agent/x=b"))
	stays.expect("snapshot 2 g11 1[agent/x]")
}

func TestStreamEndsWithItsCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.life = 100 * time.Millisecond
	w.set(config(10, 1, "agent/x=a"))
	p := w.dial(hello("i1"))
	p.expect("snapshot 1 g10 1[agent/x]") // unanswered: nothing waits for it
	p.expect("goaway certificate")
}

// TestTwoStreamsOfAnInstance: a reconnect over a connection that is half open is always let in; what goes is older.
func TestTwoStreamsOfAnInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.set(config(10, 1, "agent/x=a"))
	caller := ns + "|" + helper + "|i1"
	registered := w.dialAs(caller, hello("i1"))
	registered.expect("snapshot 1 g10 1[agent/x]")
	mute := w.connectAs(caller)
	w.untilEarly()
	newest := w.dialAs(caller, hello("i1"))
	newest.expect("snapshot 1 g10 1[agent/x]")
	if _, err := mute.stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the one that said nothing ended with %v", err)
	}
	registered.expect("goaway duplicate")
}

func TestUnknownCaller(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) {
		c.Identify = func(context.Context) (Caller, error) { return Caller{}, errs.New(errs.Unauthenticated, "who?") }
	})
	p := w.dial(hello("i1"))
	p.expect("end")
	if err := <-p.err; status.Code(err) != codes.Unauthenticated {
		t.Errorf("ended with %v", err)
	}
	cfg := w.hub.cfg
	cfg.Identify = nil
	if _, err := New(cfg); err == nil || errors.Is(err, context.Canceled) {
		t.Error("a hub that asks nobody who calls")
	}
}
