// Package harness runs the real binaries for the whole-process suites and the demo: control planes, agents, agentctl, and the
// servers around them. Everything listens on loopback; nothing here is linked by the product.
package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/agentry/agentry/test/harness/pki"
)

// Env is one run's folder, binaries and processes.
type Env struct {
	// Dir holds data directories, state directories and logs.
	Dir string
	// Bin holds controlplane, agentd, agentctl, nacos-mcp and desk-mcp.
	Bin string
	// LogLevel of the processes; New takes it from LogLevelVar, "" means info.
	LogLevel string
	// LeaksFile gets the lines of the processes' logs that hold a secret; New takes it from LeaksVar, "" means that nobody looks.
	LeaksFile string
	// Programs replaces programs of Bin, by name, with others (absolute paths); Vars adds to the environment of a program, by its
	// name. Both count for what is started from then on.
	Programs map[string]string
	Vars     map[string][]string
	// CA, with its files, is the authority of control planes that are started from then on; nil: each makes its own. See UseCA.
	CA            *pki.CA
	CACert, CAKey string

	mu    sync.Mutex // guards procs
	procs []*Proc

	etcdBuild sync.Mutex // guards etcdBuilt, and is held while it is built
	etcdBuilt bool
}

// New makes an Env in a fresh folder below base ("" for the system's temporary folder).
func New(bin, base string) (*Env, error) {
	abs, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(abs, "agentd")); err != nil {
		return nil, fmt.Errorf("no binaries in %s (make build): %w", bin, err)
	}
	dir, err := os.MkdirTemp(base, "agentry-")
	if err == nil {
		dir, err = filepath.Abs(dir) // the processes run in it: what they are told must hold there
	}
	if err != nil {
		return nil, err
	}
	return &Env{Dir: dir, Bin: abs, LogLevel: os.Getenv(LogLevelVar), LeaksFile: os.Getenv(LeaksVar)}, nil
}

// Close kills every process that still runs, and looks for secrets in what they all logged where there is a LeaksFile.
func (e *Env) Close() {
	e.mu.Lock()
	procs := e.procs
	e.procs = nil
	e.mu.Unlock()
	for _, p := range procs {
		p.Kill()
	}
	if len(procs) == 0 {
		return
	}
	if err := e.findLeaks(); err != nil {
		panic(fmt.Sprintf("logs not searched for secrets: %v", err))
	}
}

// Remove closes and deletes the folder.
func (e *Env) Remove() error {
	e.Close()
	return os.RemoveAll(e.Dir)
}

// Proc is one running process. Its output is kept in memory and written to Dir/NAME.log.
type Proc struct {
	Name string
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
	err  error // valid after done
}

// Start runs a program of Bin (or an absolute path) with the caller's environment and env.
func (e *Env) Start(name, program string, env []string, args ...string) (*Proc, error) {
	env = append(env[:len(env):len(env)], e.Vars[program]...)
	if other := e.Programs[program]; other != "" {
		program = other
	}
	if !filepath.IsAbs(program) {
		program = filepath.Join(e.Bin, program)
	}
	logFile, err := os.OpenFile(filepath.Join(e.Dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // the run's own folder
	if err != nil {
		return nil, err
	}
	p := &Proc{Name: name, out: &output{w: logFile}, done: make(chan struct{})}
	p.cmd = exec.Command(program, args...) //nolint:gosec,noctx // a test's processes end by Kill, Stop or Env.Close
	p.cmd.Env = append(cleanEnv(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.Dir = e.Dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		_ = logFile.Close()
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		_ = logFile.Close()
		close(p.done)
	}()
	e.mu.Lock()
	e.procs = append(e.procs, p)
	e.mu.Unlock()
	return p, nil
}

// cleanEnv drops what would point the binaries at a user's own control plane.
func cleanEnv() []string {
	var out []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "AGENT") && !strings.HasPrefix(kv, "CONTROL_PLANE") && !strings.HasPrefix(kv, "OTEL_") {
			out = append(out, kv)
		}
	}
	return out
}

// PID answers the process id.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Kill ends it by SIGKILL and waits.
func (p *Proc) Kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// Signal sends a signal to the process alone.
func (p *Proc) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// Stop ends it by SIGTERM and waits up to d, then kills it and answers an error.
func (p *Proc) Stop(d time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(d):
		p.Kill()
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.Name, d)
	}
}

// Wait answers the exit error once it ended, or an error after d.
func (p *Proc) Wait(d time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(d):
		return fmt.Errorf("%s still runs after %s", p.Name, d)
	}
}

// Running reports whether it still runs.
func (p *Proc) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Output answers what it printed so far.
func (p *Proc) Output() string { return p.out.String() }

// maxOutput bounds what is kept in memory of one process; the log file has all.
const maxOutput = 8 << 20

type output struct {
	mu sync.Mutex // guards all
	b  bytes.Buffer
	w  io.Writer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.b.Len() < maxOutput {
		o.b.Write(p)
	}
	return o.w.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// FreeAddr answers a loopback address whose port was free just now. It lies below those that the system gives to outgoing connections, or a
// process that is started again on it might find it taken.
func FreeAddr() (string, error) {
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(15000+rand.IntN(17000))) //nolint:gosec // G404: a port, not a secret
		ln, err := net.Listen("tcp", address)                                          //nolint:noctx // it is closed at once
		if err == nil {
			return address, ln.Close()
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
	if err != nil {
		return "", err
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String(), nil
}

// Poll calls f every few milliseconds until it answers nil, or gives its last error after d.
func Poll(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		if err := f(ctx); err == nil {
			return nil
		} else if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return errors.Join(last, fmt.Errorf("not within %s", d))
		case <-tick.C:
		}
	}
}

// Get reads a URL and answers status and body.
func Get(ctx context.Context, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := plain().Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// plain is a client without pooled connections: processes come and go on the same port.
func plain() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 60 * time.Second}
}
