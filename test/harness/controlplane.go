package harness

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/agentry/agentry/test/harness/pki"
)

// ControlPlane is one controlplane process; it can be killed and started again on the same ports and data.
type ControlPlane struct {
	*Proc
	Name    string // of its log; "": controlplane
	People  string // host:port
	Runtime string
	DataDir string
	env     *Env
	extra   []string
	ca      *pki.CA // nil: its own
}

// StartControlPlane starts one with an embedded etcd and waits until it is ready.
func (e *Env) StartControlPlane(ctx context.Context, extra ...string) (*ControlPlane, error) {
	cp := &ControlPlane{DataDir: filepath.Join(e.Dir, "controlplane"), env: e, extra: extra, ca: e.CA}
	if e.CA != nil {
		cp.extra = append([]string{"--ca-cert", e.CACert, "--ca-key", e.CAKey}, extra...)
	}
	for _, addr := range []*string{&cp.People, &cp.Runtime} {
		a, err := FreeAddr()
		if err != nil {
			return nil, err
		}
		*addr = a
	}
	return cp, cp.Restart(ctx)
}

// AddFlags gives the process further flags at its next start.
func (c *ControlPlane) AddFlags(flags ...string) { c.extra = append(c.extra, flags...) }

// Restart starts the process again (after Kill or Stop) and waits until it is ready.
func (c *ControlPlane) Restart(ctx context.Context) error {
	args := append([]string{"--data-dir", c.DataDir, "--people-addr", c.People, "--runtime-addr", c.Runtime, "--egress-allow", "loopback"}, c.extra...)
	if c.env.LogLevel != "" {
		args = append(args, "--log-level", c.env.LogLevel)
	}
	name := c.Name
	if name == "" {
		name = "controlplane"
	}
	p, err := c.env.Start(name, "controlplane", nil, args...)
	if err != nil {
		return err
	}
	c.Proc = p
	return c.WaitReady(ctx)
}

// WaitReady waits until /readyz answers 200.
func (c *ControlPlane) WaitReady(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	err := Poll(ctx, 20*time.Second, func(ctx context.Context) error {
		if !c.Running() {
			stop() // it won't be
			return fmt.Errorf("controlplane ended:\n%s", tail(c.Output()))
		}
		code, body, err := Get(ctx, "http://"+c.People+"/readyz")
		if err != nil {
			return err
		}
		if code != 200 {
			return fmt.Errorf("readyz %d: %s", code, strings.TrimSpace(body))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("control plane: %w\n%s", err, tail(c.Output()))
	}
	return nil
}

// TokenFile is where the dev token lies.
func (c *ControlPlane) TokenFile() string { return filepath.Join(c.DataDir, "token") }

// Metric sums a metric's samples whose line begins with prefix, as /metrics shows them now.
func (c *ControlPlane) Metric(ctx context.Context, prefix string) (float64, error) {
	return metric(ctx, "http://"+c.People+"/metrics", prefix)
}

func metric(ctx context.Context, url, prefix string) (float64, error) {
	code, body, err := Get(ctx, url)
	if err != nil {
		return 0, err
	}
	if code != 200 {
		return 0, fmt.Errorf("%s: %d %s", url, code, body)
	}
	var sum float64
	found := false
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, prefix) {
			continue
		}
		fields := strings.Fields(line)
		var v float64
		if _, err := fmt.Sscan(fields[len(fields)-1], &v); err != nil {
			return 0, fmt.Errorf("metric line %q: %w", line, err)
		}
		sum += v
		found = true
	}
	if !found {
		return 0, fmt.Errorf("no metric %s at %s", prefix, url)
	}
	return sum, nil
}

func tail(s string) string {
	const keep = 4000
	if len(s) > keep {
		return "..." + s[len(s)-keep:]
	}
	return s
}
