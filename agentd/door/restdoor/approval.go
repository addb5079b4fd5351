package restdoor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/errs"
)

// decisionRequest is the body of POST /api/v1/approvals/{id}.
type decisionRequest struct {
	Decision  string                     `json:"decision"` // approve or deny
	Reason    string                     `json:"reason"`
	Arguments map[string]json.RawMessage `json:"arguments"` // by call id: other arguments than the model asked for
}

// maxReason bounds a decision's reason, in bytes.
const maxReason = 4096

// shown is a run as people see it.
func shown(p pending.Run) pending.Run {
	p.Engine = nil
	for i, c := range p.Calls {
		if len(c.Arguments) > 0 && !json.Valid(c.Arguments) {
			p.Calls = slices.Clone(p.Calls)
			p.Calls[i].Arguments = asJSON(string(c.Arguments))
		}
	}
	return p
}

func refuseCaller(w http.ResponseWriter) {
	writeError(w, http.StatusForbidden, Fault{Code: "not_approver", Message: "only an approver may do this (approver: true at a key of expose.auth.keys in the agent's spec)"})
}

func (d *Door) approvals(w http.ResponseWriter, r *http.Request) {
	d.stamp(w)
	if !front.CallerOf(r.Context()).Approver {
		refuseCaller(w)
		return
	}
	filter, fault := filterOf(r)
	if fault != nil {
		writeError(w, fault.status, fault.Fault)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	runs, err := d.cfg.Runner.Pending(ctx, filter)
	if err != nil {
		d.fail(w, err)
		return
	}
	out := make([]pending.Run, len(runs))
	for i, p := range runs {
		out[i] = shown(p)
	}
	writeJSON(w, http.StatusOK, map[string]any{"approvals": out})
}

// filterOf reads ?state=, by default waiting, and ?limit=.
func filterOf(r *http.Request) (pending.Filter, *inputError) {
	n, fault := limit(r)
	f := pending.Filter{Limit: n}
	if fault != nil {
		return f, fault
	}
	asked := r.URL.Query().Get("state")
	switch asked {
	case "":
		f.States = []pending.State{pending.Waiting}
	case "all":
	default:
		for one := range strings.SplitSeq(asked, ",") {
			state := pending.State(one)
			if !slices.Contains([]pending.State{pending.Waiting, pending.Running, pending.Done, pending.Failed, pending.Denied, pending.Expired}, state) {
				return f, bad("state", "state: %q (waiting, running, done, failed, denied, expired by comma, or all)", one)
			}
			f.States = append(f.States, state)
		}
	}
	return f, nil
}

// find gives the run of the path to its caller or an approver. Others are told that it isn't there.
func (d *Door) find(ctx context.Context, r *http.Request) (pending.Run, error) {
	p, err := d.cfg.Runner.PendingRun(ctx, r.PathValue("id"))
	if err != nil {
		return p, err
	}
	if c := front.CallerOf(r.Context()); !c.Approver && c.Principal != p.Principal {
		return p, errs.New(errs.NotFound, "there is no suspended run %q", r.PathValue("id"))
	}
	return p, nil
}

func (d *Door) approval(w http.ResponseWriter, r *http.Request) {
	d.stamp(w)
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	p, err := d.find(ctx, r)
	if err != nil {
		d.fail(w, err)
		return
	}
	writeJSON(w, http.StatusOK, shown(p))
}

// decide takes a decision. The run goes on by itself: who wants to know what comes of it asks for it again.
func (d *Door) decide(w http.ResponseWriter, r *http.Request) {
	d.stamp(w)
	caller := front.CallerOf(r.Context())
	if !caller.Approver {
		refuseCaller(w)
		return
	}
	var in decisionRequest
	fault := d.body(w, r, &in)
	if fault == nil {
		fault = in.check()
	}
	if fault != nil {
		writeError(w, fault.status, fault.Fault)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	id := r.PathValue("id")
	decision := run.Decision{By: caller.Principal, Approved: in.Decision == "approve", Reason: in.Reason, Arguments: in.Arguments}
	if err := d.cfg.Runner.DecideAndRun(ctx, id, decision); err != nil {
		d.fail(w, err)
		return
	}
	p, err := d.cfg.Runner.PendingRun(ctx, id)
	if err != nil {
		d.fail(w, err)
		return
	}
	writeJSON(w, http.StatusAccepted, shown(p))
}

func (in *decisionRequest) check() *inputError {
	switch {
	case in.Decision != "approve" && in.Decision != "deny":
		return bad("decision", "decision: %q (approve or deny)", in.Decision)
	case in.Decision == "deny" && len(in.Arguments) > 0:
		return bad("arguments", "arguments: only who approves may change them")
	case len(in.Reason) > maxReason:
		return bad("reason", "reason: longer than %d bytes", maxReason)
	}
	for id, args := range in.Arguments {
		if len(args) == 0 || args[0] != '{' {
			return bad("arguments", "arguments: those of call %s must be a JSON object", fmt.Sprintf("%.64q", id))
		}
	}
	return nil
}

// abandon ends a run that waits: its caller doesn't want it any more, or an approver clears it away. The session is free again.
func (d *Door) abandon(w http.ResponseWriter, r *http.Request) {
	d.stamp(w)
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	p, err := d.find(ctx, r)
	if err == nil {
		err = d.cfg.Runner.Abandon(ctx, p.ID, front.CallerOf(r.Context()).Principal, "abandoned")
	}
	if err != nil {
		d.fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
