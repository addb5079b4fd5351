package run

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/internal/errs"
)

// storeTimeout bounds the writes about a suspended run that the caller's leaving does not stop.
const storeTimeout = 5 * time.Second

// kept is what a suspended run needs to go on: the engine's state and what of the request still matters.
type kept struct {
	State    engine.State         `json:"state"`
	Request  string               `json:"request"` // its ID
	Stop     []string             `json:"stop,omitempty"`
	Metadata map[string]string    `json:"metadata,omitempty"`
	Format   model.ResponseFormat `json:"format,omitzero"`
	Builtins bool                 `json:"builtins,omitempty"`
}

// suspend puts the run into the store; what it gives ends the request as failed.
func (t *Turn) suspend(ctx context.Context, s engine.State) *Error {
	if t.rt.Pending == nil {
		return fail(errs.Unavailable, CodePendingStore, "the request needs a person's consent or answer, and this agent has nowhere to keep it meanwhile")
	}
	state, err := json.Marshal(kept{State: s, Request: t.id(), Stop: t.req.Stop, Metadata: t.req.Metadata, Format: t.req.Format, Builtins: t.req.Builtins})
	if err != nil {
		return fail(errs.Internal, CodePanic, "the run's state can't be written down: "+err.Error())
	}
	now := t.runner.cfg.Now().UTC().Truncate(time.Millisecond)
	timeout := DefaultPendingTimeout
	if t.rt.Approval != nil && t.rt.Approval.Timeout > 0 {
		timeout = t.rt.Approval.Timeout
	}
	w := pending.Run{
		ID: newID(), Namespace: t.rt.Namespace, Agent: t.rt.Agent, Principal: t.req.Principal, Session: t.req.Session, Door: string(t.req.Door),
		Kind: pending.Kind(s.Kind), State: pending.Waiting, Question: s.Question, CreatedAt: now, ExpiresAt: now.Add(timeout),
		Config: t.Config, Revision: t.Revision, Engine: state,
	}
	for _, c := range s.Calls {
		if s.Kind == engine.ForApproval && !hasResult(s, c.ID) {
			w.Calls = append(w.Calls, pending.Call{ID: c.ID, Tool: t.cleared[c.ID], Name: c.Name, Arguments: object(c.Arguments), Why: c.Why, Needs: c.Needs})
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	switch err := t.rt.Pending.Put(ctx, w); {
	case errs.Is(err, errs.Conflict):
		return fail(errs.Conflict, CodePending, err.Error())
	case errs.Is(err, errs.Exhausted):
		return fail(errs.Exhausted, CodePendingStore, err.Error())
	case err != nil:
		t.runner.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "suspend failed", slog.String("error", err.Error()))
		return fail(errs.Unavailable, CodePendingStore, "the request needs a person's consent or answer, and what keeps it meanwhile can't be reached; try again")
	}
	w.Version = 1
	w.Engine = nil
	t.Pending = &w
	t.runner.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "run suspended", slog.String("run", w.ID), slog.String("kind", string(w.Kind)), slog.String("config", w.Config))
	return nil
}

func hasResult(s engine.State, id string) bool {
	for _, r := range s.Results {
		if r.CallID == id {
			return true
		}
	}
	return false
}

// object gives arguments as JSON; the engine has seen that they are an object, or nothing.
func object(args string) json.RawMessage {
	if strings.TrimSpace(args) == "" {
		return json.RawMessage("{}")
	}
	return json.RawMessage(args)
}

// settle writes down what became of a run that was taken. It is tried again for a moment; a run that can't be written is failed by Sweep.
func (t *Turn) settle(ctx context.Context, res engine.Result, err error) {
	w := t.taken
	w.Engine, w.Owner = nil, ""
	w.State = pending.Done
	if len(w.Decisions) > 0 && w.Kind == pending.Approval && !w.Decisions[len(w.Decisions)-1].Approved {
		w.State = pending.Denied
	}
	w.Result = &pending.Outcome{Text: res.Text, Usage: pending.Usage{InputTokens: res.Usage.Input, OutputTokens: res.Usage.Output, CostUSD: res.Usage.CostUSD, Estimated: res.Usage.Estimated}}
	var e *Error
	switch {
	case errors.As(err, &e):
		w.State, w.Result.Code, w.Result.Message = pending.Failed, e.Code, e.Message
	case res.End == engine.BySuspend && t.Pending != nil:
		w.Next, w.Result.Code = t.Pending.ID, string(res.End)
	case res.End == engine.ByReject || res.End == engine.ByGiveUp:
		w.State, w.Result.Code, w.Result.Message = pending.Failed, string(res.End), res.Message
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	for {
		_, failure := t.rt.Pending.Update(ctx, w)
		if failure == nil || errs.Is(failure, errs.NotFound) {
			return
		}
		if errs.Is(failure, errs.Unavailable) || errs.Is(failure, errs.Timeout) {
			select {
			case <-time.After(200 * time.Millisecond):
				continue
			case <-ctx.Done():
			}
		}
		t.runner.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "a run's result was not written down", slog.String("run", w.ID), slog.String("error", failure.Error()))
		return
	}
}
