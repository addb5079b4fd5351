package run

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/errs"
)

// DefaultWallTime bounds a request whose Runtime sets none.
const DefaultWallTime = 10 * time.Minute

// Config is what a Runner needs. Source is required.
type Config struct {
	Source   Source
	Builtin  Builtin              // nil: there are no built-in tools
	Instance string               // for spans, and the owner of a run that goes on
	Tracer   trace.TracerProvider // nil: no spans
	Log      *slog.Logger         // nil: none
	Now      func() time.Time     // nil: the wall clock; for what is written into suspended runs
}

// Builtin is the built-in tools.
type Builtin interface {
	// Specs describes those of the names that exist, in the order of the names.
	Specs(names []string) []tool.Spec
	// Call performs a call; it does no I/O. Its error is an *tool.ArgumentsError, or the model is told of it.
	Call(name string, args json.RawMessage) (engine.ToolResult, error)
}

// Runner runs requests, any number side by side.
type Runner struct {
	cfg      Config
	tracer   trace.Tracer
	inFlight atomic.Int64
	ledger   ledger
	works    works
	places   chan struct{} // of decided runs in the background
	compacts compacts

	followers followers
}

// Request is what a door was asked.
type Request struct {
	ID        string // what a session remembers it by, once; "": a random one
	Door      Door   // through which it came
	Principal string // who asks; "" where the door knows nobody
	Session   string // "": stateless, the messages are the whole context
	// Messages as the caller sent them. In a session only those after the last assistant message are new. System messages are
	// context beside the agent's own prompt, never in its place, and are not remembered.
	Messages []engine.Message
	Stream   bool
	Stop     []string
	// Metadata is passed on to a model that wants it; "private" with the value "true" sets Private.
	Metadata map[string]string
	Private  bool // recalls but is not remembered
	Format   model.ResponseFormat
	Builtins bool // offer the Runtime's built-in tools
	Steps    bool // emit a Delta with a Tool as each tool call begins and ends
}

func (r Request) private() bool { return r.Private || r.Metadata["private"] == "true" }

// New makes a Runner.
func New(cfg Config) (*Runner, error) {
	if cfg.Source == nil {
		return nil, errs.New(errs.Invalid, "run: no source")
	}
	if cfg.Tracer == nil {
		cfg.Tracer = noop.NewTracerProvider()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Runner{
		cfg: cfg, tracer: cfg.Tracer.Tracer("github.com/agentry/agentry/agentd/run"), ledger: ledger{usage: map[string]*Usage{}},
		works: works{cancels: map[int]context.CancelFunc{}}, places: make(chan struct{}, MaxBackground),
		compacts: compacts{busy: map[memory.Key]bool{}},
	}, nil
}

// InFlight gives the number of requests under way.
func (r *Runner) InFlight() int { return int(r.inFlight.Load()) }

// Serving says what would answer now.
type Serving struct {
	Agent    string
	Revision int64
	Config   string
	Open     bool // the asked door is not switched off
}

// Serving gives what would answer through door now; the error is an *Error that says why nothing would.
func (r *Runner) Serving(door Door) (Serving, error) {
	rt, release, err := r.look()
	if err != nil {
		return Serving{}, notServing(err)
	}
	defer release()
	return Serving{Agent: rt.Agent, Revision: rt.Revision, Config: rt.Config, Open: !slices.Contains(rt.Closed, door)}, nil
}

func notServing(err error) *Error {
	e := fail(errs.KindOf(err), CodeNotServing, err.Error())
	if e.kind == errs.Internal {
		e.kind = errs.Unavailable
	}
	return e
}

// Start takes the Runtime, which the request keeps to its end, waits for its session's turn and recalls the session. Its error is an *Error.
// A Turn must be run once with Do, which gives both back. Where Start fails after a Runtime was taken the Turn still names the config (and
// has no Do).
func (r *Runner) Start(ctx context.Context, req Request) (*Turn, error) {
	t, err := r.begin(req)
	if err != nil {
		return t, err
	}
	if slices.Contains(t.rt.Closed, req.Door) {
		return t, t.abandon(fail(errs.NotFound, CodeNotExposed, "the agent does not answer here (expose."+string(req.Door)+" is off)"))
	}
	t.split()
	if len(t.input) == 0 {
		return t, t.abandon(fail(errs.Invalid, CodeInvalid, "messages: no message to answer (in a session only messages after the last assistant message are new)"))
	}
	if fault := t.join(ctx); fault != nil {
		return t, t.abandon(fault)
	}
	return t, nil
}

// begin takes a Runtime for a request.
func (r *Runner) begin(req Request) (*Turn, error) {
	started := time.Now()
	rt, release, err := r.cfg.Source.Acquire()
	if err != nil {
		return nil, notServing(err)
	}
	t := &Turn{Agent: rt.Agent, Revision: rt.Revision, Config: rt.Config, runner: r, rt: rt, req: req, started: started}
	t.release = func() {
		if t.leave != nil {
			t.leave()
		}
		r.inFlight.Add(-1)
		release()
	}
	n := r.inFlight.Add(1)
	if rt.Concurrency > 0 && n > int64(rt.Concurrency) {
		return t, t.abandon(fail(errs.Exhausted, CodeConcurrency, "the agent answers as many requests as limits.concurrency allows; try again"))
	}
	return t, nil
}

// abandon ends a Turn that can't run.
func (t *Turn) abandon(e *Error) error {
	t.runner.ledger.add(t.Config, time.Since(t.started), engine.Usage{}, bad(e))
	t.release()
	return e
}

// bad reports whether an error counts as the agent's own.
func bad(e *Error) bool {
	switch e.kind {
	case errs.Invalid, errs.Canceled, errs.Conflict:
		return false
	case errs.NotFound:
		return e.Code != CodeNotFound
	default:
		return true
	}
}

// split sorts the caller's messages into context and input.
func (t *Turn) split() {
	var rest []engine.Message
	for _, m := range t.req.Messages {
		if m.Role == engine.System {
			t.context = append(t.context, m)
		} else {
			rest = append(rest, m)
		}
	}
	if t.req.Session != "" {
		for i, m := range slices.Backward(rest) {
			if m.Role == engine.Assistant {
				rest = rest[i+1:]
				break
			}
		}
	}
	t.input = slices.DeleteFunc(rest, func(m engine.Message) bool { return m.Role == engine.Assistant && m.Text == "" })
}

// newest gives the text of the newest user message.
func newest(messages []engine.Message) string {
	for _, m := range slices.Backward(messages) {
		if m.Role == engine.User {
			return m.Text
		}
	}
	return ""
}
