package supervise

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer lets a test read what the supervisor has written so far, and wait for it.
type buffer struct {
	mu  sync.Mutex
	b   bytes.Buffer
	new chan struct{}
}

func newBuffer() *buffer { return &buffer{new: make(chan struct{}, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.new <- struct{}{}:
	default:
	}
	return b.b.Write(p)
}

func (b *buffer) waitFor(t *testing.T, text string, times int) string {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		b.mu.Lock()
		s := b.b.String()
		b.mu.Unlock()
		if strings.Count(s, text) >= times {
			return s
		}
		select {
		case <-b.new:
		case <-deadline:
			t.Fatalf("waited for %d of %q, have:\n%s", times, text, s)
		}
	}
}

func TestRunPrefixesRestartsAndStops(t *testing.T) {
	out := newBuffer()
	s := New(out)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, Process{Name: "child", Path: "/bin/sh", Args: []string{"-c", `echo "hello $WORD"; exec sleep 60`}, Env: []string{"WORD=world"}})
	}()
	out.waitFor(t, "child | hello world", 1)
	pid := s.PID("child")
	for pid == 0 { // the child may speak before Start has answered
		<-s.Changed()
		pid = s.PID("child")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	got := out.waitFor(t, "child | hello world", 2)
	if !strings.Contains(got, "up | child ended (signal: killed); starting it again in") {
		t.Errorf("the restart is not told:\n%s", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run answered %v, want nil after its context ended", err)
	}
	if s.PID("child") != 0 {
		t.Error("a stopped child still has a pid")
	}
}

func TestRunAnswersWhatCantBeStarted(t *testing.T) {
	err := New(newBuffer()).Run(t.Context(), Process{Name: "ghost", Path: "/nonexistent/program"})
	if err == nil || !strings.Contains(err.Error(), "ghost") {
		t.Errorf("got %v, want an error that names the child", err)
	}
}
