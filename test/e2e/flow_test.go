package e2e

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
	"github.com/agentry/agentry/test/harness/herd"
)

// newCrowd is newWorld for simulated instances: the authority is in files, which sign for all of them.
func newCrowd(t *testing.T) *world {
	t.Helper()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	if err := env.UseCA(); err != nil {
		t.Fatal(err)
	}
	return worldIn(t, env, echoScript)
}

// herdOf starts simulated instances in a process of their own and waits until all run something.
func (w *world) herdOf(t *testing.T, prefix string, n int, agents ...string) *herd.Herd {
	t.Helper()
	h, err := herd.Start(herd.Config{Target: w.cp.Runtime, CACert: w.CACert, CAKey: w.CAKey, N: n, Agents: agents, Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	if _, err := h.Confirmed(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	return h
}

func must(t *testing.T) func(herd.State, error) herd.State {
	t.Helper()
	return func(s herd.State, err error) herd.State {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// 10 of 100 instances are stopped while ten changes go out: the others get them all, and each of the stopped ones, when it goes on,
// is sent one snapshot, the newest.
func TestStoppedInstancesAreSentTheNewestOnce(t *testing.T) {
	t.Parallel()
	const others, stopped, changes = 90, 10, 10
	w := newCrowd(t)
	w.apply(t, wide(0))
	free, stuck := w.herdOf(t, "free", others, "wide"), w.herdOf(t, "stuck", stopped, "wide")
	w.settled(t, "wide")
	at := must(t)(stuck.Reset())
	if err := stuck.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var before float64
	for i := range changes {
		from := must(t)(free.State()).Oldest
		w.apply(t, wide(i+1))
		must(t)(free.Above(from, 20*time.Second))
	}
	before = w.counter(t, "agentry_push_snapshots_total")
	if got := w.counter(t, "agentry_push_stuck_total"); got != 0 {
		t.Errorf("%v streams were cut", got)
	}
	newest := must(t)(free.State()).Newest
	if err := stuck.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	got := must(t)(stuck.Above(newest-1, 30*time.Second))
	if got.Oldest != newest || got.Newest != newest {
		t.Errorf("they run generations %d to %d, want %d", got.Oldest, got.Newest, newest)
	}
	// Each was sent the first change when it had stopped, which waited on the wire, and then the newest: none of those between.
	if got.Most > 2 || got.Newest <= at.Newest {
		t.Errorf("an instance got %d snapshots", got.Most)
	}
	if sent := w.counter(t, "agentry_push_snapshots_total") - before; sent != stopped {
		t.Errorf("%v snapshots were sent to %d instances that went on, want one each", sent, stopped)
	}
}

// The control plane is killed under 200 instances of 20 agents: all come back and confirm without a byte of content.
func TestKilledUnderManyInstances(t *testing.T) {
	t.Parallel()
	const instances, agents = 200, 20
	w := newCrowd(t)
	files := wide(0)
	var names []string
	for i := range agents {
		name := fmt.Sprintf("many-%02d", i)
		names = append(names, name)
		for _, f := range []string{"agent-base.json", "model.json", "mcp-servers.json"} {
			files[name+"/"+f] = files["wide/"+f]
		}
	}
	w.apply(t, files)
	h := w.herdOf(t, "many", instances, names...)
	for _, name := range names {
		w.settled(t, name)
	}
	must(t)(h.Reset())
	w.cp.Kill()
	killed := herd.Now()
	// Until every stream is seen broken, "confirmed" would be of the old ones.
	eventually(t, 20*time.Second, func(context.Context) error {
		if s, err := h.State(); err != nil || s.Confirmed > 0 {
			return fmt.Errorf("%d still confirmed: %w", s.Confirmed, err)
		}
		return nil
	})
	if err := w.cp.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := must(t)(h.Confirmed(60 * time.Second))
	if s.Bytes != 0 || s.Snapshots != 0 {
		t.Errorf("%d snapshots with %d bytes were sent", s.Snapshots, s.Bytes)
	}
	if got := w.counter(t, "agentry_push_content_bytes_total"); got != 0 {
		t.Errorf("%v bytes of content were sent", got)
	}
	t.Logf("all were back %s after the kill", s.LastConfirmed-killed)
	for _, name := range names {
		w.settled(t, name)
	}
}

// A prompt's new version reaches 200 instances of 100 agents by one write: nothing else is written before the last has applied it.
func TestSharedChangeIsOneWrite(t *testing.T) {
	t.Parallel()
	const instances, agents = 200, 100
	w := newCrowd(t)
	files := wide(0)
	var names []string
	for i := range agents {
		name := fmt.Sprintf("many-%03d", i)
		names = append(names, name)
		for _, f := range []string{"agent-base.json", "model.json", "mcp-servers.json"} {
			files[name+"/"+f] = files["wide/"+f]
		}
		if (i+1)%50 == 0 { // one transaction moves at most 100 heads
			w.apply(t, files)
		}
	}
	h := w.herdOf(t, "many", instances, names...)
	for _, name := range names {
		w.settled(t, name)
	}
	w.rests(t)
	from := must(t)(h.State())
	before := w.counter(t, "agentry_view_revision")
	w.apply(t, wide(1))
	must(t)(h.Above(from.Newest, 30*time.Second))
	if got := w.counter(t, "agentry_view_revision") - before; got != 1 {
		t.Errorf("%v store revisions until the last applied, want 1", got)
	}
	// What was applied is recorded afterwards.
	eventually(t, 20*time.Second, func(context.Context) error {
		if got := w.counter(t, "agentry_view_revision") - before; got < 2 {
			return fmt.Errorf("%v store revisions", got)
		}
		return nil
	})
}

// rests waits until nothing was written for three seconds: what was applied is recorded a moment later.
func (w *world) rests(t *testing.T) {
	t.Helper()
	last, since := w.counter(t, "agentry_view_revision"), time.Now()
	eventually(t, 60*time.Second, func(context.Context) error {
		if at := w.counter(t, "agentry_view_revision"); at != last {
			last, since = at, time.Now()
		}
		if time.Since(since) < 3*time.Second {
			return fmt.Errorf("writes until revision %v", last)
		}
		return nil
	})
}
