// Package run performs a request on one immutable Runtime: it takes the Runtime once, steps the engine, performs its effects
// (model calls, tool calls, memory) and emits output to the door that asked.
package run

import (
	"time"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/tool"
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
	Memory        memory.Memory
	MaxIterations int
	// WallTime bounds one request, default 10 minutes; ToolCalls and Tokens likewise, 0: no limit of their own.
	WallTime  time.Duration
	ToolCalls int
	Tokens    int64
	// Concurrency bounds requests at a time; one more is refused. 0: no limit.
	Concurrency int
	// Closed are the doors that the spec switched off (expose).
	Closed []Door
}

// Door names a way in that a spec can switch off.
type Door string

// DoorOpenAI is expose.openai.
const DoorOpenAI Door = "openai"

// Source hands out the current Runtime. release must be called once when the request ended; the set drains until then. The error
// is of package errs (Unavailable with the reason) while there is nothing to serve.
type Source interface {
	Acquire() (rt *Runtime, release func(), err error)
}
