// Package netns gives the processes of the fault suite a network of their own: each host is a network namespace at a bridge, so that
// what goes between two of them can be dropped, lost or delayed, each way by itself. It needs root, and takes everything down again:
// at Close, and what a run that died left behind at the next New.
package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// prefix begins the names of the namespaces; the process id of their run follows.
const prefix = "agentry-"

// Net is a bridge with hosts. It is safe for concurrent use.
type Net struct {
	id     string // of the run, in names
	bridge string
	third  int // 10.91.THIRD.0/24

	mu    sync.Mutex // guards what follows
	hosts []*Host
	stops []func()
	wg    sync.WaitGroup
}

// Host is one network namespace with an address at the bridge.
type Host struct {
	Name string
	IP   string
	ns   string
}

// Available says why there can be no such network here; nil: there can.
func Available() error {
	if runtime.GOOS != "linux" {
		return errors.New("needs Linux")
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("needs %s: %w", tool, err)
		}
	}
	return nil
}

// New makes a bridge with the address that Gateway gives, after taking down what runs that are dead left behind.
func New(ctx context.Context) (*Net, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	if err := sweep(ctx); err != nil {
		return nil, err
	}
	n := &Net{id: strconv.Itoa(os.Getpid())}
	for range 50 {
		n.third = 1 + rand.IntN(250) //nolint:gosec // G404: any that is free
		// iproute2 takes names that begin with br for an option.
		n.bridge = fmt.Sprintf("sw%x-%d", os.Getpid(), n.third)
		if used(n.Gateway()) {
			continue
		}
		if err := run(ctx, "ip", "link", "add", n.bridge, "type", "bridge"); err != nil {
			return nil, err
		}
		err := errors.Join(run(ctx, "ip", "addr", "add", n.Gateway()+"/24", "dev", n.bridge), run(ctx, "ip", "link", "set", n.bridge, "up"))
		if err != nil {
			return nil, errors.Join(err, n.Close())
		}
		return n, nil
	}
	return nil, errors.New("no free network in 10.91.0.0/16")
}

// used tells whether an address's network is one of this machine's.
func used(ip string) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.Contains(net.ParseIP(ip)) {
			return true
		}
	}
	return false
}

// Gateway is this process's own address at the bridge.
func (n *Net) Gateway() string { return fmt.Sprintf("10.91.%d.1", n.third) }

// CIDR is the whole network.
func (n *Net) CIDR() string { return fmt.Sprintf("10.91.%d.0/24", n.third) }

// Add makes a host.
func (n *Net) Add(ctx context.Context, name string) (*Host, error) {
	n.mu.Lock()
	index := len(n.hosts)
	h := &Host{Name: name, IP: fmt.Sprintf("10.91.%d.%d", n.third, 10+index), ns: prefix + n.id + "-" + name}
	n.hosts = append(n.hosts, h)
	n.mu.Unlock()
	here, there := fmt.Sprintf("h%x.%d.%d", os.Getpid(), n.third, index), "eth0" // names are free a moment after their namespace went
	for _, argv := range [][]string{
		{"ip", "netns", "add", h.ns},
		{"ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", h.ns},
		{"ip", "link", "set", here, "master", n.bridge, "up"},
		{"ip", "-n", h.ns, "addr", "add", h.IP + "/24", "dev", there},
		{"ip", "-n", h.ns, "link", "set", there, "up"},
		{"ip", "-n", h.ns, "link", "set", "lo", "up"},
		{"ip", "-n", h.ns, "route", "add", "default", "via", n.Gateway()},
	} {
		if err := run(ctx, argv...); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// Close ends the forwarders and takes the network down. Processes in it must have ended. It is safe twice.
func (n *Net) Close() error {
	n.mu.Lock()
	hosts, stops := n.hosts, n.stops
	n.hosts, n.stops = nil, nil
	n.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
	n.wg.Wait()
	ctx := context.Background()
	var faults []error
	for _, h := range hosts {
		faults = append(faults, run(ctx, "ip", "netns", "del", h.ns)) // its end of the pair goes with it, and the other too
	}
	if _, err := net.InterfaceByName(n.bridge); err == nil {
		faults = append(faults, run(ctx, "ip", "link", "del", n.bridge))
	}
	return errors.Join(faults...)
}

// sweep takes down what runs left behind whose process is gone.
func sweep(ctx context.Context) error {
	entries, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var faults []error
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), prefix)
		pid, _, _ := strings.Cut(rest, "-")
		if ours && dead(pid, 10) {
			faults = append(faults, endAll(ctx, e.Name()), run(ctx, "ip", "netns", "del", e.Name()))
		}
	}
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, l := range links {
		rest, ours := strings.CutPrefix(l.Name, "sw")
		pid, third, whole := strings.Cut(rest, "-")
		if _, err := strconv.Atoi(third); ours && whole && err == nil && dead(pid, 16) {
			faults = append(faults, run(ctx, "ip", "link", "del", l.Name))
		}
	}
	return errors.Join(faults...)
}

