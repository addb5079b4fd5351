package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// child is a process of this program in another role, spoken to in lines of JSON.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startChild(env []string, args ...string) (*child, reply, error) {
	cmd := exec.Command("/proc/self/exe", args...) //nolint:gosec,noctx // this very program; close ends it
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	// It must not outlive the bench, however that ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, reply{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, reply{}, err
	}
	if err := cmd.Start(); err != nil {
		return nil, reply{}, err
	}
	c := &child{cmd: cmd, in: in, out: bufio.NewReader(out)}
	hello, err := c.read()
	if err != nil {
		c.close()
	}
	return c, hello, err
}

func (c *child) ask(cmd command) (reply, error) {
	b, err := json.Marshal(cmd)
	if err != nil {
		return reply{}, err
	}
	if _, err := c.in.Write(append(b, '\n')); err != nil {
		return reply{}, err
	}
	return c.read()
}

func (c *child) read() (reply, error) {
	var r reply
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return r, fmt.Errorf("the process ended: %w", err)
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, err
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

func (c *child) close() {
	_ = c.in.Close()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// clients is the process of the simulated instances.
type clients struct{ *child }

func startClients(o options, name string, srv server) (*clients, error) {
	c, _, err := startChild(o.ca.env(srv.at().tls), "-role", "clients", "-system", name, "-target", srv.at().push,
		"-n", fmt.Sprint(o.n), "-agents", fmt.Sprint(o.agents))
	if err != nil {
		return nil, err
	}
	return &clients{child: c}, nil
}

func (c *clients) process() int { return c.cmd.Process.Pid }

// times is one change in milliseconds from the start of the write. write: until the write was answered.
type times struct{ last, p50, p99, write float64 }

// round makes one change and waits for all acknowledgements.
func (c *clients) round(ctx context.Context, srv server, scope string) (times, error) {
	if _, err := c.ask(command{Op: "arm", Scope: scope}); err != nil {
		return times{}, err
	}
	began := now()
	if err := srv.change(ctx, scope); err != nil {
		return times{}, err
	}
	wrote := now()
	r, err := c.ask(command{Op: "wait"})
	since := func(at int64) float64 { return float64(time.Duration(at)-began) / float64(time.Millisecond) }
	return times{last: since(r.Last), p50: since(r.P50), p99: since(r.P99), write: since(int64(wrote))}, err
}

// compared is one of the two servers to compare with.
type compared struct {
	*child

	tls     bool
	hello   reply
	agents  map[string][]string
	content []byte
	version int64
}

func startCompared(o options, name string, content []byte) (*compared, error) {
	c, hello, err := startChild(o.ca.env(o.tls), "-role", "serve", "-system", name)
	if err != nil {
		return nil, err
	}
	s := &compared{child: c, tls: o.tls, hello: hello, content: content, agents: map[string][]string{soloAgent: {soloAgent}, refuserAgent: {refuserAgent}}}
	for i := range o.agents {
		s.agents[scopeAll] = append(s.agents[scopeAll], agentName(i))
	}
	for _, scope := range []string{scopeAll, soloAgent, refuserAgent} {
		if err := s.change(context.Background(), scope); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *compared) process() int { return s.cmd.Process.Pid }
func (s *compared) at() place    { return place{push: s.hello.Addr, tls: s.tls, profiles: s.hello.Pprof} }

func (s *compared) change(_ context.Context, scope string) error {
	s.version++
	_, err := s.ask(command{Op: "publish", Agents: s.agents[scope], Content: s.content, Version: s.version})
	return err
}
