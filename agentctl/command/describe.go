package command

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
)

// recentHistory is how much of a history describe shows.
const recentHistory = 5

// descriptionDoc joins what is known of one thing. Status is null for other kinds than agents.
type descriptionDoc struct {
	Object  objectDoc    `json:"object"`
	Status  *statusDoc   `json:"status"`
	UsedBy  []string     `json:"usedBy"` // agents that refer to it
	History []historyDoc `json:"history"`
}

func (c *cli) describeCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "describe KIND NAME | KIND/NAME", Short: "All that is known of one thing: spec, status, last moves, who uses it",
		Example: "  agentctl describe agent mse-nacos-helper\n  agentctl describe mcp/nacos-mcp-tools", Args: args(1, 2),
		ValidArgsFunction: c.completer(""),
		RunE: func(cmd *cobra.Command, words []string) error {
			if err := out.check(); err != nil {
				return err
			}
			_, refs, err := parseRefs(words)
			if err != nil {
				return err
			}
			if len(refs) != 1 {
				return usagef("describe one thing: KIND NAME")
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			doc, err := cl.describe(cmd.Context(), refs[0])
			if err != nil {
				return err
			}
			if out.machine() {
				return printDoc(c.env.Stdout, out, doc)
			}
			return c.printDescription(cmd.Context(), cl, doc)
		},
	}
	out.bind(cmd)
	return cmd
}

func (cl *client) describe(ctx context.Context, r ref) (descriptionDoc, error) {
	o, err := cl.object(ctx, r)
	if err != nil {
		return descriptionDoc{}, err
	}
	doc := descriptionDoc{Object: toObject(o), UsedBy: []string{}}
	if r.kind == kindAgent {
		s, err := cl.getStatus(ctx, r.name)
		if err != nil {
			return doc, err
		}
		d := toStatus(s)
		doc.Status = &d
	} else if doc.UsedBy, err = cl.usedBy(ctx, r); err != nil {
		return doc, err
	}
	h, err := cl.spec.History(ctx, connect.NewRequest(&specv1.HistoryRequest{Namespace: cl.namespace, Kind: r.kind, Name: r.name}))
	if err != nil {
		return doc, err
	}
	doc.History = toHistory(h.Msg.GetEntries())
	if len(doc.History) > recentHistory {
		doc.History = doc.History[:recentHistory]
	}
	return doc, nil
}

// usedBy finds the agents whose desired spec names a thing.
func (cl *client) usedBy(ctx context.Context, r ref) ([]string, error) {
	agents, err := cl.list(ctx, &specv1.ListRequest{Namespace: cl.namespace, Kind: kindAgent})
	if err != nil {
		return nil, err
	}
	field := "promptKey"
	switch r.kind {
	case kindMCP:
		field = "mcpServerName"
	case kindCredential:
		field = "credentialRef"
	}
	out := []string{}
	for _, a := range agents.Items {
		// Stored JSON is canonical (RFC 8785): no blanks, one spelling.
		if strings.Contains(string(a.Spec), fmt.Sprintf("%q:%q", field, r.name)) {
			out = append(out, a.Name)
		}
	}
	return out, nil
}

func (c *cli) printDescription(ctx context.Context, cl *client, doc descriptionDoc) error {
	w := c.env.Stdout
	c.headOf(doc.Object)
	if doc.Status != nil {
		s, err := cl.getStatus(ctx, doc.Object.Name)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintln(w, "\nStatus")
		if err := c.printStatus("", s, ""); err != nil {
			return err
		}
	}
	if doc.Object.Kind != kindAgent {
		_, _ = fmt.Fprintf(w, "used by: %s\n", dash(strings.Join(doc.UsedBy, ", ")))
	}
	if doc.Object.Spec != nil {
		_, _ = fmt.Fprintln(w, "\nSpec")
		if err := c.specOf(doc.Object); err != nil {
			return err
		}
	}
	if len(doc.History) == 0 {
		return nil
	}
	_, _ = fmt.Fprintln(w, "\nHistory")
	t := table{head: []string{"REVISION", "KIND", "STATE", "FROM", "TO", "TIME", "CAUSE", "MESSAGE"}, noHead: c.flags.noHeaders, colour: c.colour(w)}
	for _, h := range doc.History {
		state := "-"
		if h.State != nil {
			state = *h.State
		}
		t.add("", revisionOf(h.Revision), h.Kind, state, dash(h.From), dash(h.To), c.ago(h.Time), dash(h.Cause), dash(h.Message))
	}
	return t.write(w)
}
