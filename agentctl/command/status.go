package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/internal/phase"
)

func (c *cli) statusCmd() *cobra.Command {
	var out output
	var all, watch bool
	cmd := &cobra.Command{
		Use: "status [AGENT[/INSTANCE]]", Short: "Which agent serves what: desired and running config, refusals",
		Example: "  agentctl status\n  agentctl status mse-nacos-helper -w\n  agentctl status mse-nacos-helper -o json",
		Long: `Without AGENT, a line for each agent; with one, its instances, their faults, and the last refusal with the way out. In -o json times are
RFC 3339, and an instance's age is a number: seconds since its last message. Without AGENT the document is a list.`,
		Args:              args(0, 1),
		ValidArgsFunction: c.completer(kindAgent),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			agent, instance := "", ""
			if len(names) == 1 {
				agent, instance, _ = strings.Cut(strings.TrimPrefix(names[0], "agent/"), "/")
			}
			switch {
			case watch:
				return c.watchStatus(cmd.Context(), cl, out, agent, instance)
			case agent != "":
				s, err := cl.getStatus(cmd.Context(), agent)
				if err != nil {
					return err
				}
				return c.printStatus(out, s, instance)
			default:
				return c.listStatus(cmd.Context(), cl, out, all)
			}
		},
	}
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "agents of every namespace")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on: print every change (with -o json one document a line)")
	out.bind(cmd)
	return cmd
}

func (cl *client) getStatus(ctx context.Context, agent string) (*releasev1.AgentStatus, error) {
	resp, err := cl.status.GetStatus(ctx, connect.NewRequest(&releasev1.GetStatusRequest{Namespace: cl.namespace, Agent: agent}))
	if err != nil {
		return nil, err
	}
	return resp.Msg.GetStatus(), nil
}

func (c *cli) listStatus(ctx context.Context, cl *client, out output, all bool) error {
	resp, err := cl.status.ListStatus(ctx, connect.NewRequest(&releasev1.ListStatusRequest{Namespace: cl.namespace, AllNamespaces: all}))
	if err != nil {
		return err
	}
	docs := []statusDoc{}
	t := table{
		head:  []string{"AGENT", "CONDITION", "REVISION", "CONFIG", "INSTANCES", "LAST REFUSAL", "RELEASE", "NAMESPACE"},
		from:  6,
		empty: "No agents in namespace " + cl.namespace + ". Apply a folder: agentctl apply -f DIR",
	}
	if all {
		t.empty, t.from = "No agents. Apply a folder: agentctl apply -f DIR", 0
	}
	for _, s := range resp.Msg.GetStatuses() {
		d := toStatus(s)
		docs = append(docs, d)
		t.add("agent/"+d.Agent, d.Agent, d.Condition, d.revisions(), dash(d.Config), d.serving(), d.refusal(c), dash(s.GetRelease()), d.Namespace)
	}
	return c.print(out, docs, t)
}

// revisions shows the stable revision, and the desired one where it is another.
func (d statusDoc) revisions() string {
	if d.Revision.Desired == d.Revision.Stable {
		return itoa(d.Revision.Stable)
	}
	return itoa(d.Revision.Stable) + " -> " + itoa(d.Revision.Desired)
}

// serving counts the instances that serve what they should.
func (d statusDoc) serving() string {
	n := 0
	for _, i := range d.Instances {
		if phase.Phase(i.Phase).Serving() {
			n++
		}
	}
	text := fmt.Sprintf("%d/%d", n, len(d.Instances))
	if !d.FleetComplete {
		text += " (counting)"
	}
	return text
}

func (d statusDoc) refusal(c *cli) string {
	if d.LastRefusal == nil {
		return "-"
	}
	return fmt.Sprintf("%s, %s", first(d.LastRefusal.Config, itoa(d.LastRefusal.Revision)), c.ago(d.LastRefusal.At))
}

// printStatus prints one agent with its instances, or with the one asked for.
func (c *cli) printStatus(out output, s *releasev1.AgentStatus, instance string) error {
	d := toStatus(s)
	if instance != "" {
		kept := []instanceDoc{}
		for _, i := range d.Instances {
			if i.ID == instance {
				kept = append(kept, i)
			}
		}
		if len(kept) == 0 {
			return failf(exitNotFound, "agentctl status "+d.Agent, "agent %q has no instance %q", d.Agent, instance)
		}
		d.Instances = kept
	}
	t := table{
		head: []string{"INSTANCE", "PHASE", "DESIRED", "RUNNING", "STATE", "FAULTS", "AGE", "SINCE", "ENDPOINT", "AGENTD", "REQUESTS", "ERRORS", "IN FLIGHT", "NOTES"},
		from: 7,
	}
	wires := map[string]*releasev1.Instance{}
	for _, i := range s.GetInstances() {
		wires[i.GetId()] = i
	}
	for _, i := range d.Instances {
		age, x := fmt.Sprintf("%.0fs", i.Age), wires[i.ID]
		t.add(i.ID, i.ID, i.Phase, dash(i.Desired.Config), dash(i.Running.Config), dash(i.ConfigState), faultCount(i.Faults), age, c.ago(i.Since), dash(i.Endpoint),
			dash(x.GetAgentdVersion()), fmt.Sprint(x.GetRequests()), fmt.Sprint(x.GetErrors()), fmt.Sprint(x.GetInFlight()), dash(instanceNotes(x)))
	}
	if out.machine() || out == "name" || c.flags.quiet {
		return c.print(out, d, t)
	}
	w := c.env.Stdout
	_, _ = fmt.Fprintf(w, "%s: %s, revision %s, config %s\n", d.Agent, d.Condition, d.revisions(), dash(d.Config))
	if r := s.GetRelease(); r != "" {
		_, _ = fmt.Fprintf(w, "release: %s\n", r)
	}
	if !d.FleetComplete {
		_, _ = fmt.Fprintln(w, "The control plane is still counting its instances.")
	}
	if len(d.Instances) == 0 {
		_, _ = fmt.Fprintf(w, "No instances. Start one: AGENTD_JOIN_TOKEN=$(agentctl identity join-token create %s -q) AGENT_NAME=%s agentd\n", d.Agent, d.Agent)
	} else if err := c.print(out, d, t); err != nil {
		return err
	}
	for _, i := range d.Instances {
		for _, f := range i.Faults {
			_, _ = fmt.Fprintf(w, "%s: %s\n", i.ID, f)
		}
	}
	d.printRefusal(c, w)
	return nil
}

