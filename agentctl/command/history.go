package command

import (
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
)

func (c *cli) historyCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "history AGENT | prompt/KEY | mcp/NAME", Short: "Revisions and moves, newest first",
		Example: "  agentctl history mse-nacos-helper\n  agentctl history prompt/mse-nacos-helper -o json", Args: args(1, 1),
		ValidArgsFunction: c.completer(kindAgent),
		RunE: func(cmd *cobra.Command, words []string) error {
			if err := out.check(); err != nil {
				return err
			}
			r, err := parseRef(words[0], kindAgent)
			if err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			resp, err := cl.spec.History(cmd.Context(), connect.NewRequest(&specv1.HistoryRequest{Namespace: cl.namespace, Kind: r.kind, Name: r.name}))
			if err != nil {
				return err
			}
			docs := toHistory(resp.Msg.GetEntries())
			t := table{head: []string{"SEQ", "KIND", "REVISION", "STATE", "FROM", "TO", "TIME", "CAUSE", "MESSAGE", "ACTOR", "CONFIG"}, from: 9, empty: "No history of " + r.String() + "."}
			for _, d := range docs {
				state := "-"
				if d.State != nil {
					state = *d.State
				}
				message := d.Message
				if len(d.Faults) > 0 {
					message = strings.TrimPrefix(message+"; "+d.Faults[0].String(), "; ")
				}
				t.add(itoa(d.Seq), itoa(d.Seq), d.Kind, revisionOf(d.Revision), state, dash(d.From), dash(d.To), c.ago(d.Time), dash(d.Cause), dash(message), dash(d.Actor), dash(d.Config))
			}
			return c.print(out, docs, t)
		},
	}
	out.bind(cmd)
	return cmd
}
