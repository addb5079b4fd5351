// Package pending is the port to suspended runs: requests that wait for a person, holding no config meanwhile. Package run puts them, takes
// them and writes down what became of them; inpending keeps them in the process, redispending for all instances; both pass the conformance
// suite in pendingtest.
package pending

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Kind is what a run waits for.
type Kind string

// The kinds.
const (
	Approval Kind = "approval" // somebody's consent to tool calls
	Input    Kind = "input"    // the caller's answer to a question
	Auth     Kind = "auth"     // the caller's credentials for something, out of band
)

// State is where a run is. Done, Failed, Denied and Expired are final.
type State string

// The states.
const (
	Waiting State = "waiting"
	Running State = "running" // it was decided about and goes on
	Done    State = "done"
	Failed  State = "failed"
	Denied  State = "denied" // the calls were denied; Result is what the model said to it
	Expired State = "expired"
)

// Final reports whether nothing follows the state.
func (s State) Final() bool { return s != Waiting && s != Running }

// Keep is how long a store holds a run after its ExpiresAt, if it has the room.
const Keep = 24 * time.Hour

// Ref names a run.
type Ref struct{ Namespace, Agent, ID string }

// Run is one suspended run. It is a value: a store keeps copies.
type Run struct {
	ID        string `json:"id"` // 128 random bits, hex
	Namespace string `json:"namespace"`
	Agent     string `json:"agent"`
	Principal string `json:"principal"` // who asked; "" where the door knows nobody
	Session   string `json:"session,omitempty"`
	Door      string `json:"door,omitempty"` // through which it was asked
	Kind      Kind   `json:"kind"`
	State     State  `json:"state"`
	// Calls are the tool calls of the round that waits, all of them: an approval covers the round as it is shown here.
	Calls    []Call `json:"calls,omitempty"`
	Question string `json:"question,omitempty"` // of input and auth
	// CreatedAt and ExpiresAt are UTC. A run that waits, or runs, beyond ExpiresAt is over (Runner.Sweep).
	CreatedAt time.Time `json:"createdAt"`
	ExpiresAt time.Time `json:"expiresAt"`
	// Config and Revision are those that the run was asked on, the others those that it went on with.
	Config          string     `json:"config"`
	Revision        int64      `json:"revision"`
	ResumedConfig   string     `json:"resumedConfig,omitempty"`
	ResumedRevision int64      `json:"resumedRevision,omitempty"`
	Decisions       []Decision `json:"decisions,omitempty"`
	Result          *Outcome   `json:"result,omitempty"` // of a final state
	Next            string     `json:"next,omitempty"`   // the run as which this one waits again
	// Engine is the engine's own state, for going on; what people are shown lacks it.
	Engine  json.RawMessage `json:"engine,omitempty"`
	Owner   string          `json:"owner,omitempty"` // the instance that runs it
	Version int64           `json:"version"`         // the store's, from 1; Update counts it up
}

// Ref gives the run's name.
func (r Run) Ref() Ref { return Ref{Namespace: r.Namespace, Agent: r.Agent, ID: r.ID} }

// Clone gives a copy that shares nothing with r.
func (r Run) Clone() Run {
	r.Calls = slices.Clone(r.Calls)
	for i := range r.Calls {
		r.Calls[i].Arguments = bytes.Clone(r.Calls[i].Arguments)
	}
	r.Decisions = slices.Clone(r.Decisions)
	for i, d := range r.Decisions {
		r.Decisions[i].Arguments = maps.Clone(d.Arguments)
		for id, args := range r.Decisions[i].Arguments {
			r.Decisions[i].Arguments[id] = bytes.Clone(args)
		}
	}
	if r.Result != nil {
		result := *r.Result
		r.Result = &result
	}
	r.Engine = bytes.Clone(r.Engine)
	return r
}

// Newest orders runs for a list: newest first, then by ID.
func Newest(a, b Run) int {
	return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
}

// Call is one tool call of the round that waits.
type Call struct {
	ID        string          `json:"id"`
	Tool      string          `json:"tool"` // server/tool
	Name      string          `json:"name"` // as the model knows it
	Arguments json.RawMessage `json:"arguments"`
	Why       string          `json:"why,omitempty"`
	Needs     bool            `json:"needs"` // it is this call that needs consent
}

// Decision is what somebody decided, or answered.
type Decision struct {
	By        string                     `json:"by"`
	At        time.Time                  `json:"at"`
	Approved  bool                       `json:"approved"`
	Reason    string                     `json:"reason,omitempty"`
	Arguments map[string]json.RawMessage `json:"arguments,omitempty"` // by call ID, where they were changed
}

// Outcome is what a run came to after it was decided about.
type Outcome struct {
	Text    string `json:"text,omitempty"`
	Code    string `json:"code,omitempty"` // of a failure
	Message string `json:"message,omitempty"`
	Usage   Usage  `json:"usage"` // of the whole run
}

// Usage counts a run's tokens and their price.
type Usage struct {
	InputTokens  int64   `json:"inputTokens"`
	OutputTokens int64   `json:"outputTokens"`
	CostUSD      float64 `json:"costUsd,omitempty"`
	Estimated    bool    `json:"estimated,omitempty"`
}

// Filter chooses runs of one agent. Empty fields choose all, but for Namespace and Agent.
type Filter struct {
	Namespace string
	Agent     string
	Principal string
	// Session chooses one session; Principal is then exact, empty or not. Package run asks for the waiting run of a session at each of its
	// requests: let it cost one look-up.
	Session       string
	States        []State
	ExpiresBefore time.Time
	Limit         int // 0: DefaultLimit
}

// DefaultLimit is how many runs a List gives that sets no limit.
const DefaultLimit = 100

// Matches reports whether the filter chooses r; Limit is the lister's.
func (f Filter) Matches(r Run) bool {
	switch {
	case r.Namespace != f.Namespace || r.Agent != f.Agent:
		return false
	case f.Session != "" && (r.Session != f.Session || r.Principal != f.Principal):
		return false
	case f.Principal != "" && r.Principal != f.Principal:
		return false
	case !f.ExpiresBefore.IsZero() && !r.ExpiresAt.Before(f.ExpiresBefore):
		return false
	}
	return len(f.States) == 0 || slices.Contains(f.States, r.State)
}

// Store keeps runs. All methods may be used from many goroutines; errors are of kind errs.Unavailable where the store is gone. What is
// given and taken is the caller's own: a store keeps and gives copies. Runs are dropped Keep after their ExpiresAt.
type Store interface {
	// Put adds a run with Version 1, whatever r says. Errors: errs.Exists for a known ID; errs.Conflict where r waits and its session (not
	// empty) has another one that waits, due or overdue; errs.Exhausted where the store is full of runs that aren't final.
	Put(ctx context.Context, r Run) error
	// Get gives a run with its Engine; errs.NotFound.
	Get(ctx context.Context, ref Ref) (Run, error)
	// List gives runs without their Engine, newest first (CreatedAt, then ID).
	List(ctx context.Context, f Filter) ([]Run, error)
	// Update replaces a run if the store's Version is r.Version, and gives the new one. Errors: errs.Conflict where it is another,
	// errs.NotFound. Nobody makes a run wait again once it doesn't: a store may rely on that.
	Update(ctx context.Context, r Run) (Run, error)
	// Delete drops a run; an unknown one is no error.
	Delete(ctx context.Context, ref Ref) error
}
