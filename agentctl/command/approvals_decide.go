package command

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// decision is what a person decided about a run.
type decision struct {
	verb      string // approve or deny
	id, agent string
	reason    string
	args      string // "": as the model asked
	wait      bool
	timeout   time.Duration
	key       agentKey
	out       output
}

func (c *cli) decideCmd(verb, short string) *cobra.Command {
	d := decision{verb: verb}
	cmd := &cobra.Command{
		Use: verb + " ID", Short: short,
		Example: "  agentctl approvals " + verb + " 1f0c52 --reason \"checked the order\" --wait",
		Long: `ID may be cut to its beginning, 6 characters or more, while the run waits. The run goes on by itself on the agent's current config; --wait
waits for its end and prints its answer. A run that was decided before, or has expired, is a conflict (exit code 4).`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, words []string) error {
			if err := d.out.check(); err != nil {
				return err
			}
			d.id = strings.TrimPrefix(words[0], "approval/")
			return c.decide(cmd.Context(), d)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.reason, "reason", "", "why; kept with the run, and a refusal's is told to the agent")
	f.StringVar(&d.agent, "agent", "", "ask this agent's instances only")
	f.BoolVar(&d.wait, "wait", false, "wait for the run's end and print its answer")
	f.DurationVar(&d.timeout, "timeout", 10*time.Minute, "with --wait: give up after it")
	if verb == "approve" {
		f.StringVar(&d.args, "args", "", "other arguments for the call, a JSON object; where several calls wait, an object of them by the call's id")
		cmd.Example += "\n  agentctl approvals approve 1f0c52 --args '{\"order\": \"A-7\", \"amount\": 20}'"
	}
	_ = cmd.RegisterFlagCompletionFunc("agent", c.completer(kindAgent))
	d.key.bind(cmd)
	d.out.bind(cmd)
	return cmd
}

func (c *cli) decide(ctx context.Context, in decision) error {
	cl, err := c.connect()
	if err != nil {
		return err
	}
	desk, err := c.desk(cl, in.key)
	if err != nil {
		return err
	}
	run, at, err := desk.find(ctx, strings.TrimPrefix(in.agent, "agent/"), in.id)
	if err != nil {
		return err
	}
	edited, err := editedArguments(in.args, run)
	if err != nil {
		return err
	}
	body := struct {
		Decision  string                     `json:"decision"`
		Reason    string                     `json:"reason,omitempty"`
		Arguments map[string]json.RawMessage `json:"arguments,omitempty"`
	}{in.verb, in.reason, edited}
	path := "/" + url.PathEscape(run.ID)
	var doc approvalDoc
	if err := desk.ask(ctx, at, http.MethodPost, path, body, &doc); err != nil {
		return err
	}
	if in.wait {
		c.note("%s: %s; waiting for its end", doc.ID, past(in.verb))
		if doc, err = desk.await(ctx, at, path, in.timeout); err != nil {
			return err
		}
	}
	doc.Instances = []string{at.ID}
	return c.printDecided(in, doc)
}

// printDecided prints what became of the run.
func (c *cli) printDecided(in decision, doc approvalDoc) error {
	failed := in.wait && doc.Result != nil && doc.Result.Code != ""
	switch {
	case in.out.machine():
		if err := printDoc(c.env.Stdout, in.out, doc); err != nil {
			return err
		}
	case in.out == "name" || c.flags.quiet:
		_, _ = fmt.Fprintln(c.env.Stdout, "approval/"+doc.ID)
	case failed: // said on stderr
	case in.wait && doc.Next != "":
		_, _ = fmt.Fprintf(c.env.Stdout, "%s: %s; it waits again as %s\n", oneLine(doc.ID), past(in.verb), oneLine(doc.Next))
	case in.wait && doc.Result != nil:
		_, _ = fmt.Fprintln(c.env.Stdout, doc.Result.Text)
	default:
		_, _ = fmt.Fprintf(c.env.Stdout, "%s: %s (%s)\n", oneLine(doc.ID), past(in.verb), oneLine(doc.what()))
	}
	if failed {
		return failf(exitFailure, "", "the run went on and failed: %s (%s)", doc.Result.Message, doc.Result.Code)
	}
	return nil
}

func past(verb string) string {
	if verb == "deny" {
		return "denied"
	}
	return "approved"
}

// await asks until the run has ended. An instance that is gone for a moment is asked on.
func (d *desk) await(ctx context.Context, at deskAt, path string, timeout time.Duration) (approvalDoc, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var doc approvalDoc
	for {
		var now approvalDoc
		err := d.ask(ctx, at, http.MethodGet, path, nil, &now)
		switch {
		case err == nil && now.State != "running" && now.State != stateWaiting:
			return now, nil
		case err == nil:
			doc = now
		case exitCode(err) != exitUnreachable && exitCode(err) != exitTimeout:
			return doc, err
		}
		timer := time.NewTimer(betweenLooks / 4)
		select {
		case <-ctx.Done():
			timer.Stop()
			return doc, failf(exitTimeout, "agentctl approvals list --all", "the run is not at its end after %s; it goes on", timeout)
		case <-timer.C:
		}
	}
}

// editedArguments reads --args for a run: by call, or the arguments of the one call that waits.
func editedArguments(text string, run approvalDoc) (map[string]json.RawMessage, error) {
	if text == "" {
		return nil, nil
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &given); err != nil {
		return nil, failf(exitUsage, "", "--args is not a JSON object: %w", err)
	}
	var need []string
	for _, call := range run.Calls {
		if call.Needs {
			need = append(need, call.ID)
		}
	}
	byCall := len(given) > 0
	for id := range given {
		byCall = byCall && slices.Contains(need, id)
	}
	switch {
	case byCall:
		return given, nil
	case len(need) == 1:
		return map[string]json.RawMessage{need[0]: json.RawMessage(text)}, nil
	default:
		return nil, failf(exitUsage, "", "--args: %d calls wait; give an object of arguments by call: %s", len(need), strings.Join(need, ", "))
	}
}
