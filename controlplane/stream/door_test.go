package stream

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/phase"
)

func TestFence(t *testing.T) {
	t.Parallel()
	short := func(c *Config) { c.BehindWait = 20 * time.Millisecond }
	for name, tc := range map[string]struct {
		fence *pushv1.Fence
		tune  func(*Config)
		do    func(*world)
		want  string
		code  codes.Code
	}{
		"at it":             {fence: &pushv1.Fence{ClusterId: clusterID, Epoch: 1, Generation: 100}, want: "snapshot 1 g10 1[agent/x]"},
		"another cluster":   {fence: &pushv1.Fence{ClusterId: "c2", Epoch: 9, Generation: 900}, want: "snapshot 1 g10 1[agent/x]"},
		"an older epoch":    {fence: &pushv1.Fence{ClusterId: clusterID, Epoch: 0, Generation: 900}, want: "snapshot 1 g10 1[agent/x]"},
		"a newer epoch":     {fence: &pushv1.Fence{ClusterId: clusterID, Epoch: 2, Generation: 1}, want: "goaway replica is behind: epoch"},
		"view stays behind": {fence: &pushv1.Fence{ClusterId: clusterID, Epoch: 1, Generation: 150}, tune: short, want: "goaway replica is behind"},
		"view catches up":   {fence: &pushv1.Fence{ClusterId: clusterID, Epoch: 1, Generation: 150}, do: func(w *world) { w.move(160) }, want: "snapshot 1 g10 1[agent/x]"},
		"store went back":   {fence: &pushv1.Fence{ClusterId: clusterID, Epoch: 1, Generation: 500}, want: "end", code: codes.FailedPrecondition},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tc.tune)
			w.mu.Lock()
			w.newest = 200
			w.mu.Unlock()
			w.set(config(10, 1, "agent/x=a"))
			h := hello("i1")
			h.Fence = tc.fence
			p := w.dial(h)
			if tc.do != nil {
				tc.do(w)
			}
			p.expect(tc.want)
			if tc.code != codes.OK {
				if err := <-p.err; status.Code(err) != tc.code {
					t.Errorf("ended with %v", err)
				}
				if w.hub.Alarm() == "" {
					t.Error("no alarm")
				}
			}
		})
	}
}

func TestStoreWentBackAtTwoAgentsStopsPushing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a := config(10, 1, "agent/x=a")
	w.set(a)
	calm := w.dial(hello("calm"))
	calm.report(nonce(calm.expect("snapshot 1 g10 1[agent/x]")), applied, token(a), token(a))
	for _, agent := range []string{"one", "two"} {
		h := hello("i1")
		h.Agent, h.Fence = agent, &pushv1.Fence{ClusterId: clusterID, Epoch: 1, Generation: 500}
		p := w.dial(h)
		p.expect("end")
	}
	if !strings.Contains(w.hub.Alarm(), "STORE_WENT_BACK") {
		t.Error("no alarm")
	}
	if r, _ := (&conn{hub: w.hub}).target(time.Now()); r != nil {
		t.Error("still pushing")
	}
	late := w.dial(hello("late"))
	late.expect("end")
	if err := <-late.err; status.Code(err) != codes.Unavailable {
		t.Errorf("a new stream got %v", err)
	}
}

func TestRefusedStreams(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for name, tc := range map[string]struct {
		change func(*world, *pushv1.Hello)
		want   codes.Code
	}{
		"view not loaded": {func(w *world, _ *pushv1.Hello) { w.mu.Lock(); w.ready = false; w.mu.Unlock() }, codes.Unavailable},
		"no namespace":    {func(_ *world, h *pushv1.Hello) { h.Namespace = "" }, codes.InvalidArgument},
		"agent name":      {func(_ *world, h *pushv1.Hello) { h.Agent = "a/b" }, codes.InvalidArgument},
		"instance id":     {func(_ *world, h *pushv1.Hello) { h.Instance = long }, codes.InvalidArgument},
		"version":         {func(_ *world, h *pushv1.Hello) { h.AgentdVersion = long }, codes.InvalidArgument},
		"label":           {func(_ *world, h *pushv1.Hello) { h.Labels = map[string]string{"a": long} }, codes.InvalidArgument},
		"endpoint":        {func(_ *world, h *pushv1.Hello) { h.Endpoints = []string{long} }, codes.InvalidArgument},
		"refusals":        {func(_ *world, h *pushv1.Hello) { h.Refusals = make([]*pushv1.Refusal, 9) }, codes.InvalidArgument},
		"refusal hash":    {func(_ *world, h *pushv1.Hello) { h.Refusals = []*pushv1.Refusal{{Hash: []byte("x")}} }, codes.InvalidArgument},
		"held hash":       {func(_ *world, h *pushv1.Hello) { h.Held = []*pushv1.ManifestLine{{Kind: "mcp", Name: "a"}} }, codes.InvalidArgument},
		"running hash":    {func(_ *world, h *pushv1.Hello) { h.Running = &pushv1.Token{Hash: []byte("x")} }, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			h := hello("i1")
			tc.change(w, h)
			p := w.dial(h)
			p.expect("end")
			if err := <-p.err; status.Code(err) != tc.want {
				t.Errorf("ended with %v, want %v", err, tc.want)
			}
			if n := len(w.table.All()); n != 0 {
				t.Errorf("%d instances were entered", n)
			}
		})
	}
}

