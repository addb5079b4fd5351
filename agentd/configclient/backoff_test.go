package configclient

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
)

// A stream that opens and fails at once backs off as one that never opens does; only a confirmed snapshot begins anew; and a
// goodbye's time is kept.
func TestReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a := newFakeServer(t), newFakeApplier()
		st, err := OpenState(StateConfig{Dir: t.TempDir(), Namespace: "default", Agent: "helper", Persist: PersistSealed})
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(Config{
			Namespace: "default", Agent: "helper", Version: testVersion, Addresses: []string{"fake"}, Dial: f.dial,
			State: st, Applier: a, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		defer func() {
			cancel()
			<-done
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		}()
		// next gives the wait until the next stream.
		next := func() (*fakeStream, time.Duration) {
			began := time.Now()
			s := f.opened(t)
			s.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Welcome{Welcome: &pushv1.Welcome{ClusterId: "c1", Epoch: 1}}})
			return s, time.Since(began)
		}
		s, _ := next()
		var total time.Duration
		for n := range 16 {
			s.end <- nil
			var waited time.Duration
			s, waited = next()
			if most := limit(n, 200*time.Millisecond, 30*time.Second); waited > most {
				t.Errorf("wait %d was %s, want at most %s", n, waited, most)
			}
			total += waited
		}
		if total < 20*time.Second {
			t.Errorf("16 streams that failed at once came within %s", total)
		}

		s.snapshot(config(5, "0.1").snapshot(t, 1))
		s.want(1, applied)
		s.end <- nil
		s, waited := next()
		if waited > 200*time.Millisecond {
			t.Errorf("after a confirmed snapshot the wait was %s", waited)
		}

		for _, after := range []time.Duration{40 * time.Second, 3 * time.Second} {
			s.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Goaway{Goaway: &pushv1.Goaway{Reason: "busy", RetryAfter: durationpb.New(after)}}})
			if s, waited = next(); waited < after || waited > after*6/5+time.Second {
				t.Errorf("sent away for %s, came back after %s", after, waited)
			}
		}
	})
}

// opened waits for the next stream, however long that takes.
func (f *fakeServer) opened(t *testing.T) *fakeStream {
	t.Helper()
	select {
	case s := <-f.streams:
		s.t = t
		return s
	case <-time.After(time.Hour):
		t.Fatal("no stream was opened")
		return nil
	}
}
