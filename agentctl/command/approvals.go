package command

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// approvalDoc is one suspended run as an instance's REST door tells it.
type approvalDoc struct {
	ID        string    `json:"id"`
	Namespace string    `json:"namespace"`
	Agent     string    `json:"agent"`
	Principal string    `json:"principal"` // who asked
	Session   string    `json:"session"`
	Door      string    `json:"door"`
	Kind      string    `json:"kind"` // approval, input or auth
	State     string    `json:"state"`
	Calls     []callDoc `json:"calls"`
	Question  string    `json:"question,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	ExpiresAt time.Time `json:"expiresAt"`
	// Config is the one that asked, ResumedConfig the one that went on.
	Config          string        `json:"config"`
	Revision        int64         `json:"revision"`
	ResumedConfig   string        `json:"resumedConfig,omitempty"`
	ResumedRevision int64         `json:"resumedRevision,omitempty"`
	Decisions       []decisionDoc `json:"decisions"`
	Result          *outcomeDoc   `json:"result,omitempty"`
	Next            string        `json:"next,omitempty"` // the run as which it waits again
	Instances       []string      `json:"instances"`      // that told it; several where they share memory
}

// callDoc is one tool call of a suspended run.
type callDoc struct {
	ID        string          `json:"id"`
	Tool      string          `json:"tool"`
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
	Why       string          `json:"why,omitempty"`
	Needs     bool            `json:"needs"` // it is this call that needs consent
}

type decisionDoc struct {
	By        string                     `json:"by"`
	At        time.Time                  `json:"at"`
	Approved  bool                       `json:"approved"`
	Reason    string                     `json:"reason,omitempty"`
	Arguments map[string]json.RawMessage `json:"arguments,omitempty"` // by call, where they were changed
}

type outcomeDoc struct {
	Text    string          `json:"text,omitempty"`
	Code    string          `json:"code,omitempty"`
	Message string          `json:"message,omitempty"`
	Usage   json.RawMessage `json:"usage,omitempty"`
}

// stateWaiting is the state of a run that nobody has decided about yet.
const stateWaiting = "waiting"

// betweenLooks is how often `approvals list -w` and `--wait` ask again.
const betweenLooks = time.Second

func (c *cli) approvalsCmd() *cobra.Command {
	return group("approvals", "Runs that wait for a person's consent to a tool call",
		"  agentctl approvals list\n  agentctl approvals approve 1f0c... --reason \"checked the order\"\n  agentctl approvals deny 1f0c... --reason \"not ours\"",
		c.approvalsListCmd(), c.decideCmd("approve", "Let a suspended run make its calls"), c.decideCmd("deny", "Refuse the calls of a suspended run: the agent is told and goes on without them"))
}

func (c *cli) approvalsListCmd() *cobra.Command {
	var out output
	var key agentKey
	var all, watch bool
	cmd := &cobra.Command{
		Use: "list [AGENT]", Short: "Which runs wait, for which calls, until when",
		Example: "  agentctl approvals list\n  agentctl approvals list support-desk --all -o json\n  agentctl approvals list -w",
		Long: `Asks the instances of the agent, or of every agent of the namespace. A run that several instances tell, because they share memory, is
printed once. Instances that can't be asked are named on standard error.`,
		Args: args(0, 1), ValidArgsFunction: c.completer(kindAgent),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := out.check(); err != nil {
				return err
			}
			agent := ""
			if len(names) == 1 {
				agent = strings.TrimPrefix(names[0], "agent/")
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			d, err := c.desk(cl, key)
			if err != nil {
				return err
			}
			if watch {
				return c.watchApprovals(cmd.Context(), d, out, agent, all)
			}
			docs, _, err := d.list(cmd.Context(), agent, all)
			if err != nil {
				return err
			}
			t := approvalTable()
			t.empty = "No run waits for approval."
			for _, doc := range docs {
				t.addApproval(c, doc)
			}
			return c.print(out, docs, t)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "those that were decided or expired too")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on: print every new run and every change (with -o json one document a line)")
	key.bind(cmd)
	out.bind(cmd)
	return cmd
}

func approvalTable() table {
	return table{head: []string{"ID", "AGENT", "STATE", "CALLS", "ASKED", "EXPIRES", "SESSION", "PRINCIPAL", "CONFIG", "WHY", "INSTANCES"}, from: 6}
}

func (t *table) addApproval(c *cli, d approvalDoc) {
	var why []string
	for _, call := range d.Calls {
		if call.Needs && call.Why != "" && !slices.Contains(why, call.Why) {
			why = append(why, call.Why)
		}
	}
	expires := "-"
	if d.State == stateWaiting {
		expires = c.until(d.ExpiresAt)
	}
	t.add("approval/"+d.ID, d.ID, d.Agent, d.State, d.what(), c.ago(d.CreatedAt), expires, dash(d.Session), dash(d.Principal), d.Config, dash(strings.Join(why, "; ")), strings.Join(d.Instances, ","))
}

// what tells what the run wants to do.
func (d approvalDoc) what() string {
	var calls []string
	for _, call := range d.Calls {
		if call.Needs {
			calls = append(calls, call.Tool+" "+string(call.Arguments))
		}
	}
	return cut(first(strings.Join(calls, ", "), d.Question, d.Kind), 100)
}

// cut shortens a text for a table.
func cut(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-3]) + "..."
}

// watchApprovals prints what waits and each change until it is stopped. An instance that can't be asked for a while is tried on.
func (c *cli) watchApprovals(ctx context.Context, d *desk, out output, agent string, all bool) error {
	seen := map[string]string{} // id -> state
	for begun := false; ; begun = true {
		docs, whole, err := d.list(ctx, agent, true)
		switch {
		case ctx.Err() != nil:
			return nil // by a person's signal
		case err != nil && !begun:
			return err
		}
		held := map[string]string{}
		for _, doc := range slices.Backward(docs) { // oldest first
			held[doc.ID] = doc.State
			if seen[doc.ID] == doc.State || (!begun && !all && doc.State != stateWaiting) {
				continue
			}
			if err := c.printApproval(out, doc); err != nil {
				return err
			}
		}
		if whole {
			seen = held
		} else {
			maps.Copy(seen, held)
		}
		timer := time.NewTimer(betweenLooks)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// printApproval prints one run as a line.
func (c *cli) printApproval(out output, d approvalDoc) error {
	if out.machine() {
		return printLine(c.env.Stdout, d)
	}
	if out == "name" || c.flags.quiet {
		_, err := fmt.Fprintln(c.env.Stdout, "approval/"+d.ID)
		return err
	}
	_, err := fmt.Fprintf(c.env.Stdout, "%s   %s   %s   %s   %s\n", c.now().Format("15:04:05"), oneLine(d.ID), oneLine(d.Agent), oneLine(d.State), oneLine(d.what()))
	return err
}
