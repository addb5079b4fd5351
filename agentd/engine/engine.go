// Package engine is the think-act loop as a pure machine: Step takes an event and gives the effects to perform. Package run performs
// them and steps back in; doors use its nouns. It does no I/O, reads no clock, starts no goroutine.
package engine

// Role of a message.
type Role string

// The roles.
const (
	System    Role = "system"
	User      Role = "user"
	Assistant Role = "assistant"
	Tool      Role = "tool"
)

// Message is one message of a conversation.
type Message struct {
	Role   Role    `json:"role"`
	Text   string  `json:"text,omitempty"`
	Images []Image `json:"images,omitempty"` // of a user
	Calls  []Call  `json:"calls,omitempty"`  // of an assistant
	CallID string  `json:"callId,omitempty"` // of a tool result
}

// Image is a picture in a user's message: an http(s) address or a data: URL. It is not remembered.
type Image struct {
	URL    string `json:"url"`
	Detail string `json:"detail,omitempty"` // "", auto, low or high
}

// Call is a model's wish to call a tool; Arguments is JSON as the model wrote it.
type Call struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// Usage counts tokens; Estimated is true when any part of it is.
type Usage struct {
	Input     int64
	Output    int64
	Estimated bool
	CostUSD   float64 `json:",omitempty"` // by the price table; 0 without one
}

func (u Usage) plus(v Usage) Usage {
	return Usage{Input: u.Input + v.Input, Output: u.Output + v.Output, Estimated: u.Estimated || v.Estimated, CostUSD: u.CostUSD + v.CostUSD}
}

// Total gives input and output tokens together.
func (u Usage) Total() int64 { return u.Input + u.Output }

// Config bounds one request. A zero ToolCalls, Tokens, CostUSD or SameCall: no limit of its own.
type Config struct {
	System        string
	MaxIterations int // model calls, at least 1
	ToolCalls     int
	Tokens        int64
	CostUSD       float64
	SameCall      int // the most times that one tool is called with the same arguments
	// ToolPayload is how many bytes a call's arguments and result may have together to be remembered; 0: none are.
	ToolPayload int
	// Approve says whether a call needs consent, and why. It is pure; nil: none does.
	Approve func(Call) (why string, needed bool)
}

// Event is something that happened.
type Event interface{ event() }

// The events.
type (
	// Request begins: what memory recalled, what the caller says beside (system messages) and what is new.
	Request struct {
		Recalled []Message
		Context  []Message
		Input    []Message
		// Remember asks for a Remember effect at the end.
		Remember bool
	}
	// Delta is a piece of the model's message as it streams.
	Delta struct{ Text, Reasoning string }
	// Answered is the model's whole message; its text came as deltas before.
	Answered struct {
		Calls        []Call
		Usage        Usage
		FinishReason string
	}
	// Failed says that the model call failed for good. Usage is of what had come until then.
	Failed struct {
		Code, Message string
		Usage         Usage
	}
	// ToolResult answers one call of CallTools. Malformed: the arguments did not fit, nothing ran.
	ToolResult struct {
		CallID    string
		Text      string
		IsError   bool
		Malformed bool
		Denied    bool       `json:",omitempty"` // nothing ran: consent was refused
		Outcome   *Outcome   `json:"-"`          // what the call does to the request; nil: nothing
		Artifacts []Artifact `json:"-"`          // for the caller
	}
	// Resume goes on with a suspended request, instead of Request. Decisions are those of an approval; Answer is the caller's of a question.
	Resume struct {
		State     State
		Decisions []Decision
		Answer    string
		Images    []Image // of the answer
	}
	// Deadline says that the request's wall time is over. Usage is of the model call that it cut off.
	Deadline struct{ Usage Usage }
	// Cancel says that nobody waits any more; Usage likewise.
	Cancel struct{ Usage Usage }
)

func (Request) event()    {}
func (Delta) event()      {}
func (Answered) event()   {}
func (Failed) event()     {}
func (ToolResult) event() {}
func (Deadline) event()   {}
func (Cancel) event()     {}
func (Resume) event()     {}

// Effect is something to do.
type Effect interface{ effect() }

// The effects.
type (
	// CallModel asks the model. Messages may be kept but not changed.
	CallModel struct {
		Iteration int // from 1
		Messages  []Message
	}
	// CallTools asks for these calls, side by side; each is answered by one ToolResult, in any order.
	CallTools struct{ Calls []Call }
	// Emit gives a piece of the answer to the caller.
	Emit struct {
		Text, Reasoning string
		Artifact        *Artifact
	}
	// Remember keeps these turns; only a request that ended by an answer is remembered. Tools are the calls on the way to the last turn that
	// are within Config.ToolPayload.
	Remember struct {
		Turns []Message
		Tools []Use
	}
	// Suspend keeps the request for later; Finish with BySuspend follows.
	Suspend struct{ State State }
	// Finish ends the request; nothing follows it.
	Finish struct{ Result Result }
)

func (CallModel) effect() {}
func (CallTools) effect() {}
func (Emit) effect()      {}
func (Remember) effect()  {}
func (Suspend) effect()   {}
func (Finish) effect()    {}

// End is how a request ended.
type End string

// The ends.
const (
	ByAnswer        End = "answer"
	ByMaxIterations End = "max_iterations"
	ByToolCalls     End = "budget_tool_calls"
	ByTokens        End = "budget_tokens"
	ByCost          End = "budget_cost"
	BySameCall      End = "budget_same_call"
	ByDeadline      End = "deadline"
	ByCancel        End = "canceled"
	ByFault         End = "fault"
	BySuspend       End = "suspended" // it waits for a person
	ByReject        End = "rejected"  // the model refused the request, by a built-in tool
	ByGiveUp        End = "gave_up"   // the model can't do it and says so, by a built-in tool
)

// Step is one tool call that was made, for telling what was done.
type Step struct {
	Tool    string
	IsError bool
}

// Result is what a request came to.
type Result struct {
	End          End
	Text         string // everything that was emitted
	FinishReason string // of the last model message
	Usage        Usage
	Iterations   int
	Steps        []Step
	Code         string // of a fault
	Message      string // for a person, where End is not ByAnswer
	Lone         bool   `json:",omitempty"` // the answer is a message of its own, no result of a task
}
