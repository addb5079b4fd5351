package engine

import "encoding/json"

// Interrupt is what a suspended request waits for.
type Interrupt string

// The interrupts.
const (
	ForApproval Interrupt = "approval"
	ForInput    Interrupt = "input"
	ForAuth     Interrupt = "auth"
)

// State is the rest of a suspended request, as JSON too. It holds no prompt: the request goes on with the prompt of its day.
type State struct {
	Kind       Interrupt      `json:"kind"`
	Question   string         `json:"question,omitempty"` // of input and auth
	Messages   []Message      `json:"messages"`           // all but the agent's own prompt, up to the model's wish
	Input      []Message      `json:"input"`
	Remember   bool           `json:"remember,omitempty"`
	Calls      []Asked        `json:"calls"`             // of the round, in the model's order
	Results    []ToolResult   `json:"results,omitempty"` // of the calls that have one
	Text       string         `json:"text,omitempty"`
	Usage      Usage          `json:"usage"`
	Iterations int            `json:"iterations"`
	Steps      []Step         `json:"steps,omitempty"`
	Tools      []Use          `json:"tools,omitempty"`
	Same       map[string]int `json:"same,omitempty"`
	Mending    bool           `json:"mending,omitempty"`
}

// Asked is a call of a suspended round.
type Asked struct {
	Call

	Needs bool   `json:"needs,omitempty"` // consent
	Why   string `json:"why,omitempty"`
}

// Decision is about one call of a suspended round.
type Decision struct {
	CallID    string
	Approved  bool
	Arguments string // instead of what the model wrote; "": as it wrote
	By        string
	Reason    string
}

// Use is one tool call with its result, to be remembered.
type Use struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
	Result    string `json:"result"`
	IsError   bool   `json:"isError,omitempty"`
}

// OutcomeKind is what a built-in tool does to the request that called it.
type OutcomeKind string

// The kinds of outcome.
const (
	InputRequired OutcomeKind = "input_required" // suspend: the caller's next message is the call's result
	AuthRequired  OutcomeKind = "auth_required"  // likewise
	Rejected      OutcomeKind = "rejected"       // finish by ByReject
	GivenUp       OutcomeKind = "failed"         // finish by ByGiveUp
	Reply         OutcomeKind = "reply"          // finish by ByAnswer, Lone
)

// Outcome is what a built-in tool does to the request that called it; Text is the question, the reason or the reply.
type Outcome struct {
	Kind OutcomeKind
	Text string
}

// Artifact is a thing that a tool made for the caller.
type Artifact struct {
	ID          string
	Name        string
	Description string
	Parts       []Part
	Append      bool // to the artifact of that ID
	Last        bool // nothing is appended any more
}

// Part is a piece of an Artifact: one of Text, Data, Bytes and URL.
type Part struct {
	Text      string
	Data      json.RawMessage
	Bytes     []byte
	URL       string
	MediaType string
	Filename  string
}
