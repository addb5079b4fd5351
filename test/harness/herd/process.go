package herd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// variable holds the config in the environment of a herd's process.
const variable = "HERD_OF_INSTANCES"

// command is one line that a herd's process is told; State with an error is what it answers.
type command struct {
	Op      string        `json:"op"`
	Above   int64         `json:"above,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"`
}

type reply struct {
	State

	Error string `json:"error,omitempty"`
}

// Main runs this process as a herd if it was started as one, and reports whether it was.
func Main() bool {
	raw := os.Getenv(variable)
	if raw == "" {
		return false
	}
	if err := serve(raw, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "herd:", err)
	}
	return true
}

func serve(raw string, in io.Reader, out io.Writer) error {
	var cfg Config
	if err := json.Unmarshal([]byte(raw), &cfg); err != nil {
		return err
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	files.Cur = files.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	g, err := newGroup(cfg)
	if err != nil {
		cancel()
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.run(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()
	lines, enc := bufio.NewReader(in), json.NewEncoder(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return nil // the pipe was closed: the end
		}
		var c command
		if err := json.Unmarshal(line, &c); err != nil {
			return err
		}
		r := reply{}
		if err := g.do(ctx, c); err != nil {
			r.Error = err.Error()
		}
		r.State = g.state()
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
}

func (g *group) do(ctx context.Context, c command) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	switch c.Op {
	case "state":
		return nil
	case "reset":
		g.note(func() {
			for _, m := range g.members {
				m.snapshots, m.bytes, m.goodbyes = 0, 0, 0
			}
		})
		return nil
	case "confirmed":
		return g.wait(ctx, func(m *member) bool { return m.confirmed })
	case "above":
		return g.wait(ctx, func(m *member) bool { return m.generation > c.Above })
	default:
		return fmt.Errorf("unknown op %q", c.Op)
	}
}

func (g *group) state() State {
	g.mu.Lock()
	defer g.mu.Unlock()
	var s State
	applied := make([]time.Duration, 0, len(g.members))
	for i, m := range g.members {
		if m.confirmed {
			s.Confirmed++
		}
		if i == 0 || m.generation < s.Oldest {
			s.Oldest = m.generation
		}
		s.Newest = max(s.Newest, m.generation)
		s.Snapshots += m.snapshots
		s.Most = max(s.Most, m.snapshots)
		s.Bytes += m.bytes
		s.Goodbyes += m.goodbyes
		s.LastConfirmed = max(s.LastConfirmed, m.confirmedAt)
		applied = append(applied, m.appliedAt)
	}
	slices.Sort(applied)
	s.Last, s.P50, s.P99 = applied[len(applied)-1], applied[len(applied)/2], applied[len(applied)*99/100]
	return s
}

// Herd is a herd's process, for whoever started it. Its methods are for one goroutine at a time, except Signal.
type Herd struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// Start starts this very program again as a herd.
func Start(cfg Config) (*Herd, error) {
	if cfg.N < 1 || len(cfg.Agents) == 0 {
		return nil, errors.New("herd: at least one instance and one agent")
	}
	raw, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe") //nolint:noctx // Close ends it
	cmd.Env = append(os.Environ(), variable+"="+string(raw))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	h := &Herd{cmd: cmd}
	if h.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.out = bufio.NewReader(out)
	return h, cmd.Start()
}

// Close ends the process.
func (h *Herd) Close() {
	_ = h.in.Close()
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
}

// Signal sends the process a signal: SIGSTOP and SIGCONT stop and continue all instances.
func (h *Herd) Signal(s syscall.Signal) error { return h.cmd.Process.Signal(s) }

// State gives where the herd stands.
func (h *Herd) State() (State, error) { return h.ask(command{Op: "state"}) }

// Reset sets the counters to zero.
func (h *Herd) Reset() (State, error) { return h.ask(command{Op: "reset"}) }

// Confirmed waits until every instance has a stream and answered something on it.
func (h *Herd) Confirmed(timeout time.Duration) (State, error) {
	return h.ask(command{Op: "confirmed", Timeout: timeout})
}

// Above waits until every instance runs a newer generation than this one.
func (h *Herd) Above(generation int64, timeout time.Duration) (State, error) {
	return h.ask(command{Op: "above", Above: generation, Timeout: timeout})
}

func (h *Herd) ask(c command) (State, error) {
	if err := json.NewEncoder(h.in).Encode(c); err != nil {
		return State{}, err
	}
	line, err := h.out.ReadBytes('\n')
	if err != nil {
		return State{}, fmt.Errorf("herd: the process ended: %w", err)
	}
	var r reply
	if err := json.Unmarshal(line, &r); err != nil {
		return State{}, err
	}
	if r.Error != "" {
		return r.State, errors.New(r.Error)
	}
	return r.State, nil
}
