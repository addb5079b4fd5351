package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
)

// configDump is what an agent's instances have really loaded.
type configDump struct {
	Agent     string           `json:"agent"`
	Instances []instanceConfig `json:"instances"`
}

// instanceConfig is one instance's own answer; Loaded is null where it didn't answer, and Error says why.
type instanceConfig struct {
	ID       string          `json:"id"`
	Endpoint string          `json:"endpoint"`
	Desired  configDoc       `json:"desired"`
	Running  configDoc       `json:"running"`
	Loaded   json.RawMessage `json:"loaded"`
	Error    string          `json:"error,omitempty"`
}

// configDiff compares what an instance runs with what it should.
type configDiff struct {
	Agent     string          `json:"agent"`
	Instances []instanceDrift `json:"instances"`
}

type instanceDrift struct {
	ID      string      `json:"id"`
	Phase   string      `json:"phase"`
	Desired configDoc   `json:"desired"`
	Running configDoc   `json:"running"`
	Same    bool        `json:"same"`
	Changes []changeDoc `json:"changes"` // of the agent's own spec, running to desired
	Faults  []faultDoc  `json:"faults"`
}

func (c *cli) configCmd() *cobra.Command {
	return group("config", "What an instance has really loaded, and how it differs from what it should",
		"  agentctl config dump mse-nacos-helper\n  agentctl config diff mse-nacos-helper", c.configDumpCmd(), c.configDiffCmd())
}

func (c *cli) configDumpCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "dump INSTANCE|AGENT", Short: "What it has really loaded, by its own word; no secrets",
		Example: "  agentctl config dump mse-nacos-helper\n  agentctl config dump mse-nacos-helper/i-1 -o yaml", Args: args(1, 1),
		ValidArgsFunction: c.completer(kindAgent),
		RunE: func(cmd *cobra.Command, words []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			d, instance, err := cl.target(cmd.Context(), words[0])
			if err != nil {
				return err
			}
			return c.dump(cmd.Context(), out, d, instance)
		},
	}
	out.bind(cmd)
	return cmd
}

func (c *cli) dump(ctx context.Context, out output, d statusDoc, instance string) error {
	doc := configDump{Agent: d.Agent, Instances: []instanceConfig{}}
	var failed error
	for _, i := range reachable(d) {
		if instance != "" && i.ID != instance {
			continue
		}
		one := instanceConfig{ID: i.ID, Endpoint: i.Endpoint, Desired: i.Desired, Running: i.Running}
		loaded, err := fetchJSON(ctx, instanceURL(i.Endpoint)+"/admin/config")
		if err != nil {
			one.Error, failed = err.Error(), err
			c.note("%s: %v", i.ID, err)
		}
		one.Loaded = loaded
		doc.Instances = append(doc.Instances, one)
	}
	if len(doc.Instances) == 0 {
		return noInstance(d)
	}
	if out.machine() {
		if err := printDoc(c.env.Stdout, out, doc); err != nil {
			return err
		}
		return failed
	}
	for _, i := range doc.Instances {
		_, _ = fmt.Fprintf(c.env.Stdout, "# %s at %s: desired %s, running %s\n", i.ID, i.Endpoint, dash(i.Desired.Config), dash(i.Running.Config))
		if i.Loaded == nil {
			continue
		}
		var b bytes.Buffer
		if err := json.Indent(&b, i.Loaded, "", "  "); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(c.env.Stdout, "%s\n", bytes.TrimSpace(b.Bytes()))
	}
	return failed
}

func (c *cli) configDiffCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "diff INSTANCE|AGENT", Short: "Desired against running: 0 the same, 1 they differ",
		Example: "  agentctl config diff mse-nacos-helper", Args: args(1, 1),
		ValidArgsFunction: c.completer(kindAgent),
		RunE: func(cmd *cobra.Command, words []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			d, instance, err := cl.target(cmd.Context(), words[0])
			if err != nil {
				return err
			}
			return c.drift(cmd.Context(), cl, out, d, instance)
		},
	}
	out.bind(cmd)
	return cmd
}

func (c *cli) drift(ctx context.Context, cl *client, out output, d statusDoc, instance string) error {
	doc, code := configDiff{Agent: d.Agent, Instances: []instanceDrift{}}, exitOK
	for _, i := range d.Instances {
		if instance != "" && i.ID != instance {
			continue
		}
		one := instanceDrift{
			ID: i.ID, Phase: i.Phase, Desired: i.Desired, Running: i.Running, Faults: i.Faults, Changes: []changeDoc{},
			Same: i.Desired.Hash == i.Running.Hash && i.Desired.Config == i.Running.Config,
		}
		if !one.Same {
			code = exitNo
			changes, err := cl.between(ctx, d.Agent, i.Running.Revision, i.Desired.Revision)
			if err != nil {
				return err
			}
			one.Changes = changes
		}
		doc.Instances = append(doc.Instances, one)
	}
	if len(doc.Instances) == 0 {
		return noInstance(d)
	}
	if out.machine() {
		if err := printDoc(c.env.Stdout, out, doc); err != nil {
			return err
		}
		return answered(code)
	}
	for _, i := range doc.Instances {
		if i.Same {
			_, _ = fmt.Fprintf(c.env.Stdout, "%s: runs what it should, %s (%s)\n", i.ID, dash(i.Running.Config), i.Phase)
			continue
		}
		_, _ = fmt.Fprintf(c.env.Stdout, "%s: runs %s, should run %s (%s)\n", i.ID, dash(i.Running.Config), dash(i.Desired.Config), i.Phase)
		for _, ch := range i.Changes {
			_, _ = fmt.Fprintf(c.env.Stdout, "  %s: %s -> %s\n", ch.Path, jsonOr(ch.Before, "absent"), jsonOr(ch.After, "absent"))
		}
		if len(i.Changes) == 0 && i.Running.Config != "" {
			_, _ = fmt.Fprintln(c.env.Stdout, "  the agent's own spec is the same; a shared prompt, MCP entry or credential differs")
		}
		for _, f := range i.Faults {
			_, _ = fmt.Fprintf(c.env.Stdout, "  %s\n", f)
		}
	}
	return answered(code)
}

// between gives the changes of an agent's own spec from one revision to another; none where either is 0.
func (cl *client) between(ctx context.Context, agent string, a, b int64) ([]changeDoc, error) {
	out := []changeDoc{}
	if a == b || a == 0 || b == 0 {
		return out, nil
	}
	resp, err := cl.spec.Diff(ctx, connect.NewRequest(&specv1.DiffRequest{Namespace: cl.namespace, Kind: kindAgent, Name: agent, VersionA: itoa(a), VersionB: itoa(b)}))
	if err != nil {
		return nil, fmt.Errorf("compare revisions %d and %d: %w", a, b, err)
	}
	for _, d := range toDiffs(resp.Msg.GetDiffs()) {
		out = append(out, d.Changes...)
	}
	return out, nil
}

// statuses gives all agents of the namespace.
func (cl *client) statuses(ctx context.Context) ([]statusDoc, error) {
	resp, err := cl.status.ListStatus(ctx, connect.NewRequest(&releasev1.ListStatusRequest{Namespace: cl.namespace}))
	if err != nil {
		return nil, err
	}
	docs := []statusDoc{}
	for _, s := range resp.Msg.GetStatuses() {
		docs = append(docs, toStatus(s))
	}
	return docs, nil
}

func jsonOr(raw json.RawMessage, otherwise string) string {
	if raw == nil {
		return otherwise
	}
	return string(raw)
}
