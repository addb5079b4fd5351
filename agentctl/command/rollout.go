package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
)

// How a release stands, as the server says it.
const (
	rolloutProgressing = "progressing"
	rolloutHeld        = "held"
)

// rolloutDoc is how an agent's release stands.
type rolloutDoc struct {
	Agent       string      `json:"agent"`
	Namespace   string      `json:"namespace"`
	Condition   string      `json:"condition"`
	State       string      `json:"state"`
	Release     string      `json:"release"`
	From        int64       `json:"from"`
	To          int64       `json:"to"`
	Since       *time.Time  `json:"since"`    // null when settled
	Deadline    float64     `json:"deadline"` // seconds
	OnReject    string      `json:"onReject"`
	Pin         string      `json:"pin"`
	Vetoes      []vetoDoc   `json:"vetoes"`
	Retryable   int64       `json:"retryable"`
	Instances   int32       `json:"instances"`
	Settled     int32       `json:"settled"`
	LastRefusal *refusalDoc `json:"lastRefusal"`
	Line        string      `json:"line"`
}

type vetoDoc struct {
	Head    string   `json:"head"`
	Refused []string `json:"refused"`
	Use     string   `json:"use"`
}

func toVetoes(in []*releasev1.Veto) []vetoDoc {
	out := []vetoDoc{}
	for _, v := range in {
		out = append(out, vetoDoc{Head: v.GetHead(), Refused: list(v.GetRefused()), Use: v.GetUse()})
	}
	return out
}

func toRollout(r *releasev1.Rollout) rolloutDoc {
	d := rolloutDoc{
		Agent: r.GetAgent(), Namespace: r.GetNamespace(), Condition: r.GetCondition(), State: r.GetState(), Release: r.GetRelease(), From: r.GetFrom(), To: r.GetTo(),
		Deadline: r.GetDeadline().AsDuration().Seconds(), OnReject: r.GetOnReject(), Pin: r.GetPin(), Vetoes: toVetoes(r.GetVetoes()), Retryable: r.GetRetryable(),
		Instances: r.GetInstances(), Settled: r.GetSettled(), Line: r.GetLine(),
		LastRefusal: toStatus(&releasev1.AgentStatus{LastRefusal: r.GetLastRefusal()}).LastRefusal,
	}
	if at := r.GetSince(); at != nil {
		t := at.AsTime()
		d.Since = &t
	}
	return d
}

func (c *cli) rolloutCmd() *cobra.Command {
	return group("rollout", "An agent's release: how it stands, try again, let go, stop",
		"  agentctl rollout status mse-nacos-helper -w\n  agentctl rollout retry mse-nacos-helper\n  agentctl rollout abort mse-nacos-helper",
		c.rolloutStatusCmd(), c.rolloutRetryCmd(), c.rolloutUnholdCmd(), c.rolloutAbortCmd())
}