// instanceNotes says what is odd about an instance.
func instanceNotes(i *releasev1.Instance) string {
	var notes []string
	if i.GetLagging() {
		notes = append(notes, "lagging")
	}
	if n := i.GetDrifts(); n > 0 {
		notes = append(notes, fmt.Sprintf("drifted %d times", n))
	}
	if i.GetTakeovers() >= 3 {
		notes = append(notes, "id used twice")
	}
	return strings.Join(notes, ", ")
}

func faultCount(faults []faultDoc) string {
	if len(faults) == 0 {
		return "-"
	}
	return itoa(int64(len(faults)))
}

// String is a fault as people read it.
func (f faultDoc) String() string {
	place := f.Resource
	if f.Field != "" {
		place += " " + f.Field
	}
	text := oneLine(fmt.Sprintf("%s %s: %s (%s", f.Severity, place, f.Message, f.Code))
	if f.Retryable {
		text += ", retryable"
	}
	return text + ")"
}

// printRefusal tells the last refusal and the way out.
func (d statusDoc) printRefusal(c *cli, w io.Writer) {
	r := d.LastRefusal
	if r == nil {
		return
	}
	_, _ = fmt.Fprintf(w, "Last refusal: %s by %s, %s", first(r.Config, "revision "+itoa(r.Revision)), dash(r.Instance), c.ago(r.At))
	switch r.Action {
	case "rolled_back":
		_, _ = fmt.Fprintf(w, "; rolled back to revision %d.\n", r.RolledBackTo)
	case "held":
		_, _ = fmt.Fprint(w, "; held.\n")
	default:
		_, _ = fmt.Fprint(w, "; nothing was moved.\n")
	}
	for _, f := range r.Faults {
		_, _ = fmt.Fprintf(w, "  %s\n", f)
	}
	_, _ = fmt.Fprintf(w, "Way out: mend the files and apply them again (agentctl apply -f DIR), or offer it once more (agentctl rollout retry %s)", d.Agent)
	if r.Action == "held" && d.Revision.Stable != d.Revision.Desired {
		_, _ = fmt.Fprintf(w, ", or go back (agentctl rollback %s)", d.Agent)
	}
	_, _ = fmt.Fprintln(w, ".")
}

// watchStatus prints the present status and every change until it is stopped.
func (c *cli) watchStatus(ctx context.Context, cl *client, out output, agent, instance string) error {
	return cl.eachStatus(ctx, agent, func(s *releasev1.AgentStatus) (bool, error) {
		if out.machine() {
			return false, printLine(c.env.Stdout, toStatus(s))
		}
		if agent == "" {
			d := toStatus(s)
			_, err := fmt.Fprintf(c.env.Stdout, "%s   %s   %s   %s   %s   %s   %s\n", c.now().Format("15:04:05"), d.Agent, d.Condition, d.revisions(), dash(d.Config), d.serving(), d.refusal(c))
			return false, err
		}
		_, _ = fmt.Fprintf(c.env.Stdout, "--- %s\n", c.now().Format("15:04:05"))
		return false, c.printStatus(out, s, instance)
	})
}

// eachStatus hands over the status of an agent (or of all) and each change, until each says done, or ctx ends.
// A watch ended by a person's signal is no error.
func (cl *client) eachStatus(ctx context.Context, agent string, each func(*releasev1.AgentStatus) (done bool, err error)) error {
	seen := map[string]*releasev1.AgentStatus{} // another replica begins with what may have been handed over already
	open := func(ctx context.Context) (*connect.ServerStreamForClient[releasev1.WatchStatusResponse], error) {
		return cl.status.WatchStatus(ctx, connect.NewRequest(&releasev1.WatchStatusRequest{Namespace: cl.namespace, Agent: agent}))
	}
	return follow(ctx, cl, open, func(m *releasev1.WatchStatusResponse) (bool, error) {
		s := m.GetStatus()
		key := s.GetNamespace() + "/" + s.GetAgent()
		if cl.servers.several() && proto.Equal(seen[key], s) {
			return false, nil
		}
		seen[key] = s
		return each(s)
	})
}

// ended judges the end of a watch.
func (cl *client) ended(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // by a signal, whatever its cause says; a deadline is told apart
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil && nearDeadline(ctx):
		// The server is told the deadline and may end the watch a moment before our own clock does.
		return context.DeadlineExceeded
	case err == nil:
		return failf(exitUnreachable, "ask again", "the control plane at %s ended the watch", cl.server)
	default:
		return cl.caller.explain(err)
	}
}

// nearDeadline reports whether ctx is as good as over.
func nearDeadline(ctx context.Context) bool {
	d, ok := ctx.Deadline()
	return ok && time.Until(d) < 500*time.Millisecond
}
