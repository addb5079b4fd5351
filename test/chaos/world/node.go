package world

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/agentry/agentry/test/chaos/failpoint"
	"github.com/agentry/agentry/test/harness"
)

// Kind is what a node runs.
type Kind string

// The kinds.
const (
	Etcd   Kind = "etcd"
	Plane  Kind = "plane"
	Agentd Kind = "agentd"
)

// Node is one process with its folder and its addresses. It can be ended and started again, with another program, environment or
// arguments; addresses and folder stay. All methods are safe for concurrent use, but only who injects a fault may call those that
// change something, and faults come one at a time.
type Node struct {
	Kind  Kind
	Name  string // "etcd-0", "plane-2", "agentd-calc-1"; its log is <Name>.log in the world's folder
	Index int    // among its kind
	Dir   string // data or state directory
	// Addr is where clients reach it: etcd's client door, a control plane's people door, an agentd's door. Peer is where the others
	// do: etcd's peer door, a control plane's runtime door; "" for an agentd. Both host:port.
	Addr, Peer string
	// Agent and Instance are an agentd's.
	Agent, Instance string
	// Failpoints is where its points are armed (package failpoint); "" in a world without.
	Failpoints string

	env     *harness.Env
	program string
	args    func() []string
	vars    func() []string
	ready   func(context.Context) error
	site    []string // before every command

	mu    sync.Mutex // guards what follows
	over  Override
	proc  *harness.Proc
	start int // how often it was started
}

// Override changes how a node is started from then on. The zero value changes nothing.
type Override struct {
	// Program is the absolute path of another binary.
	Program string
	// Prefix is put before the program: {"ip", "netns", "exec", "e0"}, {"strace", "-f", ...}. The process is then the group of both;
	// Signal and PID mean the first of them, SignalAll the group.
	Prefix []string
	// Vars are added to the environment, Args to the arguments (a flag given twice counts as given last).
	Vars, Args []string
}

// Override sets what counts at the next Start.
func (n *Node) Override(o Override) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.over = o
}

// Start starts the process and doesn't wait. A running one is an error.
func (n *Node) Start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc != nil && n.proc.Running() {
		return fmt.Errorf("%s runs already", n.Name)
	}
	program := n.program
	if n.over.Program != "" {
		program = n.over.Program
	}
	argv := slices.Concat(n.site, n.over.Prefix, []string{n.path(program)}, n.args(), n.over.Args)
	if len(argv) > 0 && !filepath.IsAbs(argv[0]) {
		found, err := exec.LookPath(argv[0])
		if err != nil {
			return fmt.Errorf("start %s: %w", n.Name, err)
		}
		argv[0] = found
	}
	vars := slices.Concat(n.vars(), n.over.Vars)
	if n.Failpoints != "" {
		vars = append(vars, failpoint.DoorVar(n.Failpoints))
	}
	p, err := n.env.Start(n.Name, argv[0], vars, argv[1:]...)
	if err != nil {
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	n.proc = p
	n.start++
	return nil
}

// path is where a program of the world's binaries lies.
func (n *Node) path(program string) string {
	if filepath.IsAbs(program) {
		return program
	}
	return filepath.Join(n.env.Bin, program)
}

// Up starts it and waits until it is ready, up to d.
func (n *Node) Up(ctx context.Context, d time.Duration) error {
	if err := n.Start(); err != nil {
		return err
	}
	return n.WaitReady(ctx, d)
}

// Ready asks once.
func (n *Node) Ready(ctx context.Context) error { return n.ready(ctx) }

// WaitReady waits until it answers that it is ready, up to d, or until it ended.
func (n *Node) WaitReady(ctx context.Context, d time.Duration) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := false
	err := harness.Poll(ctx, d, func(ctx context.Context) error {
		if ended = !n.Running(); ended {
			stop()
			return nil
		}
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return n.ready(one)
	})
	switch {
	case ended:
		return fmt.Errorf("%s ended before it was ready: %s", n.Name, tail(n.Output()))
	case err != nil:
		return fmt.Errorf("%s is not ready: %w", n.Name, err)
	}
	return nil
}

// Running tells whether the process runs (a stopped one does).
func (n *Node) Running() bool {
	p := n.process()
	return p != nil && p.Running()
}

// Starts tells how often it was started.
func (n *Node) Starts() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.start
}

// PID is the process's id, of the first program of a Prefix; 0: never started.
func (n *Node) PID() int {
	if p := n.process(); p != nil {
		return p.PID()
	}
	return 0
}

// Kill ends it by SIGKILL, with everything in its group, and waits.
func (n *Node) Kill() {
	if p := n.process(); p != nil {
		p.Kill()
	}
}

// Stop ends it by SIGTERM and waits up to d.
func (n *Node) Stop(d time.Duration) error {
	if p := n.process(); p != nil {
		return p.Stop(d)
	}
	return nil
}

// Signal sends a signal to the process alone, SignalAll to its whole group.
func (n *Node) Signal(sig syscall.Signal) error {
	p := n.process()
	if p == nil {
		return fmt.Errorf("%s never ran", n.Name)
	}
	return p.Signal(sig)
}

// SignalAll sends a signal to the process and everything in its group.
func (n *Node) SignalAll(sig syscall.Signal) error {
	p := n.process()
	if p == nil {
		return fmt.Errorf("%s never ran", n.Name)
	}
	return syscall.Kill(-p.PID(), sig)
}

// Output is what the present process printed, at most its first 8 MiB.
func (n *Node) Output() string {
	if p := n.process(); p != nil {
		return p.Output()
	}
	return ""
}

func (n *Node) process() *harness.Proc {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

// URL is http:// and Addr.
func (n *Node) URL() string { return "http://" + n.Addr }

func tail(s string) string {
	const keep = 2000
	if len(s) > keep {
		return "..." + s[len(s)-keep:]
	}
	return s
}
