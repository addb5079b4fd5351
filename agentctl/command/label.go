package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
)

// labelDoc is what a move of a label did.
type labelDoc struct {
	Prompt        string   `json:"prompt"`
	Namespace     string   `json:"namespace"`
	Label         string   `json:"label"`
	From          string   `json:"from"`
	To            string   `json:"to"`
	Agents        []string `json:"agents"` // that refer to it
	StoreRevision int64    `json:"storeRevision"`
	DryRun        bool     `json:"dryRun"`
}

// labelMoveDoc is one move of a label in its history.
type labelMoveDoc struct {
	Seq     int64     `json:"seq"`
	Label   string    `json:"label"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	Actor   string    `json:"actor"`
	Message string    `json:"message"`
	Time    time.Time `json:"time"`
}

func (c *cli) labelCmd() *cobra.Command {
	return group("label", "Labels: which version of a prompt agents get", "  agentctl prompt label set mse-nacos-helper prod 3.0.12\n  agentctl prompt label history mse-nacos-helper",
		c.labelSetCmd(), c.labelUnsetCmd(), c.labelHistoryCmd())
}

func (c *cli) labelSetCmd() *cobra.Command {
	var out output
	var m mutation
	cmd := &cobra.Command{
		Use: "set KEY LABEL VERSION", Short: "Point a label at a version: every agent that refers to it follows",
		Example: "  agentctl prompt label set mse-nacos-helper prod 3.0.12\n  agentctl prompt label set mse-nacos-helper prod 3.0.11 --message \"3.0.12 is too chatty\"",
		Long:    "The label latest is the server's: it is the version most recently put online.", Args: args(3, 3),
		ValidArgsFunction: c.completeLabels(true),
		RunE: func(cmd *cobra.Command, words []string) error {
			cl, dry, err := c.begin(out, &m)
			if err != nil {
				return err
			}
			d := labelDoc{Prompt: words[0], Namespace: cl.namespace, Label: words[1], DryRun: dry}
			resp, err := cl.prompts.SetLabel(cmd.Context(), connect.NewRequest(&registryv1.SetLabelRequest{
				Namespace: cl.namespace, Prompt: d.Prompt, Label: d.Label, Version: words[2], Message: m.message, CheckRevision: m.check(), DryRun: dry,
			}))
			if err != nil {
				return fmt.Errorf("label %s of prompt %s: %w", d.Label, d.Prompt, err)
			}
			r := resp.Msg
			d.From, d.To, d.Agents, d.StoreRevision = r.GetFrom(), r.GetTo(), list(r.GetAgents()), r.GetStoreRevision()
			return c.printMove(out, d, "prompt/"+d.Prompt+":"+d.Label, change(d.From, d.To), d.Agents, dry)
		},
	}
	m.bindFor(cmd, "the prompt's store revision is this one (storeRevision in -o json)")
	out.bind(cmd)
	return cmd
}

func (c *cli) labelUnsetCmd() *cobra.Command {
	var out output
	var m mutation
	var force bool
	cmd := &cobra.Command{
		Use: "unset KEY LABEL", Short: "Remove a label", Example: "  agentctl prompt label unset mse-nacos-helper old", Args: args(2, 2),
		ValidArgsFunction: c.completeLabels(false),
		RunE: func(cmd *cobra.Command, words []string) error {
			cl, dry, err := c.begin(out, &m)
			if err != nil {
				return err
			}
			d := labelDoc{Prompt: words[0], Namespace: cl.namespace, Label: words[1], DryRun: dry}
			resp, err := cl.prompts.UnsetLabel(cmd.Context(), connect.NewRequest(&registryv1.UnsetLabelRequest{
				Namespace: cl.namespace, Prompt: d.Prompt, Label: d.Label, Force: force, Message: m.message, CheckRevision: m.check(), DryRun: dry,
			}))
			if err != nil {
				return fmt.Errorf("label %s of prompt %s: %w", d.Label, d.Prompt, err)
			}
			r := resp.Msg
			d.From, d.Agents, d.StoreRevision = r.GetFrom(), list(r.GetAgents()), r.GetStoreRevision()
			return c.printMove(out, d, "prompt/"+d.Prompt+":"+d.Label, "removed, was "+d.From, d.Agents, dry)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also while agents refer to it")
	m.bindFor(cmd, "the prompt's store revision is this one (storeRevision in -o json)")
	out.bind(cmd)
	return cmd
}

func (c *cli) labelHistoryCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "history KEY [LABEL]", Short: "Where labels pointed and who moved them, newest first",
		Example: "  agentctl prompt label history mse-nacos-helper\n  agentctl prompt label history mse-nacos-helper prod -o json", Args: args(1, 2),
		ValidArgsFunction: c.completeLabels(false),
		RunE: func(cmd *cobra.Command, words []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			req := &registryv1.LabelHistoryRequest{Namespace: cl.namespace, Prompt: words[0]}
			if len(words) == 2 {
				req.Label = words[1]
			}
			resp, err := cl.prompts.LabelHistory(cmd.Context(), connect.NewRequest(req))
			if err != nil {
				return err
			}
			docs := []labelMoveDoc{}
			t := table{head: []string{"SEQ", "LABEL", "FROM", "TO", "TIME", "ACTOR", "MESSAGE"}, empty: "No label of prompt/" + words[0] + " was ever moved."}
			for _, v := range resp.Msg.GetMoves() {
				d := labelMoveDoc{Seq: v.GetSeq(), Label: v.GetLabel(), From: v.GetFrom(), To: v.GetTo(), Actor: v.GetActor(), Message: v.GetMessage(), Time: timeOf(v.GetTime())}
				docs = append(docs, d)
				t.add(itoa(d.Seq), itoa(d.Seq), d.Label, dash(d.From), dash(d.To), c.ago(d.Time), dash(d.Actor), dash(d.Message))
			}
			return c.print(out, docs, t)
		},
	}
	out.bind(cmd)
	return cmd
}

// completeLabels offers prompts, then the labels of the one chosen, then its versions.
func (c *cli) completeLabels(versions bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, words []string, _ string) ([]string, cobra.ShellCompDirective) {
		var found []string
		switch {
		case len(words) == 0:
			found = c.names(cmd.Context(), kindPrompt)
		case len(words) == 1:
			found = c.labels(cmd.Context(), words[0])
		case len(words) == 2 && versions:
			found = c.versions(cmd.Context(), words[0])
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// labels asks the server which labels of a prompt were ever moved; none where it doesn't answer at once.
func (c *cli) labels(ctx context.Context, key string) []string {
	cl, err := c.connect()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	resp, err := cl.prompts.LabelHistory(ctx, connect.NewRequest(&registryv1.LabelHistoryRequest{Namespace: cl.namespace, Prompt: key}))
	if err != nil {
		return nil
	}
	var found []string
	for _, v := range resp.Msg.GetMoves() {
		if l := v.GetLabel(); l != "latest" && !slices.Contains(found, l) {
			found = append(found, l)
		}
	}
	return found
}

// versions asks the server for the versions of a prompt, newest first; none where it doesn't answer at once.
func (c *cli) versions(ctx context.Context, key string) []string {
	cl, err := c.connect()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	resp, err := cl.spec.History(ctx, connect.NewRequest(&specv1.HistoryRequest{Namespace: cl.namespace, Kind: kindPrompt, Name: key}))
	if err != nil {
		return nil
	}
	var found []string
	for _, e := range resp.Msg.GetEntries() {
		if v := e.GetTo(); e.GetKind() == "revision" && v != "" && !slices.Contains(found, v) {
			found = append(found, v)
		}
	}
	return found
}

// begin checks the flags of a command and connects; m is nil for one that writes nothing.
func (c *cli) begin(out output, m *mutation) (cl *client, dry bool, err error) {
	if err := out.check(); err != nil {
		return nil, false, err
	}
	if m != nil {
		if dry, err = m.dry(); err != nil {
			return nil, false, err
		}
	}
	cl, err = c.connect()
	return cl, dry, err
}

// printMove prints what a move of a shared thing did, and who follows.
func (c *cli) printMove(out output, doc any, name, what string, agents []string, dry bool) error {
	if out.machine() {
		return printDoc(c.env.Stdout, out, doc)
	}
	if out == "name" || c.flags.quiet {
		_, err := fmt.Fprintln(c.env.Stdout, name)
		return err
	}
	line := name + " " + what
	if dry {
		line += " (dry run)"
	}
	if _, err := fmt.Fprintln(c.env.Stdout, line); err != nil {
		return err
	}
	switch n := len(agents); {
	case n == 0:
		c.note("note: no agent refers to it")
	case n <= 5:
		c.note("note: it counts for agent %s", strings.Join(agents, ", "))
	default:
		c.note("note: it counts for %d agents: %s, ...", n, strings.Join(agents[:5], ", "))
	}
	return nil
}

// change says from what to what; what stayed is said to be so already.
func change(from, to string) string {
	switch from {
	case to:
		return "is " + to + " already"
	case "":
		return "-> " + to
	default:
		return from + " -> " + to
	}
}

// list gives a slice that is never null in JSON.
func list(in []string) []string { return append([]string{}, in...) }
