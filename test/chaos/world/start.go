package world

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/agentry/agentry/test/harness"
)

// Options say what to start. Zero values mean: nothing of that kind, or what the comment says.
type Options struct {
	// Bin holds the binaries, Base is the folder below which the run's own is made ("": the system's temporary one), Root the module's
	// root.
	Bin, Base, Root string
	// Etcds and Planes are how many members and replicas; default 3 each.
	Etcds, Planes int
	// Agents are the agents with their instances; default Fleet.
	Agents []Agent
	// EtcdArgs, PlaneArgs and AgentdArgs are added to the arguments of every node of the kind, the Vars to its environment.
	EtcdArgs, PlaneArgs, AgentdArgs []string
	EtcdVars, PlaneVars, AgentdVars []string
	// Programs replaces the binaries "etcdserver", "controlplane" and "agentd" by others (absolute paths), such as builds with
	// failpoints.
	Programs map[string]string
	// Site says where a node runs; nil: on this machine's loopback.
	Site func(kind Kind, index int) Site
	// Reach, when set, is told the address of every server that this process holds, before agents start: it makes them reachable under
	// it where the nodes run.
	Reach func(addr string) error
	// StubHost is the address on which the scripted model server and the tool servers listen; default 127.0.0.1.
	StubHost string
	// Failpoints gives every node a door at which the points of a build with failpoints are armed: Node.Failpoints.
	Failpoints bool
	// Dir gives a node's data directory; nil or "": below the run's folder.
	Dir func(kind Kind, index int) string
	// Logf tells people what happens; required.
	Logf func(format string, args ...any)
}

// Agent is one agent and how many instances serve it.
type Agent struct {
	Name      string
	Instances int
}

// Fleet is the usual fleet: eight instances of four agents.
func Fleet() []Agent {
	return []Agent{{"alpha", 3}, {"beta", 2}, {"gamma", 2}, {"delta", 1}}
}

// Site is where a node runs.
type Site struct {
	Host   string   // the IP address that it binds and is reached at; "": 127.0.0.1
	Prefix []string // before its command, such as {"ip", "netns", "exec", "e0"}
	// Local, when set, makes a loopback address there reachable here under the same address. The doors for people, requests and
	// failpoints are then on its loopback, and what Host is cut off from doesn't cut off who watches.
	Local func(addr string) error
}

// local gives an address for what only this process calls.
func (s Site) local(p *ports) (string, error) {
	if s.Local == nil {
		return p.free(s.host())
	}
	addr, err := p.free("127.0.0.1")
	if err != nil {
		return "", err
	}
	return addr, s.Local(addr)
}

func (s Site) host() string {
	if s.Host == "" {
		return "127.0.0.1"
	}
	return s.Host
}

// ports are handed out below the range from which the kernel takes the ports of outgoing connections: a node that is started again
// must find its own free.
type ports struct{ last int }

const (
	firstPort = 20000
	lastPort  = 32000
)

func (p *ports) free(host string) (string, error) {
	if p.last == 0 {
		p.last = firstPort + os.Getpid()%50*200 // two runs at a time rarely meet
	}
	for range lastPort - firstPort {
		if p.last++; p.last >= lastPort {
			p.last = firstPort
		}
		addr := net.JoinHostPort(host, fmt.Sprint(p.last))
		ln, err := net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", p.last)) //nolint:noctx // closed at once: nobody else has the port
		if err != nil {
			continue
		}
		_ = ln.Close()
		return addr, nil
	}
	return "", fmt.Errorf("no free port from %d to %d", firstPort, lastPort)
}

// Start starts a world: etcd, control planes, then the stubs, and returns when they are ready. Agents are started by StartAgents, once
// their specs are applied. On an error what was started is ended.
func Start(ctx context.Context, o Options) (*World, error) {
	env, err := harness.New(o.Bin, o.Base)
	if err != nil {
		return nil, err
	}
	w := &World{Env: env, Root: o.Root, Logf: o.Logf, opts: o}
	if err := w.start(ctx); err != nil {
		w.Stop()
		return nil, fmt.Errorf("%w (logs in %s)", err, env.Dir)
	}
	return w, nil
}

func (w *World) start(ctx context.Context) error {
	o := &w.opts
	if o.Etcds == 0 {
		o.Etcds = 3
	}
	if o.Planes == 0 {
		o.Planes = 3
	}
	if o.Agents == nil {
		o.Agents = Fleet()
	}
	if o.StubHost == "" {
		o.StubHost = "127.0.0.1"
	}
	if err := w.buildEtcd(ctx); err != nil {
		return err
	}
	if err := w.startEtcd(ctx); err != nil {
		return err
	}
	if err := w.startPlanes(ctx); err != nil {
		return err
	}
	if err := w.startStubs(); err != nil {
		return err
	}
	return w.reachStubs()
}

func (w *World) buildEtcd(ctx context.Context) error {
	if w.EtcdBin = w.opts.Programs["etcdserver"]; w.EtcdBin != "" {
		return nil
	}
	w.EtcdBin = filepath.Join(w.Bin, "etcdserver")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", w.EtcdBin, "./test/etcdserver") //nolint:gosec // the suite's own tree
	cmd.Dir = w.Root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build etcdserver: %w\n%s", err, out)
	}
	return nil
}

