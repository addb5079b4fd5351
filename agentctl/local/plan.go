package local

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/goccy/go-yaml"

	"github.com/agentry/agentry/agentctl/supervise"
)

// plan is every process with its ports, chosen once and kept over restarts.
type plan struct {
	people  string // host:port
	runtime string

	controlPlane supervise.Process
	extras       []supervise.Process
	waitFor      []listening
	redis        []redis
	notes        []string // said before anything starts
	instances    []instance
	script       *script
}

// instance is one agentd.
type instance struct {
	agent   Agent
	addr    string
	process supervise.Process
}

// listening is an address that an extra process must answer on before the agents start.
type listening struct{ name, addr string }

// extras is up.yaml: what an example needs on this machine beside the control plane and the agents.
type extras struct {
	Processes []struct {
		Name    string   `yaml:"name"`
		Command []string `yaml:"command"`
		// Ready is an address that answers once the process is ready; default: the value after --listen in Command.
		Ready string `yaml:"ready"`
	} `yaml:"processes"`
	// Script is for the scripted model server, used where an agent names no model endpoint.
	Script string `yaml:"script"`
}

func readExtras(dir string) (extras, error) {
	var e extras
	path := filepath.Join(dir, "up.yaml")
	b, err := os.ReadFile(path) //nolint:gosec // a file of the folder that the user named
	if os.IsNotExist(err) {
		return e, nil
	}
	if err != nil {
		return e, err
	}
	if err := yaml.UnmarshalWithOptions(b, &e, yaml.DisallowUnknownField()); err != nil {
		return e, usage("see examples/nacos-helper/up.yaml", "%s: %s", path, yaml.FormatError(err, false, true))
	}
	for i, p := range e.Processes {
		if p.Name == "" || len(p.Command) == 0 {
			return e, usage("give each process a name and a command", "%s: processes[%d]: name and command are needed", path, i)
		}
	}
	return e, nil
}

// newPlan chooses ports and programs. It starts nothing.
func newPlan(ctx context.Context, cfg Config, e extras) (plan, error) {
	var p plan
	if len(cfg.Agents) == 0 {
		return p, usage("a folder with agent-base.json and model.json is an agent", "no agent in %s", cfg.Dir)
	}
	for name := range cfg.Instances {
		if !hasAgent(cfg.Agents, name) {
			return p, usage("agents of this folder: "+agentNames(cfg.Agents), "--instances %s: no such agent", name)
		}
	}
	ports := &portChooser{base: cfg.PortBase}
	defer ports.release()
	var err error
	if p.people, err = ports.next(ctx); err != nil {
		return p, err
	}
	if p.runtime, err = ports.next(ctx); err != nil {
		return p, err
	}
	if p.script, err = newScript(cfg, e); err != nil {
		return p, err
	}
	if err := p.planExtras(e); err != nil {
		return p, err
	}
	if err := p.planRedis(ctx, cfg); err != nil {
		return p, err
	}
	program, err := findBinary("controlplane")
	if err != nil {
		return p, err
	}
	p.controlPlane = supervise.Process{Name: "controlplane", Path: program, Args: []string{
		"--data-dir", cfg.DataDir, "--people-addr", p.people, "--runtime-addr", p.runtime,
	}, Env: []string{"AGENTRY_EGRESS_ALLOW=" + cfg.ProbeAllow}}
	return p, p.planAgents(ctx, cfg, ports)
}

func (p *plan) planExtras(e extras) error {
	for _, x := range e.Processes {
		program, err := findBinary(x.Command[0])
		if err != nil {
			return fmt.Errorf("up.yaml: process %s: %w", x.Name, err)
		}
		p.extras = append(p.extras, supervise.Process{Name: x.Name, Path: program, Args: x.Command[1:]})
		addr := x.Ready
		for i, arg := range x.Command {
			if addr == "" && arg == "--listen" && i+1 < len(x.Command) {
				addr = x.Command[i+1]
			}
		}
		if addr != "" {
			p.waitFor = append(p.waitFor, listening{x.Name, addr})
		}
	}
	return nil
}

func (p *plan) planAgents(ctx context.Context, cfg Config, ports *portChooser) error {
	program, err := findBinary("agentd")
	if err != nil {
		return err
	}
	for _, a := range cfg.Agents {
		if a.Namespace == "" {
			a.Namespace = "default"
		}
		for i := range max(1, cfg.Instances[a.Name]) {
			addr, err := ports.next(ctx)
			if err != nil {
				return err
			}
			state := filepath.Join(cfg.DataDir, "agentd", a.Namespace, a.Name)
			name := a.Name
			if i > 0 {
				name += "-" + strconv.Itoa(i+1)
				state += "-" + strconv.Itoa(i+1)
			}
			env := []string{
				"AGENT_NAME=" + a.Name, "AGENT_NAMESPACE=" + a.Namespace, "CONTROL_PLANE=" + p.runtime, "AGENTD_LISTEN=" + addr,
				"AGENTD_EGRESS_ALLOW=" + cfg.EgressAllow, "AGENTD_ALLOW_INTERNAL_PUSH=true", "AGENTD_INSTANCE_ID=" + name,
			}
			if url := p.modelOverride(cfg, a); url != "" {
				env = append(env, "AGENTD_MODEL_BASE_URL="+url)
			}
			p.instances = append(p.instances, instance{agent: a, addr: addr, process: supervise.Process{
				Name: name, Path: program, Args: []string{"--state-dir", state}, Env: env,
			}})
		}
	}
	return nil
}

// modelOverride answers the model endpoint that this agent gets instead of its own; "" leaves the spec's. The spec is never changed.
func (p *plan) modelOverride(cfg Config, a Agent) string {
	switch {
	case cfg.ModelBaseURL != "":
		return cfg.ModelBaseURL
	case p.script != nil && (cfg.Script != "" || !a.HasModel):
		return p.script.url
	default:
		return ""
	}
}

func (p *plan) agentProcesses() []supervise.Process {
	out := make([]supervise.Process, 0, len(p.instances))
	for _, i := range p.instances {
		out = append(out, i.process)
	}
	return out
}

func hasAgent(agents []Agent, name string) bool {
	for _, a := range agents {
		if a.Name == name {
			return true
		}
	}
	return false
}

// portChooser answers loopback addresses: consecutive ports from base, or free ones for base 0. Chosen free ports stay taken until
// release, so that none is answered twice.
type portChooser struct {
	base  int
	taken []net.Listener
}

func (c *portChooser) next(ctx context.Context) (string, error) {
	addr := "127.0.0.1:0"
	if c.base > 0 {
		addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(c.base))
		c.base++
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return "", usage("stop what listens there, or choose other ports with --port-base N (0: free ones)", "port taken: %w", err)
	}
	c.taken = append(c.taken, ln)
	return ln.Addr().String(), nil
}

func (c *portChooser) release() {
	for _, ln := range c.taken {
		_ = ln.Close()
	}
}
