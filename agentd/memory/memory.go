// Package memory is the port to what an agent remembers of a session. inmemory implements it in the process; a shared one
// comes beside it. memorytest holds the conformance suite.
package memory

import "context"

// Turn is one exchanged message that is remembered. Tool payloads are not.
type Turn struct {
	Role string // user or assistant
	Text string
}

// Key names a session: never a secret, never shared between principals.
type Key struct {
	Namespace string
	Agent     string
	Principal string
	Session   string
}

// Memory keeps the turns of sessions. All methods may be used from many goroutines; Remember appends turns of one request
// atomically, in the order of the calls.
type Memory interface {
	// Recall gives the newest turns of a session, oldest first, after compression; nil for a new session. config is the config that
	// answered last.
	Recall(ctx context.Context, k Key) (turns []Turn, config string, err error)
	// Remember appends turns that were exchanged under config.
	Remember(ctx context.Context, k Key, config string, turns []Turn) error
	// Forget drops a session; an unknown one is no error.
	Forget(ctx context.Context, k Key) error
}
