// Package memory is the port to what an agent remembers of a session. inmemory implements it in the process, redismemory for all
// instances; both pass the conformance suite in memorytest.
package memory

import (
	"context"
	"time"
)

// Turn is one exchanged message that is remembered.
type Turn struct {
	Role string // user or assistant
	Text string
	// Tools is what was called on the way to an assistant's text; the payloads that are too large to be remembered are left out.
	Tools  []ToolUse
	At     time.Time
	Config string // of an assistant: the config that answered
}

// ToolUse is one tool call with its result.
type ToolUse struct {
	Name      string
	Arguments string // JSON
	Result    string
	IsError   bool
}

// Key names a session: never a secret, never shared between principals.
type Key struct {
	Namespace string
	Agent     string
	Principal string
	Session   string
}

// Owner gives the key without its session.
func (k Key) Owner() Owner { return Owner{k.Namespace, k.Agent, k.Principal} }

// Owner is whose sessions are listed.
type Owner struct{ Namespace, Agent, Principal string }

// Query says what a request is about.
type Query struct {
	Text string // its newest user message; what search strategies look for
	// Estimate gives the tokens of a text, calibrated by the model's own counts; nil: internal/tokens.
	Estimate func(text string) int
}

// Recollection is what of a session reaches the model.
type Recollection struct {
	Summary string // of what is older than Turns; "" if there is none
	Turns   []Turn // oldest first; never begins in the middle of an exchange
	Config  string // that answered last; "" for a new session
}

// Exchange is what one request adds to a session: the user's turns and the assistant's.
type Exchange struct {
	// ID names the request; an Exchange that is there already is not added again.
	ID    string
	Turns []Turn
}

// Summarize shortens turns and an earlier summary into one text.
type Summarize func(ctx context.Context, previous string, turns []Turn) (string, error)

// Memory keeps the turns of sessions by the strategies that it was made with. All methods may be used from many goroutines. Errors are of
// kind errs.Unavailable where the store is gone.
type Memory interface {
	// Recall gives what the model is shown, after search and compression.
	Recall(ctx context.Context, k Key, q Query) (Recollection, error)
	// Remember appends an exchange atomically, in the order of the calls.
	Remember(ctx context.Context, k Key, e Exchange) error
	// Search gives at most n turns of the session that answer the query best, best first, by the search strategy.
	Search(ctx context.Context, k Key, query string, n int) ([]Turn, error)
	// Compact replaces the oldest turns by a summary where the strategy is summarize and the session is over its bound; else it does
	// nothing. Either the summary replaces exactly what it was made of, or nothing changes. After one failed try the session is not tried
	// again until it has grown by half.
	Compact(ctx context.Context, k Key, s Summarize) error
	// Forget drops a session; an unknown one is no error.
	Forget(ctx context.Context, k Key) error
}

// Sessions is the rest of what the same adapters do: order, and what people see.
type Sessions interface {
	// Enter waits until no other request of the session is under way, anywhere; leave ends this one's turn and may be called twice. At
	// most MaxWaiting wait in one process; one more is an error of kind errs.Exhausted. An error of kind errs.Timeout: ctx ended first.
	Enter(ctx context.Context, k Key) (leave func(), err error)
	// History gives the newest turns, oldest first, uncompressed; limit 0: all that are held. An unknown session is errs.NotFound.
	History(ctx context.Context, k Key, limit int) ([]Turn, error)
	// List gives an owner's sessions, the most recently used first; limit 0: 100.
	List(ctx context.Context, o Owner, limit int) ([]Info, error)
}

// MaxWaiting bounds how many requests of one session wait for their turn in one process.
const MaxWaiting = 32

// Info is one session in a list.
type Info struct {
	Session string
	Turns   int
	Updated time.Time
}
