package strategy

import (
	"context"
	"time"

	"github.com/agentry/agentry/agentd/memory"
)

// Store keeps sessions as they were remembered. It knows no strategy. All methods may be used from many goroutines; errors are of kind
// errs.Unavailable where the store is gone.
type Store interface {
	Log
	Vectors
	Order
}

// Log is what was said.
type Log interface {
	// Load gives a session; one that isn't held is the zero Session.
	Load(ctx context.Context, k memory.Key) (Session, error)
	// Append adds an exchange atomically unless its ID is there already; the session is held for ttl from now. Full: the store's bounds say
	// what goes, always whole exchanges, the oldest first.
	Append(ctx context.Context, k memory.Key, e memory.Exchange, ttl time.Duration) error
	// Summarise puts the summary is in the place of was, or gives errs.Conflict where the session's life or summary is another by now.
	Summarise(ctx context.Context, k memory.Key, life string, was, is Summary) error
	// Forget drops a session.
	Forget(ctx context.Context, k memory.Key) error
}

// Vectors keeps embeddings beside the exchanges that they were made of. They live no longer than these. A space names the model that
// made them; a store may keep one space of a session and drop the others.
type Vectors interface {
	Vectors(ctx context.Context, k memory.Key, life, space string) (map[int64][]byte, error)
	// KeepVectors does nothing where the session's life is another by now.
	KeepVectors(ctx context.Context, k memory.Key, life, space string, vs map[int64][]byte) error
}

// Order is what memory.Sessions asks of a store.
type Order interface {
	Enter(ctx context.Context, k memory.Key) (leave func(), err error)
	List(ctx context.Context, o memory.Owner, limit int) ([]memory.Info, error)
}

// Session is what is held of one session. It is immutable.
type Session struct {
	Life      string          // names this life of the session: after Forget another one begins; "": nothing is held
	Exchanges [][]memory.Turn // oldest first
	First     int64           // the number of Exchanges[0]; the first of a life is 0
	Config    string          // that answered last
	Summary   Summary
}

// Summary stands for the exchanges before Until. They may still be held.
type Summary struct {
	Text   string
	Until  int64
	Failed int // the session's tokens when making a summary failed last; 0: the last try didn't fail
}
