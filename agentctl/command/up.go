package command

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentry/agentry/agentctl/local"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/specfile"
)

// defaultPortBase puts the people door where agentctl looks for it by itself.
const defaultPortBase = 7700

// upFlags are the flags of `agentctl up`.
type upFlags struct {
	modelBaseURL string
	script       string
	portBase     int
	dataDir      string
	infoFile     string
	instances    []string
	open         bool
}

func (c *cli) upCmd() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up [DIR]",
		Short: "Run a folder of agents on this machine: a control plane and one agentd per agent",
		Example: `  agentctl up examples/nacos-helper                      # scripted model server where the spec names no endpoint
  agentctl up . --model-base-url http://127.0.0.1:11434  # every agent uses this endpoint; the spec stays as it is
  agentctl up . --script answers.yaml --port-base 0      # scripted answers, free ports
  agentctl up . --instances mse-nacos-helper=3`,
		Long: `Runs DIR (one agent's folder, or a folder with agents' folders, prompts/ and mcp/) as real processes: a control plane
with an embedded etcd and one agentd for each agent. It applies DIR once, restarts what crashes, prints every process's log
behind its name, and stops all of them at Ctrl-C. Where an agent's memory is in a Redis on this machine and nothing listens
there, it runs redis-server too, with its data below --data-dir. A file up.yaml in DIR may name further processes.`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, dirs []string) error {
			dir := "."
			if len(dirs) == 1 {
				dir = dirs[0]
			}
			return c.up(cmd.Context(), dir, f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.modelBaseURL, "model-base-url", "", "OpenAI-compatible `URL` that every agent uses instead of its own (shown in status; the spec is not changed)")
	fs.StringVar(&f.script, "script", "", "`file` for the scripted model server, used by every agent (see agentctl model serve)")
	fs.IntVar(&f.portBase, "port-base", defaultPortBase, "people door on N, runtime door on N+1, agents from N+2; 0: free ports")
	fs.StringVar(&f.dataDir, "data-dir", "", "`directory` of the control plane's data and the agents' state (default: the default data directory)")
	fs.StringVar(&f.infoFile, "info-file", "", "`file` that gets addresses and process ids as JSON when every agent is ready")
	fs.StringArrayVar(&f.instances, "instances", nil, "`NAME=N` instances of an agent (default 1; may be repeated)")
	fs.BoolVar(&f.open, "open", false, "open the control plane's status page in a browser when ready")
	cmd.MarkFlagsMutuallyExclusive("model-base-url", "script")
	return cmd
}

// up plans, starts, waits until all is ready and stays until ctx ends.
func (c *cli) up(ctx context.Context, dir string, f upFlags) error {
	if f.portBase < 0 || f.portBase > 65000 {
		return usagef("--port-base %d: from 1 to 65000, or 0 for free ports", f.portBase)
	}
	if u, err := url.Parse(f.modelBaseURL); f.modelBaseURL != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		return failf(exitUsage, "such as http://127.0.0.1:11434", "--model-base-url is no http or https address")
	}
	counts, err := instanceCounts(f.instances)
	if err != nil {
		return err
	}
	if f.dataDir == "" {
		f.dataDir = c.stateDir()
	}
	if f.dataDir, err = filepath.Abs(f.dataDir); err != nil {
		return err
	}
	set, err := c.readFiles([]string{dir})
	if err != nil {
		return err
	}
	parsed, faults := specfile.Parse(set.files)
	if len(faults) > 0 {
		return c.refuse(output(""), set, faults, "; nothing was stored")
	}
	err = local.Run(ctx, local.Config{
		Dir: dir, Files: wireFiles(set.files), Agents: localAgents(parsed), Instances: counts, DataDir: f.dataDir, PortBase: f.portBase,
		InfoFile: f.infoFile, ModelBaseURL: f.modelBaseURL, Script: f.script,
		EgressAllow: first(c.env.Getenv("AGENTD_EGRESS_ALLOW"), "loopback"), ProbeAllow: first(c.env.Getenv("AGENTRY_EGRESS_ALLOW"), "loopback"),
		Open: f.open, Stdout: c.env.Stdout, Log: c.env.Stderr,
	})
	if usage := (*local.UsageError)(nil); errors.As(err, &usage) {
		return failf(exitUsage, usage.Hint, "%w", err)
	}
	if refused := faultsOf(err); refused != nil {
		return c.refuse(output(""), set, refused, "; nothing was stored")
	}
	return err
}

// localAgents is what `up` must know of the agents.
func localAgents(set *specfile.Set) []local.Agent {
	out := make([]local.Agent, 0, len(set.Agents))
	for _, a := range set.Agents {
		out = append(out, local.Agent{Namespace: a.Namespace, Name: a.Spec.AgentName, HasModel: a.Spec.Model.BaseURL != "", Redis: localRedis(set, a)})
	}
	return out
}

// localRedis is where an agent's memory is kept, with what is known of its credential.
func localRedis(set *specfile.Set, a *specfile.Agent) local.Redis {
	m := a.Spec.Memory
	if m.StorageType != "redis" {
		return local.Redis{}
	}
	r := local.Redis{Address: m.Address}
	text := m.Credential.Literal
	if ref := m.Credential.Ref; ref != "" {
		i := slices.IndexFunc(set.Credentials, func(cr *specfile.Credential) bool {
			return cr.Name == ref && cr.Namespace == a.Namespace && !cr.Value.IsZero()
		})
		if i < 0 {
			r.Unknown = ref
			return r
		}
		text = set.Credentials[i].Value.Reveal()
	}
	var pair struct{ Username, Password string }
	if err := json.Unmarshal([]byte(text), &pair); err == nil && pair.Password != "" {
		r.User, r.Password = pair.Username, secret.NewValue(pair.Password)
	} else {
		r.Password = secret.NewValue(text)
	}
	if r.User == "default" {
		r.User = ""
	}
	return r
}

// instanceCounts reads NAME=N pairs.
func instanceCounts(pairs []string) (map[string]int, error) {
	counts := map[string]int{}
	for _, p := range pairs {
		name, n, ok := strings.Cut(p, "=")
		count, err := strconv.Atoi(n)
		if !ok || name == "" || err != nil || count < 1 || count > 100 {
			return nil, failf(exitUsage, "write NAME=N with N from 1 to 100", "--instances %q", p)
		}
		counts[name] = count
	}
	return counts, nil
}
