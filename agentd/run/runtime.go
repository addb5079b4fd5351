// Package run performs a request on one immutable Runtime: it takes the Runtime once, steps the engine, performs its effects
// (model calls, tool calls, memory) and emits output to the door that asked.
package run

import (
	"time"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/tokens"
)

// Runtime is one config made live: everything a request uses. It is immutable; Tools is the one part that moves within a config
// (a lost server, a switched-off tool: semantics.md 6 and 9).
type Runtime struct {
	Namespace     string
	Agent         string
	Revision      int64
	Config        string // such as "8-3f2a91c4"
	PromptKey     string
	PromptVersion string
	System        string // the rendered prompt
	Model         model.Model
	ModelName     string
	Tools         tool.Set
	Memory        memory.Memory   // nil: none
	Sessions      memory.Sessions // nil: sessions have no order, and nobody sees them
	// MemoryFail refuses requests of sessions while the memory is gone; else they are answered without it (Turn.Stateless).
	MemoryFail bool
	// Compact shortens a session by the model after each answer (compressionStrategy summarize), in the background.
	Compact bool
	// ToolPayload is how many bytes a call's arguments and result may have together to be remembered; 0: none are.
	ToolPayload int
	// Calibrator learns the model's own count of tokens; nil: estimates stay as they are.
	Calibrator    *tokens.Calibrator
	Pending       pending.Store // nil: nothing can be suspended, and what would have to be fails
	Approval      *Approval     // nil: no tool needs consent
	Tasks         task.Store    // nil: the A2A door keeps them in the process
	MaxIterations int
	// WallTime bounds one request, its wait for its session's turn included; default 10 minutes. ToolCalls, Tokens, CostUSD and SameCall
	// bound it likewise, 0: no limit of their own.
	WallTime  time.Duration
	ToolCalls int
	Tokens    int64
	CostUSD   float64
	SameCall  int
	// Concurrency bounds requests at a time; one more is refused. 0: no limit.
	Concurrency int
	// Closed are the doors that the spec switched off (expose).
	Closed   []Door
	Inbound  Inbound
	Builtins []string // names of the built-in tools that requests with Builtins are offered
	A2A      A2A
}

// Approval says which tool calls need a person's consent.
type Approval struct {
	// Needs says whether a call does, and why. It is asked for each call of a round, from many goroutines.
	Needs   func(server, tool string, args map[string]any, session, principal string) (why string, needed bool)
	Timeout time.Duration // how long consent, or an answer to a question, is waited for; default 1 h
}

// DefaultPendingTimeout is how long a suspended run waits where the spec says nothing.
const DefaultPendingTimeout = time.Hour

// Inbound says who may call the doors and how much.
type Inbound struct {
	Keys      []InboundKey // none: everybody, on loopback only
	PerMinute int          // requests of one caller; 0: no limit
	Burst     int
	MaxBody   int64    // bytes of one request; 0: the door's own bound
	Origins   []string // that CORS lets in; "*" is every one
}

// InboundKey is one caller. Value gives the key as it is now, which may be the zero Value: then nobody is that caller.
type InboundKey struct {
	Name     string
	Value    func() secret.Value
	Approver bool
}

// A2A are the A2A door's settings and what its card says.
type A2A struct {
	DisplayName string
	Description string
	Version     string
	Skills      []Skill
	V03         bool
	Streaming   bool
	Push        bool
	SigningKey  func() secret.Value // PEM; nil: the card isn't signed
}

// Skill is one entry of the card.
type Skill struct {
	ID          string
	Name        string
	Description string
	Tags        []string
	Examples    []string
}

// Door names a way in that a spec can switch off.
type Door string

// The doors, as expose names them.
const (
	DoorOpenAI Door = "openai"
	DoorREST   Door = "rest"
	DoorMCP    Door = "mcp"
	DoorA2A    Door = "a2a"
)

// Source hands out the current Runtime. release must be called once when the request ended; the set drains until then. The error
// is of package errs (Unavailable with the reason) while there is nothing to serve.
type Source interface {
	Acquire() (rt *Runtime, release func(), err error)
}

// Looker is a Source that can be looked at without a request: what only reads settings or lists must not count among the requests that
// limits.concurrency bounds, or nobody could cancel what fills it.
type Looker interface {
	Look() (rt *Runtime, release func(), err error)
}

// look gives the current Runtime to who makes no request of it.
func (r *Runner) look() (*Runtime, func(), error) {
	if l, ok := r.cfg.Source.(Looker); ok {
		return l.Look()
	}
	return r.cfg.Source.Acquire()
}
