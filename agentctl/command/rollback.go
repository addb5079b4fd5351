package command

import (
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
)

// rollbackDoc is what a rollback did.
type rollbackDoc struct {
	Name      string   `json:"name"`
	Namespace string   `json:"namespace"`
	From      int64    `json:"from"`
	To        int64    `json:"to"`
	Aborted   bool     `json:"aborted"`
	DryRun    bool     `json:"dryRun"`
	Notes     []string `json:"notes"`
}

func (c *cli) rollbackCmd() *cobra.Command {
	var out output
	var m mutation
	var to string
	var force bool
	cmd := &cobra.Command{
		Use: "rollback AGENT", Short: "Move an agent back: to its previous proven revision, or by --to",
		Example: "  agentctl rollback mse-nacos-helper\n  agentctl rollback mse-nacos-helper --to 8 --message \"9 is slow\"", Args: args(1, 1),
		ValidArgsFunction: c.completer(kindAgent),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := out.check(); err != nil {
				return err
			}
			r, err := parseRef(names[0], kindAgent)
			if err != nil {
				return err
			}
			if r.kind != kindAgent {
				return usagef("only agents are rolled back; %s is none", r)
			}
			dry, err := m.dry()
			if err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			resp, err := cl.spec.Rollback(cmd.Context(), connect.NewRequest(&specv1.RollbackRequest{
				Namespace: cl.namespace, Name: r.name, To: first(to, r.version), Force: force, Message: m.message, DryRun: dry, CheckRevision: m.check(),
			}))
			if err != nil {
				return fmt.Errorf("rollback %s: %w", r.name, err)
			}
			d := rollbackDoc{
				Name: r.name, Namespace: cl.namespace, From: resp.Msg.GetFrom(), To: resp.Msg.GetTo(), Aborted: resp.Msg.GetAborted(),
				DryRun: dry, Notes: append([]string{}, resp.Msg.GetNotes()...),
			}
			if out.machine() {
				return printDoc(c.env.Stdout, out, d)
			}
			if d.From == d.To && !d.Aborted {
				_, err = fmt.Fprintf(c.env.Stdout, "agent/%s: revision %d is what counts already\n", d.Name, d.To)
				return err
			}
			for _, n := range d.Notes {
				c.note("note: %s", n)
			}
			verb := "rolled back"
			if d.Aborted {
				verb = "candidate aborted"
			}
			if dry {
				verb += " (dry run)"
			}
			_, err = fmt.Fprintf(c.env.Stdout, "agent/%s %s: revision %d -> %d\n", d.Name, verb, d.From, d.To)
			return err
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "a revision (8), or a config (8-3f2a91c4)")
	cmd.Flags().BoolVar(&force, "force", false, "also to a revision that was refused or never proven")
	m.bind(cmd)
	out.bind(cmd)
	return cmd
}
