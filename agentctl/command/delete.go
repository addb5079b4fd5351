package command

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
)

// deleteDoc is what a delete did.
type deleteDoc struct {
	Deleted []string `json:"deleted"` // kind/name
	DryRun  bool     `json:"dryRun"`
	Notes   []string `json:"notes"`
}

// deleting is what delete was asked.
type deleting struct {
	out        output
	m          mutation
	yes, force bool
}

func (c *cli) deleteCmd() *cobra.Command {
	var d deleting
	cmd := &cobra.Command{
		Use: "delete KIND NAME... | KIND/NAME...", Short: "Delete things; asks first",
		Example: "  agentctl delete agent mse-nacos-helper\n  agentctl delete prompt/old mcp/old --yes", Args: args(1, -1),
		ValidArgsFunction: c.completer(""),
		RunE: func(cmd *cobra.Command, words []string) error {
			if err := d.out.check(); err != nil {
				return err
			}
			kind, refs, err := parseRefs(words)
			if err != nil {
				return err
			}
			if len(refs) == 0 {
				return usagef("delete %s: name what to delete", kind)
			}
			return c.delete(cmd.Context(), d, refs)
		},
	}
	cmd.Flags().BoolVar(&d.yes, "yes", false, "don't ask")
	cmd.Flags().BoolVar(&d.force, "force", false, "also what others refer to")
	d.m.bindFor(cmd, "the agent is at this revision now; for agents only")
	d.out.bind(cmd)
	return cmd
}

func (c *cli) delete(ctx context.Context, d deleting, refs []ref) error {
	dry, err := d.m.dry()
	if err != nil {
		return err
	}
	names := make([]string, 0, len(refs))
	for _, r := range refs {
		if r.version != "" {
			return usagef("%s: a version can't be deleted, only the whole", r)
		}
		names = append(names, r.String())
	}
	if !dry {
		if err := c.confirm(d.yes, "Delete "+strings.Join(names, ", ")+"?"); err != nil {
			return err
		}
	}
	cl, err := c.connect()
	if err != nil {
		return err
	}
	doc := deleteDoc{Deleted: []string{}, DryRun: dry, Notes: []string{}}
	for _, r := range refs {
		resp, err := cl.spec.Delete(ctx, connect.NewRequest(&specv1.DeleteRequest{
			Namespace: cl.namespace, Kind: r.kind, Name: r.name, Force: d.force, Message: d.m.message, DryRun: dry, CheckRevision: d.m.check(),
		}))
		if err != nil {
			return fmt.Errorf("delete %s: %w", r, err)
		}
		doc.Deleted = append(doc.Deleted, r.String())
		doc.Notes = append(doc.Notes, resp.Msg.GetNotes()...)
		if !d.out.machine() {
			verb := "deleted"
			if dry {
				verb = "would be deleted (dry run)"
			}
			_, _ = fmt.Fprintf(c.env.Stdout, "%s %s\n", r, verb)
		}
	}
	if d.out.machine() {
		return printDoc(c.env.Stdout, d.out, doc)
	}
	for _, n := range doc.Notes {
		c.note("note: %s", n)
	}
	return nil
}
