package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
)

// eventDoc is one event.
type eventDoc struct {
	Seq       int64     `json:"seq"`
	Time      time.Time `json:"time"`
	Namespace string    `json:"namespace"`
	Agent     string    `json:"agent"`
	Instance  string    `json:"instance"`
	Type      string    `json:"type"`
	Config    string    `json:"config"`
	Message   string    `json:"message"`
}

func (c *cli) eventsCmd() *cobra.Command {
	var out output
	var follow bool
	var since int64
	cmd := &cobra.Command{
		Use: "events [AGENT]", Short: "What happened lately to agents and instances",
		Example: "  agentctl events\n  agentctl events mse-nacos-helper -f -o json", Args: args(0, 1),
		ValidArgsFunction: c.completer(kindAgent),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			req := &releasev1.WatchEventsRequest{Namespace: cl.namespace, Follow: follow, SinceSeq: since}
			if len(names) == 1 {
				req.Agent = strings.TrimPrefix(names[0], "agent/")
				if _, err := cl.getStatus(ctx, req.Agent); connect.CodeOf(err) == connect.CodeNotFound { // no events are no answer
					return err
				}
			}
			if follow {
				return c.followEvents(ctx, cl, out, req)
			}
			open := func(ctx context.Context) (*connect.ServerStreamForClient[releasev1.WatchEventsResponse], error) {
				return cl.status.WatchEvents(ctx, connect.NewRequest(req))
			}
			docs := []eventDoc{}
			t := table{head: []string{"TIME", "TYPE", "AGENT", "INSTANCE", "CONFIG", "MESSAGE", "SEQ"}, from: 6, empty: "No events yet."}
			_, _, err = listen(ctx, open, func(m *releasev1.WatchEventsResponse) (bool, error) {
				d := toEvent(m.GetEvent())
				docs = append(docs, d)
				t.add("agent/"+d.Agent, c.ago(d.Time), d.Type, dash(d.Agent), dash(d.Instance), dash(d.Config), d.Message, itoa(d.Seq))
				return false, nil
			})
			if err != nil {
				return cl.ended(ctx, err)
			}
			return c.print(out, docs, t)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on: print every new event (with -o json one a line)")
	cmd.Flags().Int64Var(&since, "since", 0, "only events after this number")
	out.bind(cmd)
	return cmd
}

func toEvent(e *releasev1.Event) eventDoc {
	return eventDoc{
		Seq: e.GetSeq(), Time: timeOf(e.GetTime()), Namespace: e.GetNamespace(), Agent: e.GetAgent(), Instance: e.GetInstance(),
		Type: e.GetType(), Config: e.GetConfig(), Message: e.GetMessage(),
	}
}

func (c *cli) printEvent(out output, d eventDoc) error {
	if out.machine() {
		return printLine(c.env.Stdout, d)
	}
	_, err := fmt.Fprintf(c.env.Stdout, "%s   %s   %s   %s   %s   %s\n", d.Time.Local().Format("15:04:05"), d.Type, dash(d.Agent), dash(d.Instance), dash(d.Config), oneLine(d.Message))
	return err
}