func dead(pid string, base int) bool {
	p, err := strconv.ParseInt(pid, base, 32)
	return err == nil && errors.Is(unix.Kill(int(p), 0), unix.ESRCH)
}

// endAll ends the processes in a namespace that a dead run left behind.
func endAll(ctx context.Context, ns string) error {
	out, err := exec.CommandContext(ctx, "ip", "netns", "pids", ns).Output() //nolint:gosec // a namespace of ours
	if err != nil {
		return fmt.Errorf("processes in %s: %w", ns, err)
	}
	for field := range strings.FieldsSeq(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	return nil
}

// Prefix is put before a command that is to run on the host.
func (h *Host) Prefix() []string { return []string{"ip", "netns", "exec", h.ns} }

// enter runs f on a thread of its own that is in the host's network.
func (h *Host) enter(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		ns, err := os.Open(filepath.Join("/run/netns", h.ns))
		if err != nil {
			done <- err
			return
		}
		defer func() { _ = ns.Close() }()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter %s: %w", h.ns, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Dial connects within the host, to an IP address and port.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var conn net.Conn
	err := h.enter(func() error {
		var err error
		conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Forward makes an address of the host's loopback reachable here under the same address, until Close. It doesn't go over the bridge.
func (n *Net) Forward(h *Host, addr string) error {
	ln, err := net.Listen("tcp", addr) //nolint:noctx // Close ends it
	if err != nil {
		return err
	}
	n.serve(ln, addr, h.Dial)
	return nil
}

// Expose makes an address of this process's loopback reachable on the host's loopback under the same address, until Close. It doesn't
// go over the bridge.
func (n *Net) Expose(h *Host, addr string) error {
	var ln net.Listener
	if err := h.enter(func() error {
		var err error
		ln, err = net.Listen("tcp", addr) //nolint:noctx // Close ends it
		return err
	}); err != nil {
		return err
	}
	n.serve(ln, addr, (&net.Dialer{Timeout: 5 * time.Second}).DialContext)
	return nil
}

// serve forwards what a listener accepts, until Close.
func (n *Net) serve(ln net.Listener, addr string, dial dialer) {
	ctx, stop := context.WithCancel(context.Background())
	n.mu.Lock()
	n.stops = append(n.stops, func() {
		stop()
		_ = ln.Close()
	})
	n.mu.Unlock()
	n.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			n.wg.Go(func() { join(ctx, dial, conn, addr) })
		}
	})
}

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// join copies both ways until one side is done, then ends both. Who nobody listens to there is reset here, as a closed port would.
func join(ctx context.Context, dial dialer, here net.Conn, addr string) {
	defer func() { _ = here.Close() }()
	there, err := dial(ctx, "tcp", addr)
	if err != nil {
		if tcp, ok := here.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		return
	}
	defer func() { _ = there.Close() }()
	ended := context.AfterFunc(ctx, func() {
		_ = here.Close()
		_ = there.Close()
	})
	defer ended()
	var wg sync.WaitGroup
	half := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		if tcp, ok := to.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}
	wg.Go(func() { half(there, here) })
	half(here, there)
	wg.Wait()
}

// run runs a tool.
func run(ctx context.Context, argv ...string) error {
	_, err := output(ctx, "", argv...)
	return err
}

func output(ctx context.Context, stdin string, argv ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the tools that Available looked for
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.Bytes(), nil
}
