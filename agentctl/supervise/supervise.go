// Package supervise runs child processes for `agentctl up`: it starts them, prefixes their logs, restarts what crashes and stops
// all of them cleanly. It knows nothing of what the children do.
package supervise

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Limits of a child's life.
const (
	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 10 * time.Second
	healthyAfter = 10 * time.Second // a run this long resets the backoff
	// stopGrace is how long a child may take to end after SIGTERM; it covers agentd's and controlplane's own drains.
	stopGrace = 12 * time.Second
)

// Process says how to run one child.
type Process struct {
	Name string // shown before every line it prints
	Path string
	Args []string
	Env  []string // added to the supervisor's own environment
	Dir  string
}

// Supervisor keeps children running. Its methods may be called from many goroutines.
type Supervisor struct {
	out     *prefixer
	changed chan struct{}

	mu     sync.Mutex // guards pids and starts
	pids   map[string]int
	starts map[string]int
}

// New makes a supervisor that writes the children's output, line by line, to w.
func New(w io.Writer) *Supervisor {
	return &Supervisor{out: &prefixer{w: w}, changed: make(chan struct{}, 1), pids: map[string]int{}, starts: map[string]int{}}
}

// Say prints a line of the supervisor's own among those of the children.
func (s *Supervisor) Say(format string, args ...any) { s.out.line("up", fmt.Sprintf(format, args...)) }

// Changed delivers a value after one or more children started or ended.
func (s *Supervisor) Changed() <-chan struct{} { return s.changed }

// Starts answers how often a child was started.
func (s *Supervisor) Starts(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts[name]
}

// PID answers the process id of a running child; 0 while it isn't running.
func (s *Supervisor) PID(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pids[name]
}

// Run starts p and starts it again whenever it ends, with backoff, until ctx ends; then it stops the child and answers nil. It
// answers an error only when the program can't be started at all.
func (s *Supervisor) Run(ctx context.Context, p Process) error {
	backoff := firstBackoff
	for {
		began := time.Now()
		how, err := s.once(ctx, p)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		default:
		}
		if time.Since(began) > healthyAfter {
			backoff = firstBackoff
		}
		s.Say("%s ended (%s); starting it again in %s", p.Name, how, backoff)
		timer := time.NewTimer(backoff)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// once runs the child to its end and answers how it ended; an error means that it never began.
func (s *Supervisor) once(ctx context.Context, p Process) (string, error) {
	// The kernel sends a parent-death signal when the starting thread ends, so that thread is kept for the child's life.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, p.Path, p.Args...) //nolint:gosec // running named programs is its purpose
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Dir = p.Dir
	w := s.out.writer(p.Name)
	cmd.Stdout, cmd.Stderr = w, w
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	cmd.SysProcAttr = childAttr()
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start %s: %w", p.Name, err)
	}
	s.setPID(p.Name, cmd.Process.Pid)
	err := cmd.Wait()
	s.setPID(p.Name, 0)
	w.flush()
	if err != nil {
		return err.Error(), nil
	}
	return "exit status 0", nil
}

func (s *Supervisor) setPID(name string, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pid == 0 {
		delete(s.pids, name)
	} else {
		s.pids[name] = pid
		s.starts[name]++
	}
	select {
	case s.changed <- struct{}{}:
	default: // the reader hasn't looked since the last change: one look shows both
	}
}