func (c *cli) rolloutStatusCmd() *cobra.Command {
	var out output
	var watch bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "status AGENT", Short: "How an agent's release stands, in one line", Example: "  agentctl rollout status mse-nacos-helper\n  agentctl rollout status mse-nacos-helper -w --timeout 1m",
		Long: "With -w it prints every change until the release ends: 0 it is stable (or none is open), 1 it was aborted, refused or is held, 7 timeout.", Args: args(1, 1),
		ValidArgsFunction: c.completer(kindAgent),
		RunE: func(cmd *cobra.Command, names []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			agent := strings.TrimPrefix(names[0], "agent/")
			if watch {
				return c.watchRollout(cmd.Context(), cl, out, agent, timeout)
			}
			d, err := cl.rollout(cmd.Context(), agent)
			if err != nil {
				return err
			}
			return c.printRollout(out, d, false)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on until it ends (with -o json one document a line)")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "with -w: give up after it (0: never)")
	out.bind(cmd)
	return cmd
}

func (cl *client) rollout(ctx context.Context, agent string) (rolloutDoc, error) {
	resp, err := cl.rollouts.Status(ctx, connect.NewRequest(&releasev1.StatusRequest{Namespace: cl.namespace, Agent: agent}))
	if err != nil {
		return rolloutDoc{}, err
	}
	return toRollout(resp.Msg.GetRollout()), nil
}

func (c *cli) printRollout(out output, d rolloutDoc, line bool) error {
	switch {
	case out.machine() && line:
		return printLine(c.env.Stdout, d)
	case out.machine():
		return printDoc(c.env.Stdout, out, d)
	case out == "name" || c.flags.quiet:
		_, err := fmt.Fprintln(c.env.Stdout, "agent/"+d.Agent)
		return err
	}
	if _, err := fmt.Fprintf(c.env.Stdout, "%s: %s: %s\n", d.Agent, d.State, d.Line); err != nil {
		return err
	}
	if line {
		return nil
	}
	switch {
	case d.State == rolloutHeld || d.Retryable > 0:
		c.note("Revision %d was refused. Way out: mend the files and apply them again, or offer it once more: agentctl rollout retry %s", d.Retryable, d.Agent)
	case d.Pin != "" || len(d.Vetoes) > 0:
		c.note("Shared versions are held back. To let go: agentctl rollout unhold %s", d.Agent)
	}
	return nil
}

// watchRollout prints each change of a release until it ends, and judges how.
func (c *cli) watchRollout(ctx context.Context, cl *client, out output, agent string, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var last rolloutDoc
	followed := int64(0) // the newest revision that was seen under way
	ended := false
	err := cl.eachStatus(ctx, agent, func(*releasev1.AgentStatus) (bool, error) {
		d, err := cl.rollout(ctx, agent)
		if err != nil {
			return false, err
		}
		if d.State == rolloutProgressing {
			followed = d.To
		}
		ended = d.State != rolloutProgressing
		if d.Line == last.Line && d.State == last.State {
			return ended, nil
		}
		last = d
		return ended, c.printRollout(out, d, true)
	})
	switch {
	case errors.Is(err, context.DeadlineExceeded) || connect.CodeOf(err) == connect.CodeDeadlineExceeded:
		return failf(exitTimeout, "agentctl rollout status "+agent, "agent %q: its release is open after %s", agent, timeout)
	case err != nil:
		return err
	case !ended:
		return answered(exitNo) // a person stopped the watch
	case last.State == rolloutHeld, followed > 0 && last.To != followed:
		return answered(exitNo)
	default:
		return nil
	}
}

// steerDoc is what retry or abort did.
type steerDoc struct {
	Agent         string `json:"agent"`
	Namespace     string `json:"namespace"`
	From          int64  `json:"from"`
	To            int64  `json:"to"`
	StoreRevision int64  `json:"storeRevision"`
	DryRun        bool   `json:"dryRun"`
}

// steerCmd is a command on one agent's release that moves it from one revision to another.
func (c *cli) steerCmd(cmd *cobra.Command, what string, ask func(ctx context.Context, cl *client, m *mutation, d *steerDoc) error) *cobra.Command {
	var out output
	var m mutation
	cmd.Args, cmd.ValidArgsFunction = args(1, 1), c.completer(kindAgent)
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		cl, dry, err := c.begin(out, &m)
		if err != nil {
			return err
		}
		d := steerDoc{Agent: strings.TrimPrefix(names[0], "agent/"), Namespace: cl.namespace, DryRun: dry}
		if err := ask(cmd.Context(), cl, &m, &d); err != nil {
			return fmt.Errorf("%s %s: %w", cmd.Name(), d.Agent, err)
		}
		if out.machine() {
			return printDoc(c.env.Stdout, out, d)
		}
		line := fmt.Sprintf("agent/%s %s: revision %d -> %d", d.Agent, what, d.From, d.To)
		switch {
		case out == "name" || c.flags.quiet:
			line = "agent/" + d.Agent
		case dry:
			line += " (dry run)"
		}
		_, err = fmt.Fprintln(c.env.Stdout, line)
		return err
	}
	m.bind(cmd)
	out.bind(cmd)
	return cmd
}

