package configclient

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/agentry/agentry/internal/phase"
)

func TestStartFromLastGoodWithoutControlPlane(t *testing.T) {
	f, dir := newFakeServer(t), t.TempDir()
	_, stop := start(t, dir, f, newFakeApplier())
	st := f.accept(t, "c1")
	one := config(5, "0.1")
	one.creds = map[string]string{"key": "sk-planted"}
	st.snapshot(one.snapshot(t, 1))
	st.want(1, applied)
	stop()
	f.setFail(true)
	for range 5 {
		a := newFakeApplier()
		c, stop := start(t, dir, f, a)
		eventually(t, "not started from last good", func() bool { return c.Status().Phase == phase.Applied })
		if got := a.applied()[0].Credentials["key"].Value.Reveal(); got != "sk-planted" {
			t.Errorf("credential %q", got)
		}
		stop()
	}
}

func TestAnotherStateKeyIsToldAndNeverARefusal(t *testing.T) {
	f, dir := newFakeServer(t), t.TempDir()
	_, stop := start(t, dir, f, newFakeApplier())
	st := f.accept(t, "c1")
	one := config(5, "0.1")
	one.creds = map[string]string{"key": "sk-planted"}
	st.snapshot(one.snapshot(t, 1))
	st.want(1, applied)
	stop()
	if err := os.Remove(filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	start(t, dir, f, newFakeApplier())
	st = f.accept(t, "c1")
	faults := st.hello.GetFaults()
	if len(faults) != 1 || faults[0].GetCode() != "state_key" || faults[0].GetRetryable() || len(st.hello.GetRefusals()) != 0 {
		t.Errorf("faults %v, refusals %v", faults, st.hello.GetRefusals())
	}
	st.snapshot(one.snapshot(t, 1))
	if r := st.want(1, applied); len(r.GetFaults()) != 0 {
		t.Errorf("faults %v stay", r.GetFaults())
	}
}

func TestTwoStartsThatDieLeadToThePreviousGeneration(t *testing.T) {
	f, dir := newFakeServer(t), t.TempDir()
	_, stop := start(t, dir, f, newFakeApplier())
	st := f.accept(t, "c1")
	st.snapshot(config(5, "0.1").snapshot(t, 1))
	st.want(1, applied)
	st.snapshot(config(6, "0.2").snapshot(t, 2))
	st.want(2, applied)
	stop()
	for range 2 { // dies while it builds: nothing clears the attempt
		s := openTest(t, dir)
		if good, _, _ := s.boot(testVersion, nil); good == nil || good.update.Token.Generation != 6 {
			t.Fatalf("boot from %+v", good)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	a := newFakeApplier()
	start(t, dir, f, a)
	st = f.accept(t, "c1")
	if got := hashOf(st.hello.GetRunning()); got != config(5, "0.1").token().Hash {
		t.Errorf("runs %s after two deaths", got)
	}
	refusals := st.hello.GetRefusals()
	if len(refusals) != 1 || refusals[0].GetGeneration() != 6 || refusals[0].GetFaults()[0].GetCode() != "boot_crash" {
		t.Errorf("refusals %v", refusals)
	}
}

// A boot attempt is cleared on disk before the config is served: whoever kills agentd as soon as it is ready killed no start.
func TestReadyClearsTheBootAttempt(t *testing.T) {
	f, dir := newFakeServer(t), t.TempDir()
	_, stop := start(t, dir, f, newFakeApplier())
	st := f.accept(t, "c1")
	st.snapshot(config(5, "0.1").snapshot(t, 1))
	st.want(1, applied)
	stop()
	a := newFakeApplier()
	left := map[uint64]attempt{1: {}}
	a.committed = func() {
		s := &State{dir: dir}
		s.loadMemory()
		left = s.mem.Attempts
	}
	c, stop := start(t, dir, f, a)
	eventually(t, "not started from last good", func() bool { return c.Status().Phase == phase.Applied })
	stop()
	if len(left) != 0 {
		t.Errorf("attempts on disk when the config is swapped in: %v", left)
	}
}
