// Package task is the port to units of work that outlive the request which asked for them: their nouns, the pure machine that changes them
// event by event, and the store that keeps them and tells who watches. The A2A door is its user; intask keeps tasks in the process. What
// crosses a wire is translated at the door.
package task

import (
	"encoding/json"
	"time"
)

// State is where a task is.
type State string

// The states. Completed, Failed, Canceled and Rejected are terminal; InputRequired and AuthRequired are interrupted.
const (
	Submitted     State = "submitted"
	Working       State = "working"
	InputRequired State = "input_required"
	AuthRequired  State = "auth_required"
	Completed     State = "completed"
	Failed        State = "failed"
	Canceled      State = "canceled"
	Rejected      State = "rejected"
)

// Terminal reports whether nothing follows the state.
func (s State) Terminal() bool {
	return s == Completed || s == Failed || s == Canceled || s == Rejected
}

// Interrupted reports whether the task waits for somebody.
func (s State) Interrupted() bool { return s == InputRequired || s == AuthRequired }

// Role says who wrote a message.
type Role string

// The roles.
const (
	User  Role = "user"
	Agent Role = "agent"
)

// Kind says what a part is.
type Kind string

// The kinds.
const (
	Text Kind = "text"
	Raw  Kind = "raw" // bytes of a file
	URL  Kind = "url" // where a file is
	Data Kind = "data"
)

// Part is one piece of content. Kind says which of Text, Raw, URL and Data counts.
type Part struct {
	Kind      Kind            `json:"kind"`
	Text      string          `json:"text,omitempty"`
	Raw       []byte          `json:"raw,omitempty"`
	URL       string          `json:"url,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"` // any JSON value
	MediaType string          `json:"mediaType,omitempty"`
	Filename  string          `json:"filename,omitempty"`
	Metadata  json.RawMessage `json:"metadata,omitempty"` // a JSON object
}

// size is about what the part takes, in bytes.
func (p Part) size() int {
	return partOverhead + len(p.Text) + len(p.Raw) + len(p.URL) + len(p.Data) + len(p.MediaType) + len(p.Filename) + len(p.Metadata)
}

// Message is one turn of the conversation about a task.
type Message struct {
	ID               string          `json:"id"`
	Role             Role            `json:"role"`
	Parts            []Part          `json:"parts"`
	Metadata         json.RawMessage `json:"metadata,omitempty"`
	Extensions       []string        `json:"extensions,omitempty"`
	ReferenceTaskIDs []string        `json:"referenceTaskIds,omitempty"`
}

func (m Message) size() int {
	n := messageOverhead + len(m.ID) + len(m.Metadata)
	for _, p := range m.Parts {
		n += p.size()
	}
	return n
}

// Artifact is a result of a task.
type Artifact struct {
	ID          string          `json:"id"`
	Name        string          `json:"name,omitempty"`
	Description string          `json:"description,omitempty"`
	Parts       []Part          `json:"parts"`
	Metadata    json.RawMessage `json:"metadata,omitempty"`
}

func (a Artifact) size() int {
	n := messageOverhead + len(a.ID) + len(a.Name) + len(a.Description) + len(a.Metadata)
	for _, p := range a.Parts {
		n += p.size()
	}
	return n
}

// Status is a state and since when.
type Status struct {
	State   State     `json:"state"`
	Message *Message  `json:"message,omitempty"` // of the agent
	At      time.Time `json:"at"`                // UTC, whole milliseconds
}

// Task is what the outside sees. It is a value: what a store gives is the caller's to read, and nobody's to change.
type Task struct {
	ID        string          `json:"id"`
	ContextID string          `json:"contextId"`
	Status    Status          `json:"status"`
	Artifacts []Artifact      `json:"artifacts,omitempty"`
	History   []Message       `json:"history,omitempty"` // oldest first
	Metadata  json.RawMessage `json:"metadata,omitempty"`
}

// Size is about what the task takes, in bytes.
func (t Task) Size() int {
	n := taskOverhead + len(t.ID) + len(t.ContextID) + len(t.Metadata)
	if t.Status.Message != nil {
		n += t.Status.Message.size()
	}
	for _, a := range t.Artifacts {
		n += a.size()
	}
	for _, m := range t.History {
		n += m.size()
	}
	return n
}

// What the fields without content are reckoned at, in bytes.
const (
	partOverhead    = 96
	messageOverhead = 128
	taskOverhead    = 512
)

// At cuts a time to what a task keeps: UTC, whole milliseconds. Never a whole second: every wire then shows the milliseconds.
func At(t time.Time) time.Time {
	t = t.UTC().Truncate(time.Millisecond)
	if t.Nanosecond() == 0 {
		t = t.Add(time.Millisecond)
	}
	return t
}