func (c *cli) rolloutRetryCmd() *cobra.Command {
	return c.steerCmd(&cobra.Command{
		Use: "retry AGENT", Short: "Offer what was refused once more", Example: "  agentctl rollout retry mse-nacos-helper --message \"the server is back\"",
		Long: "Reopens the held revision, else the last refused one, and drops its records.",
	}, "offered again", func(ctx context.Context, cl *client, m *mutation, d *steerDoc) error {
		resp, err := cl.rollouts.Retry(ctx, connect.NewRequest(&releasev1.RetryRequest{Namespace: cl.namespace, Agent: d.Agent, Message: m.message, CheckRevision: m.check(), DryRun: d.DryRun}))
		if err != nil {
			return err
		}
		d.From, d.To, d.StoreRevision = resp.Msg.GetFrom(), resp.Msg.GetTo(), resp.Msg.GetStoreRevision()
		return nil
	})
}

func (c *cli) rolloutAbortCmd() *cobra.Command {
	return c.steerCmd(&cobra.Command{
		Use: "abort AGENT", Short: "Close the open release: what is stable counts for all", Example: "  agentctl rollout abort mse-nacos-helper --message \"wrong branch\"",
	}, "aborted", func(ctx context.Context, cl *client, m *mutation, d *steerDoc) error {
		resp, err := cl.rollouts.Abort(ctx, connect.NewRequest(&releasev1.AbortRequest{Namespace: cl.namespace, Agent: d.Agent, Message: m.message, CheckRevision: m.check(), DryRun: d.DryRun}))
		if err != nil {
			return err
		}
		d.From, d.To, d.StoreRevision = resp.Msg.GetFrom(), resp.Msg.GetTo(), resp.Msg.GetStoreRevision()
		return nil
	})
}

// unholdDoc is what unhold let go.
type unholdDoc struct {
	Agent         string    `json:"agent"`
	Namespace     string    `json:"namespace"`
	Pin           string    `json:"pin"`
	Vetoes        []vetoDoc `json:"vetoes"`
	StoreRevision int64     `json:"storeRevision"`
	DryRun        bool      `json:"dryRun"`
}

func (c *cli) rolloutUnholdCmd() *cobra.Command {
	var out output
	var m mutation
	cmd := &cobra.Command{
		Use: "unhold AGENT", Short: "Let go of a pin and of shared versions that were held back", Example: "  agentctl rollout unhold mse-nacos-helper",
		Args: args(1, 1), ValidArgsFunction: c.completer(kindAgent),
		RunE: func(cmd *cobra.Command, names []string) error {
			cl, dry, err := c.begin(out, &m)
			if err != nil {
				return err
			}
			agent := strings.TrimPrefix(names[0], "agent/")
			resp, err := cl.rollouts.Unhold(cmd.Context(), connect.NewRequest(&releasev1.UnholdRequest{Namespace: cl.namespace, Agent: agent, Message: m.message, CheckRevision: m.check(), DryRun: dry}))
			if err != nil {
				return fmt.Errorf("unhold %s: %w", agent, err)
			}
			d := unholdDoc{Agent: agent, Namespace: cl.namespace, Pin: resp.Msg.GetPin(), Vetoes: toVetoes(resp.Msg.GetVetoes()), StoreRevision: resp.Msg.GetStoreRevision(), DryRun: dry}
			if out.machine() {
				return printDoc(c.env.Stdout, out, d)
			}
			if out == "name" || c.flags.quiet {
				_, err := fmt.Fprintln(c.env.Stdout, "agent/"+agent)
				return err
			}
			var ended []string
			if d.Pin != "" {
				ended = append(ended, "the pin to "+d.Pin)
			}
			for _, v := range d.Vetoes {
				ended = append(ended, fmt.Sprintf("%s at %s", v.Head, v.Use))
			}
			line := "agent/" + agent + " no longer held: " + strings.Join(ended, ", ")
			if dry {
				line += " (dry run)"
			}
			_, err = fmt.Fprintln(c.env.Stdout, line)
			return err
		},
	}
	m.bind(cmd)
	out.bind(cmd)
	return cmd
}
