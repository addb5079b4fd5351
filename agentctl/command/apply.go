package command

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/specfile"
)

// applying is what apply was asked.
type applying struct {
	out     output
	m       mutation
	names   []string
	wait    bool
	timeout time.Duration
}

func (c *cli) applyCmd() *cobra.Command {
	var a applying
	cmd := &cobra.Command{
		Use: "apply -f FILE|DIR|-", Short: "Write a folder, a file or a manifest: all of it or nothing",
		Example: "  agentctl apply -f examples/nacos-helper\n  agentctl apply -f agent.yaml --dry-run=server\n  agentctl apply -f DIR --wait --message \"shorter answers\"",
		Long: `Sends everything as one request; the server validates all of it and writes all or nothing. A set of more than 100 heads is sent in
parts, shared things first, after all of it was validated. With --wait: 0 the new revisions are stable (at once where an agent has no
instance), 1 one was refused or rolled back (its faults on stderr), 7 timeout.`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.out.check(); err != nil {
				return err
			}
			if len(a.names) == 0 {
				return failf(exitUsage, "agentctl apply -f DIR", "nothing to apply: -f is missing")
			}
			return c.apply(cmd.Context(), a)
		},
	}
	bindFiles(cmd, &a.names)
	cmd.Flags().BoolVar(&a.wait, "wait", false, "wait until what was written is stable or refused")
	cmd.Flags().DurationVar(&a.timeout, "timeout", 2*time.Minute, "with --wait: give up after it")
	a.m.bind(cmd)
	a.out.bind(cmd)
	return cmd
}

func (c *cli) apply(ctx context.Context, a applying) error {
	dry, err := a.m.dry()
	if err != nil {
		return err
	}
	set, err := c.readFiles(a.names)
	if err != nil {
		return err
	}
	cl, err := c.connect()
	if err != nil {
		return err
	}
	doc, reasons, diffs, err := c.send(ctx, cl, a, set, dry)
	if err != nil {
		if faults := faultsOf(err); faults != nil {
			return c.refuse(a.out, set, faults, "; nothing was stored")
		}
		return fmt.Errorf("apply: %w", err)
	}
	if err := c.printApplied(a.out, doc, versionsOf(set), diffs, dry); err != nil {
		return err
	}
	code := exitOK
	for i, r := range doc.Results {
		if r.Action == "refused" {
			code = exitConflict
			c.note("error: %s/%s was refused: %s\nhint: change its files, or offer it as it stands once more: agentctl rollout retry %s", r.Kind, r.Name, reasons[i], r.Name)
		}
	}
	if !a.wait || dry {
		return answered(code)
	}
	if err := c.settle(ctx, cl, doc, a.timeout); err != nil {
		return err
	}
	return answered(code)
}

// send writes the set, in parts where it is too large for one transaction.
func (c *cli) send(ctx context.Context, cl *client, a applying, set fileSet, dry bool) (doc applyDoc, reasons []string, diffs []*specv1.ObjectDiff, err error) {
	doc = applyDoc{Results: []resultDoc{}, Notes: []string{}}
	parsed, faults := specfile.Parse(set.files)
	parts := [][]specfile.File{set.files}
	if len(faults) == 0 && !dry {
		parts = set.parts(parsed) // with faults, nothing will be written
	}
	if len(parts) > 1 {
		if a.m.check() != nil {
			return doc, nil, nil, usagef("--check-revision is for one agent; this set has %d", len(parsed.Agents))
		}
		v, err := cl.spec.Validate(ctx, connect.NewRequest(&specv1.ValidateRequest{Namespace: cl.namespace, Files: wireFiles(set.files)}))
		if err != nil {
			return doc, nil, nil, err
		}
		if f := v.Msg.GetFaults(); len(f) > 0 {
			return doc, nil, nil, withFaults(f)
		}
	}
	for i, files := range parts {
		resp, err := cl.spec.Apply(ctx, connect.NewRequest(&specv1.ApplyRequest{
			Namespace: cl.namespace, Files: wireFiles(files), DryRun: dry, CheckRevision: a.m.check(), Message: a.m.message,
		}))
		if err != nil {
			if i > 0 {
				c.note("note: parts 1 to %d of %d were written before this", i, len(parts))
			}
			return doc, nil, nil, err
		}
		for _, r := range resp.Msg.GetResults() {
			doc.Results = append(doc.Results, resultDoc{Kind: r.GetKind(), Name: r.GetName(), Namespace: r.GetNamespace(), Revision: r.GetRevision(), Action: r.GetAction()})
			reasons = append(reasons, r.GetReason())
		}
		if len(parts) > 1 {
			doc.Notes = append(doc.Notes, fmt.Sprintf("part %d of %d: %d files, %d things", i+1, len(parts), len(files), len(resp.Msg.GetResults())))
		}
		doc.Notes = append(doc.Notes, resp.Msg.GetNotes()...)
		diffs = append(diffs, resp.Msg.GetDiffs()...)
	}
	return doc, reasons, diffs, nil
}

// withFaults is the error that Apply would have answered.
func withFaults(faults []*specv1.Fault) error {
	err := connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%d fault(s)", len(faults)))
	if d, detail := connect.NewErrorDetail(&specv1.Faults{Faults: faults}); detail == nil {
		err.AddDetail(d)
	}
	return err
}

func (c *cli) printApplied(out output, doc applyDoc, versions map[string]string, diffs []*specv1.ObjectDiff, dry bool) error {
	if out.machine() {
		if dry {
			doc.Diffs = toDiffs(diffs)
		}
		return printDoc(c.env.Stdout, out, doc)
	}
	for _, n := range doc.Notes {
		c.note("note: %s", n)
	}
	w := c.env.Stdout
	for _, r := range doc.Results {
		line := r.line(versions)
		switch {
		case c.flags.quiet || out == "name":
			line = r.Kind + "/" + r.Name
		case dry:
			line = fmt.Sprintf("%s/%s would be %s (dry run)", r.Kind, r.Name, r.Action)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	if dry {
		return c.printDiffs(diffs)
	}
	return nil
}

// line is a result as people read it; versions are those of the prompts and MCP entries that were sent, by kind/name.
func (r resultDoc) line(versions map[string]string) string {
	name := r.Kind + "/" + r.Name
	switch {
	case r.Action == "refused" && r.Revision > 0:
		return fmt.Sprintf("%s refused (still at revision %d)", name, r.Revision)
	case r.Action == "refused":
		return name + " refused"
	case versions[name] != "":
		return fmt.Sprintf("%s %s (version %s)", name, r.Action, versions[name])
	default:
		return fmt.Sprintf("%s %s (revision %d)", name, r.Action, r.Revision)
	}
}

func versionsOf(set fileSet) map[string]string {
	parsed, _ := specfile.Parse(set.files)
	out := map[string]string{}
	if parsed == nil {
		return out
	}
	for _, p := range parsed.Prompts {
		out[kindPrompt+"/"+p.Spec.PromptKey] = p.Spec.Version
	}
	for _, m := range parsed.MCPServers {
		out[kindMCP+"/"+m.Spec.Name] = m.Spec.Version
	}
	return out
}
