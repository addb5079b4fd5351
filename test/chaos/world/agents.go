package world

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// StartAgents starts every instance and waits until all are ready. Their specs must be applied.
func (w *World) StartAgents(ctx context.Context) error {
	var runtime []string
	for _, n := range w.Planes {
		runtime = append(runtime, n.Peer)
	}
	index := 0
	for _, a := range w.opts.Agents {
		for i := range a.Instances {
			n, err := w.agentNode(ctx, a.Name, i, index, strings.Join(runtime, ","))
			if err != nil {
				return err
			}
			w.Agents = append(w.Agents, n)
			index++
			if err := n.Start(); err != nil {
				return err
			}
		}
	}
	var errs []error
	for _, n := range w.Agents {
		errs = append(errs, n.WaitReady(ctx, 60*time.Second))
	}
	return errors.Join(errs...)
}

func (w *World) agentNode(ctx context.Context, agent string, i, index int, planes string) (*Node, error) {
	instance := fmt.Sprintf("%s-%d", agent, i)
	n, site, err := w.node(Agentd, index, "agentd-"+instance, "agentd")
	if err != nil {
		return nil, err
	}
	n.Agent, n.Instance = agent, instance
	if n.Addr, err = site.local(&w.ports); err != nil {
		return nil, err
	}
	token, err := w.joinToken(ctx, agent)
	if err != nil {
		return nil, err
	}
	vars := []string{
		"AGENT_NAME=" + agent, "CONTROL_PLANE=" + planes, "AGENTD_INSTANCE_ID=" + instance, "AGENTD_LISTEN=" + n.Addr,
		"AGENTD_EGRESS_ALLOW=loopback", "AGENTD_MODEL_BASE_URL=" + w.Model.URL, "AGENTD_JOIN_TOKEN=" + token,
	}
	n.vars = func() []string { return append(vars[:len(vars):len(vars)], w.opts.AgentdVars...) }
	n.args = func() []string {
		return append([]string{"--state-dir", n.Dir, "--log-level", "debug"}, w.opts.AgentdArgs...)
	}
	n.ready = func(ctx context.Context) error { return readyz(ctx, n) }
	return n, nil
}

// joinToken asks any control plane that answers.
func (w *World) joinToken(ctx context.Context, agent string) (string, error) {
	var errs []error
	for _, n := range w.Planes {
		cp := harness.ControlPlane{People: n.Addr, DataDir: n.Dir}
		token, err := cp.JoinToken(ctx, "default", agent)
		if err == nil {
			return token, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// Fleet gives the agents of the world and how many instances each has.
func (w *World) Fleet() []Agent { return w.opts.Agents }

// Instances gives an agent's nodes.
func (w *World) Instances(agent string) []*Node {
	var out []*Node
	for _, n := range w.Agents {
		if n.Agent == agent {
			out = append(out, n)
		}
	}
	return out
}