// node makes a node of a kind; args and vars are its own, those of the options come after them.
func (w *World) node(kind Kind, index int, name, program string) (*Node, Site, error) {
	n := &Node{Kind: kind, Index: index, Name: name, Dir: filepath.Join(w.Dir, name), env: w.Env, program: program}
	if w.opts.Dir != nil {
		if d := w.opts.Dir(kind, index); d != "" {
			n.Dir = d
		}
	}
	if other := w.opts.Programs[program]; other != "" {
		n.program = other
	}
	var site Site
	if w.opts.Site != nil {
		site = w.opts.Site(kind, index)
	}
	n.site = site.Prefix
	if w.opts.Failpoints {
		var err error
		if n.Failpoints, err = site.local(&w.ports); err != nil {
			return nil, site, err
		}
	}
	return n, site, nil
}

func (w *World) startEtcd(ctx context.Context) error {
	var members, urls []string
	for i := range w.opts.Etcds {
		n, site, err := w.node(Etcd, i, fmt.Sprintf("etcd-%d", i), w.EtcdBin)
		if err != nil {
			return err
		}
		for _, addr := range []*string{&n.Addr, &n.Peer} {
			free, err := w.ports.free(site.host())
			if err != nil {
				return err
			}
			*addr = free
		}
		n.ready = func(ctx context.Context) error { return w.memberReady(ctx, n) }
		members = append(members, n.Name+"=http://"+n.Peer)
		urls = append(urls, n.URL())
		w.Etcds = append(w.Etcds, n)
	}
	for _, n := range w.Etcds {
		n.args = func() []string {
			return append([]string{
				"--name", n.Name, "--dir", n.Dir, "--listen", n.Addr, "--listen-peer", n.Peer, "--initial-cluster", strings.Join(members, ","),
				"--max-txn-ops", "1024", "--max-request-bytes", fmt.Sprint(8 << 20), "--log-level", "warn",
			}, w.opts.EtcdArgs...)
		}
		n.vars = func() []string { return w.opts.EtcdVars }
		if err := n.Start(); err != nil {
			return err
		}
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: urls, DialTimeout: 2 * time.Second, DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
		Logger: zap.NewNop(), DialOptions: []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64 << 20))},
	})
	if err != nil {
		return err
	}
	w.etcd = c
	for _, n := range w.Etcds {
		if err := n.WaitReady(ctx, 30*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// memberReady asks a member for its newest revision, linearizably: it takes part in the cluster.
func (w *World) memberReady(ctx context.Context, n *Node) error {
	one, err := w.EtcdClient(n)
	if err != nil {
		return err
	}
	defer func() { _ = one.Close() }()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err = one.Get(ctx, "/ready")
	return err
}

// EtcdClient is a client of one member alone; the caller closes it.
func (w *World) EtcdClient(n *Node) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: []string{n.URL()}, DialTimeout: 2 * time.Second, DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
		Logger: zap.NewNop(), DialOptions: []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64 << 20))},
	})
}

func (w *World) startPlanes(ctx context.Context) error {
	kek := filepath.Join(w.Dir, "kek")
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return err
	}
	if err := os.WriteFile(kek, []byte(base64.StdEncoding.EncodeToString(key[:])+"\n"), 0o600); err != nil {
		return err
	}
	var urls []string
	for _, n := range w.Etcds {
		urls = append(urls, n.URL())
	}
	for i := range w.opts.Planes {
		n, site, err := w.node(Plane, i, fmt.Sprintf("plane-%d", i), "controlplane")
		if err != nil {
			return err
		}
		if n.Addr, err = site.local(&w.ports); err != nil {
			return err
		}
		if n.Peer, err = w.ports.free(site.host()); err != nil {
			return err
		}
		n.args = func() []string {
			return append([]string{
				"--data-dir", n.Dir, "--people-addr", n.Addr, "--runtime-addr", n.Peer, "--egress-allow", "loopback", "--kek-file", kek,
				"--etcd-endpoints", strings.Join(urls, ","), "--caller-rate", "100000", "--address-rate", "100000",
			}, w.opts.PlaneArgs...)
		}
		n.vars = func() []string { return w.opts.PlaneVars }
		n.ready = func(ctx context.Context) error { return readyz(ctx, n) }
		w.Planes = append(w.Planes, n)
		if err := n.Start(); err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		if err := n.WaitReady(ctx, 60*time.Second); err != nil { // the first makes the cluster's record and authority
			return err
		}
	}
	for _, n := range w.Planes {
		if err := n.WaitReady(ctx, 60*time.Second); err != nil {
			return err
		}
	}
	return nil
}

func readyz(ctx context.Context, n *Node) error {
	code, body, err := harness.Get(ctx, n.URL()+"/readyz")
	if err != nil {
		return err
	}
	if code != 200 {
		return fmt.Errorf("readyz %d: %s", code, strings.TrimSpace(body))
	}
	return nil
}
