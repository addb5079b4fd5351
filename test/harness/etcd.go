package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// EtcdCluster is an etcd of several members, each a process (test/etcdserver) with etcd's own timers.
type EtcdCluster struct {
	Members []*EtcdMember
}

// EtcdMember is one member; it can be killed, stopped, paused and started again on the same ports and data. Proc has its process id,
// Kill and Stop.
type EtcdMember struct {
	*Proc
	Name   string
	Client string // host:port of its door for clients
	Peer   string // host:port of its door for the other members
	Dir    string // its data
	env    *Env
	prefix []string
	args   []string
}

// EtcdOptions say how the members are started. Zero values mean: on loopback, etcd's own quota, synced to disk.
type EtcdOptions struct {
	// Hosts are the members' IP addresses, one each; none: 127.0.0.1. Ports are free ones of this process's network.
	Hosts []string
	// Prefix gives a member's command before the program's path, such as "ip netns exec e0".
	Prefix func(member int) []string
	// Dir gives a member's data directory; nil: below Env.Dir.
	Dir func(member int) string
	// QuotaBytes is where writes end with NOSPACE; 0: etcd's default.
	QuotaBytes int64
	// NoFsync is for tests that aren't about durability.
	NoFsync bool
	// Args are further flags of test/etcdserver.
	Args []string
}

// StartEtcdCluster starts n members and waits until all of them take requests. The program is built into Env.Bin, once.
func (e *Env) StartEtcdCluster(ctx context.Context, n int, o EtcdOptions) (*EtcdCluster, error) {
	if err := e.buildEtcd(ctx); err != nil {
		return nil, err
	}
	c := &EtcdCluster{}
	var all []string
	for i := range n {
		m := &EtcdMember{Name: fmt.Sprintf("etcd-%d", i), env: e}
		for _, addr := range []*string{&m.Client, &m.Peer} {
			free, err := FreeAddr()
			if err != nil {
				return nil, err
			}
			if *addr = free; i < len(o.Hosts) {
				*addr = o.Hosts[i] + free[strings.LastIndex(free, ":"):]
			}
		}
		if m.Dir = filepath.Join(e.Dir, m.Name); o.Dir != nil {
			m.Dir = o.Dir(i)
		}
		if o.Prefix != nil {
			m.prefix = o.Prefix(i)
		}
		all = append(all, m.Name+"=http://"+m.Peer)
		c.Members = append(c.Members, m)
	}
	for _, m := range c.Members {
		m.args = append([]string{
			"--name", m.Name, "--dir", m.Dir, "--listen", m.Client, "--listen-peer", m.Peer, "--initial-cluster", strings.Join(all, ","),
			"--max-txn-ops", "1024", "--max-request-bytes", fmt.Sprint(8 << 20), "--log-level", "warn",
			"--quota-bytes", fmt.Sprint(o.QuotaBytes), fmt.Sprintf("--unsafe-no-fsync=%t", o.NoFsync),
		}, o.Args...)
		if err := m.Restart(); err != nil {
			return nil, err
		}
	}
	return c, c.WaitReady(ctx)
}

// buildEtcd builds the program unless this Env did, or was told another one by Programs.
func (e *Env) buildEtcd(ctx context.Context) error {
	e.etcdBuild.Lock()
	defer e.etcdBuild.Unlock()
	if e.etcdBuilt || e.Programs["etcdserver"] != "" {
		return nil
	}
	out := filepath.Join(e.Bin, "etcdserver")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, "github.com/agentry/agentry/test/etcdserver") //nolint:gosec // the suite's own tree
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build etcdserver: %w\n%s", err, b)
	}
	e.etcdBuilt = true
	return nil
}

// Endpoints are the members' URLs.
func (c *EtcdCluster) Endpoints() []string {
	var out []string
	for _, m := range c.Members {
		out = append(out, m.URL())
	}
	return out
}

// Flags are the control plane's flags to use this etcd.
func (c *EtcdCluster) Flags() []string {
	return []string{"--etcd-endpoints", strings.Join(c.Endpoints(), ",")}
}

// WaitReady waits until every member takes requests.
func (c *EtcdCluster) WaitReady(ctx context.Context) error {
	for _, m := range c.Members {
		if err := m.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Leader answers the member that leads, as a member says that knows of one, or an error when none does.
func (c *EtcdCluster) Leader(ctx context.Context) (*EtcdMember, error) {
	ids := map[string]*EtcdMember{}
	leader := ""
	var faults []error
	for _, m := range c.Members {
		s, err := m.Status(ctx)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		ids[s.Header.MemberID] = m
		if s.Leader != "0" && s.Leader != "" {
			leader = s.Leader
		}
	}
	if m := ids[leader]; m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("no member leads: %w", errors.Join(faults...))
}

// Followers answers the members that don't lead.
func (c *EtcdCluster) Followers(ctx context.Context) ([]*EtcdMember, error) {
	leader, err := c.Leader(ctx)
	if err != nil {
		return nil, err
	}
	var out []*EtcdMember
	for _, m := range c.Members {
		if m != leader {
			out = append(out, m)
		}
	}
	return out, nil
}

// URL is the base of its door for clients.
func (m *EtcdMember) URL() string { return "http://" + m.Client }

// Restart starts the process (again) without waiting for it to be ready.
func (m *EtcdMember) Restart() error {
	program := m.env.Programs["etcdserver"]
	if program == "" {
		program = filepath.Join(m.env.Bin, "etcdserver")
	}
	args := m.args
	if len(m.prefix) > 0 {
		args = append(append(append([]string(nil), m.prefix[1:]...), program), args...)
		path, err := exec.LookPath(m.prefix[0])
		if err != nil {
			return err
		}
		program = path
	}
	p, err := m.env.Start(m.Name, program, nil, args...)
	if err != nil {
		return err
	}
	m.Proc = p
	return nil
}

// Pause stops the process by SIGSTOP: its connections stay, and nothing answers.
func (m *EtcdMember) Pause() error { return m.Signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (m *EtcdMember) Resume() error { return m.Signal(syscall.SIGCONT) }

// WaitReady waits until the member knows of a leader.
func (m *EtcdMember) WaitReady(ctx context.Context) error {
	err := Poll(ctx, 30*time.Second, func(ctx context.Context) error {
		if !m.Running() {
			return fmt.Errorf("%s ended:\n%s", m.Name, tail(m.Output()))
		}
		s, err := m.Status(ctx)
		if err == nil && (s.Leader == "0" || s.Leader == "") {
			err = errors.New("it knows of no leader")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", m.Name, err)
	}
	return nil
}

// EtcdStatus is what a member says of itself. etcd writes 64-bit numbers as text.
type EtcdStatus struct {
	Header struct {
		MemberID string `json:"member_id"`
		Revision int64  `json:"revision,string"`
	} `json:"header"`
	Leader    string   `json:"leader"`
	RaftIndex uint64   `json:"raftIndex,string"`
	DBSize    int64    `json:"dbSize,string"`
	Errors    []string `json:"errors"` // such as "NOSPACE"
}

// Status asks the member, for at most 2 s. It doesn't need a quorum.
func (m *EtcdMember) Status(ctx context.Context) (EtcdStatus, error) {
	var s EtcdStatus
	err := m.Call(ctx, "/v3/maintenance/status", struct{}{}, &s)
	return s, err
}

// Call asks the member by etcd's own JSON door, for at most 2 s.
func (m *EtcdMember) Call(ctx context.Context, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL()+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := plain().Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Name, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %d %s", m.Name, resp.StatusCode, b)
	}
	return json.Unmarshal(b, out)
}