func TestNoHello(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.HelloWait = 10 * time.Millisecond })
	p := w.connect()
	if _, err := p.stream.Recv(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("ended with %v", err)
	}
}

func TestSlowReaderHurtsNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.SendWait = 50 * time.Millisecond })
	big := func(generation int64) *snapshot.Rendered {
		return config(generation, generation, "agent/x="+strings.Repeat("a", 1<<20)+fmt.Sprint(generation))
	}
	w.set(big(10))
	stuck := w.connect() // never reads
	stuck.send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Hello{Hello: hello("stuck")}})
	w.until("offered", func(all []fleet.Instance) bool { return len(all) == 1 && !all[0].Offered.IsZero() })
	p := w.dial(hello("i1"))
	r := big(10)
	p.report(nonce(p.expect("snapshot 10 g10 1[agent/x]")), applied, token(r), token(r))
	// The stuck one has a full window; an overlay makes the next send wait.
	w.set(with(r, func(r *snapshot.Rendered) { r.Denied = []string{"a"} }))
	p.expect("overlay a")
	w.until("only the other is left", func(all []fleet.Instance) bool {
		return len(all) == 2 && all[0].ID.Instance == "i1" && all[0].Connected && !all[1].Connected
	})
	if got := w.hub.Stats().Stuck; got != 1 {
		t.Errorf("%d streams were stuck, want 1", got)
	}
	r = big(11)
	w.set(r)
	p.expect("snapshot 11 g11 1[agent/x]")
}

func TestShutdownSendsEverybodyAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.set(config(10, 1, "agent/x=a"))
	var peers []*peer
	for i := range 10 {
		p := w.dial(hello(fmt.Sprintf("i%d", i)))
		p.expect("snapshot 1 g10 1[agent/x]")
		peers = append(peers, p)
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if err := w.hub.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	waits := map[time.Duration]bool{}
	for _, p := range peers {
		waits[p.expect("goaway shutdown").GetGoaway().GetRetryAfter().AsDuration()] = true
	}
	if len(waits) < 5 {
		t.Errorf("retry_after isn't spread: %v", waits)
	}
	late := w.dial(hello("late"))
	late.expect("end")
	if err := <-late.err; status.Code(err) != codes.Unavailable {
		t.Errorf("a new stream got %v", err)
	}
}

func TestAdriftInstanceIsOfferedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a, other := config(10, 1, "agent/x=a"), config(3, 0, "agent/x=z")
	w.set(a)
	p := w.dial(hello("i1"))
	p.report(nonce(p.expect("snapshot 1 g10 1[agent/x]")), applied, token(a), token(a))
	p.beat(token(a))
	w.until("applied", phases(phase.Applied))
	p.quiet(w)
	p.beat(token(other))
	p.expect("snapshot 1 g10 1[agent/x]")
	if got := w.hub.Stats().Adrift; got != 1 {
		t.Errorf("adrift %d, want 1", got)
	}
}

func TestLeaving(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.set(config(10, 1, "agent/x=a"))
	p := w.dial(hello("i1"))
	p.expect("snapshot 1 g10 1[agent/x]")
	p.close()
	w.until("lost, but kept", func(all []fleet.Instance) bool { return len(all) == 1 && !all[0].Connected })
	p = w.dial(hello("i1"))
	p.expect("snapshot 1 g10 1[agent/x]")
	p.leave()
	w.until("gone", func(all []fleet.Instance) bool { return len(all) == 0 })
}
