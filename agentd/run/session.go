package run

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/internal/errs"
)

// rememberTimeout bounds the write after an answer, which the caller's leaving does not stop.
const rememberTimeout = 5 * time.Second

// join enters the request's session and recalls it. A request without a session, or of an agent without memory, is stateless.
func (t *Turn) join(ctx context.Context) *Error {
	if t.req.Session == "" || t.rt.Memory == nil {
		return nil
	}
	if fault := t.enter(ctx); fault != nil || t.Stateless {
		return fault
	}
	if fault := t.waits(ctx); fault != nil || t.Stateless {
		return fault
	}
	q := memory.Query{Text: newest(t.input)}
	if t.rt.Calibrator != nil {
		q.Estimate = t.rt.Calibrator.Estimate
	}
	recalled, err := t.rt.Memory.Recall(ctx, t.key, q)
	if err != nil {
		return t.gone(ctx, "recall", err)
	}
	t.recalled = recollect(recalled.Turns)
	if recalled.Summary != "" {
		t.context = slices.Insert(t.context, 0, engine.Message{Role: engine.System, Text: "Summary of the conversation so far:\n" + recalled.Summary})
	}
	if recalled.Config != t.rt.Config {
		t.PreviousConfig = recalled.Config
	}
	t.remember = !t.req.private()
	return nil
}

// enter waits for the session's turn, which Do, or abandon, ends.
func (t *Turn) enter(ctx context.Context) *Error {
	t.key = memory.Key{Namespace: t.rt.Namespace, Agent: t.rt.Agent, Principal: t.req.Principal, Session: t.req.Session}
	if t.rt.Sessions == nil {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, t.deadline())
	defer cancel()
	leave, err := t.rt.Sessions.Enter(ctx, t.key)
	switch {
	case err == nil:
		t.leave = leave
		return nil
	case errs.Is(err, errs.Exhausted):
		return fail(errs.Exhausted, CodeSession, "too many requests of this session wait for their turn; try again")
	case errs.Is(err, errs.Timeout) && ctx.Err() != nil:
		return fail(errs.Timeout, CodeSession, "the session's other requests took too long")
	}
	return t.gone(ctx, "enter", err)
}

// waits refuses a request of a session that has a run that waits for a person.
func (t *Turn) waits(ctx context.Context) *Error {
	if t.rt.Pending == nil {
		return nil
	}
	runs, err := t.rt.Pending.List(ctx, pending.Filter{
		Namespace: t.key.Namespace, Agent: t.key.Agent, Principal: t.key.Principal, Session: t.key.Session, States: []pending.State{pending.Waiting}, Limit: 1,
	})
	if err != nil {
		return t.gone(ctx, "look for what waits", err)
	}
	if len(runs) == 0 {
		return nil
	}
	w := runs[0]
	if t.runner.cfg.Now().After(w.ExpiresAt) {
		_ = t.runner.expire(ctx, t.rt.Pending, w) // who was first doesn't matter
		return nil
	}
	e := fail(errs.Conflict, CodePending, fmt.Sprintf("the session waits: its run %s needs %s first, until %s", w.ID, needs(w.Kind), w.ExpiresAt.UTC().Format(time.RFC3339)))
	e.Pending = w.ID
	return e
}

func needs(k pending.Kind) string {
	switch k {
	case pending.Input:
		return "an answer to its question"
	case pending.Auth:
		return "the authorization that it asked for"
	case pending.Approval:
	}
	return "a decision about its tool calls"
}

// gone says what becomes of a request whose session's store failed: an error, or nothing but Stateless.
func (t *Turn) gone(ctx context.Context, what string, err error) *Error {
	kind := errs.KindOf(err)
	if errors.Is(ctx.Err(), context.Canceled) || kind == errs.Canceled {
		return fail(errs.Canceled, CodeCanceled, "the caller is gone")
	}
	t.runner.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "session store failed", slog.String("doing", what), slog.String("error", err.Error()))
	if !t.rt.MemoryFail && (kind == errs.Unavailable || kind == errs.Timeout) {
		t.Stateless, t.remember = true, false
		return nil
	}
	return fail(errs.Unavailable, CodeMemory, "the agent's memory can't be reached; try again")
}

// recollect makes messages of turns; what was called on the way to an answer comes in front of it.
func recollect(turns []memory.Turn) []engine.Message {
	out := make([]engine.Message, 0, len(turns))
	for i, turn := range turns {
		if len(turn.Tools) > 0 {
			calls := make([]engine.Call, len(turn.Tools))
			for j, u := range turn.Tools {
				calls[j] = engine.Call{ID: fmt.Sprintf("recalled_%d_%d", i, j), Name: u.Name, Arguments: u.Arguments}
			}
			out = append(out, engine.Message{Role: engine.Assistant, Calls: calls})
			for j, u := range turn.Tools {
				out = append(out, engine.Message{Role: engine.Tool, CallID: calls[j].ID, Text: orEmpty(u.Result)})
			}
		}
		out = append(out, engine.Message{Role: engine.Role(turn.Role), Text: turn.Text})
	}
	return out
}

func orEmpty(s string) string {
	if s == "" {
		return "(empty)" // an empty result is dropped on the wire
	}
	return s
}

// keep remembers an answered request, once: a write whose answer was lost is tried again under the same ID. What it gives ends the request
// as failed, although it was answered.
func (t *Turn) keep(ctx context.Context, e engine.Remember) *Error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rememberTimeout)
	defer cancel()
	x := memory.Exchange{ID: t.id(), Turns: make([]memory.Turn, len(e.Turns))}
	now := t.runner.cfg.Now().UTC()
	for i, m := range e.Turns {
		x.Turns[i] = memory.Turn{Role: string(m.Role), Text: m.Text, At: now}
		if m.Role == engine.Assistant {
			x.Turns[i].Config = t.Config
		}
	}
	for _, u := range e.Tools {
		last := &x.Turns[len(x.Turns)-1]
		last.Tools = append(last.Tools, memory.ToolUse{Name: u.Name, Arguments: u.Arguments, Result: u.Result, IsError: u.IsError})
	}
	err := t.rt.Memory.Remember(ctx, t.key, x)
	if errs.Is(err, errs.Unavailable) || errs.Is(err, errs.Timeout) {
		err = t.rt.Memory.Remember(ctx, t.key, x)
	}
	switch {
	case err == nil:
		t.remembered = true
		return nil
	case errs.Is(err, errs.Conflict): // another request took the session over: this answer would be out of order
		t.runner.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "remember refused", slog.String("error", err.Error()))
		return fail(errs.Conflict, CodeSession, "the session went on without this request, whose answer is not remembered; try again")
	}
	return t.gone(ctx, "remember", err)
}

// id gives what the session remembers the request by.
func (t *Turn) id() string {
	if t.req.ID == "" {
		t.req.ID = newID()
	}
	return t.req.ID
}

// newID gives 128 random bits in hex.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
