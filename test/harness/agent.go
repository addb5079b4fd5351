package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Agent is one agentd process; it can be killed and started again on the same port and state.
type Agent struct {
	*Proc
	Agent    string
	Instance string
	Addr     string // host:port of its door
	StateDir string
	env      *Env
	vars     []string
	args     []string
}

// AgentOptions say how an agent is started. Zero values mean: instance id as the agent's name, the spec's own model endpoint.
type AgentOptions struct {
	Instance     string
	ModelBaseURL string
	Vars         []string
	Args         []string
}

// StartAgent starts an agentd for cp without waiting for it to be ready. It gets a join token, unless Vars hold another proof; a restart
// finds the token spent and goes by the identity in the state directory.
func (e *Env) StartAgent(cp *ControlPlane, name string, o AgentOptions) (*Agent, error) {
	if o.Instance == "" {
		o.Instance = name
	}
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	a := &Agent{Agent: name, Instance: o.Instance, Addr: addr, StateDir: filepath.Join(e.Dir, "state-"+o.Instance), env: e, args: o.Args}
	a.vars = append([]string{
		"AGENT_NAME=" + name, "CONTROL_PLANE=" + cp.Runtime, "AGENTD_INSTANCE_ID=" + o.Instance,
		"AGENTD_LISTEN=" + addr, "AGENTD_EGRESS_ALLOW=loopback",
	}, o.Vars...)
	if !slices.ContainsFunc(o.Vars, isProof) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		namespace := "default"
		for _, v := range o.Vars {
			if ns, ok := strings.CutPrefix(v, "AGENT_NAMESPACE="); ok {
				namespace = ns
			}
		}
		token, err := cp.JoinToken(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		a.vars = append(a.vars, "AGENTD_JOIN_TOKEN="+token)
	}
	if o.ModelBaseURL != "" {
		a.vars = append(a.vars, "AGENTD_MODEL_BASE_URL="+o.ModelBaseURL)
	}
	return a, a.Restart()
}

func isProof(v string) bool {
	name, _, _ := strings.Cut(v, "=")
	return strings.HasPrefix(name, "AGENTD_JOIN_TOKEN") || name == "AGENTD_KUBERNETES_TOKEN_FILE" || name == "AGENTD_X509POP_CERT"
}

// Restart starts the process (again) without waiting for it to be ready.
func (a *Agent) Restart() error {
	if err := os.MkdirAll(a.StateDir, 0o700); err != nil {
		return err
	}
	args := append([]string{"--state-dir", a.StateDir}, a.args...)
	if a.env.LogLevel != "" {
		args = append(args, "--log-level", a.env.LogLevel)
	}
	p, err := a.env.Start("agentd-"+a.Instance, "agentd", a.vars, args...)
	if err != nil {
		return err
	}
	a.Proc = p
	return nil
}

// URL is the base of its door.
func (a *Agent) URL() string { return "http://" + a.Addr }

// WaitReady waits until /readyz answers 200.
func (a *Agent) WaitReady(ctx context.Context, d time.Duration) error {
	err := Poll(ctx, d, func(ctx context.Context) error {
		if !a.Running() {
			return fmt.Errorf("agentd ended:\n%s", tail(a.Output()))
		}
		code, body, err := Get(ctx, a.URL()+"/readyz")
		if err != nil {
			return err
		}
		if code != 200 {
			return fmt.Errorf("readyz %d: %s", code, strings.TrimSpace(body))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("agent %s: %w", a.Instance, err)
	}
	return nil
}

// Metric sums a metric's samples whose line begins with prefix.
func (a *Agent) Metric(ctx context.Context, prefix string) (float64, error) {
	return metric(ctx, a.URL()+"/metrics", prefix)
}
