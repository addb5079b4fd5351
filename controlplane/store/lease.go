package store

import (
	"context"
	"time"
)

// Leases is what a store offers beside Store to who must be seen to be alive. It is safe for concurrent use.
type Leases interface {
	// Hold writes a key that lives only as long as its holder keeps it: it goes when the holder releases it, or ttl after the holder
	// fell silent. Conds must hold, as in a transaction. Errors as Store.Commit; one that ended in Timeout or Unavailable may have
	// written the key, which then goes after ttl. ttl is rounded up to whole seconds.
	Hold(ctx context.Context, kv KV, ttl time.Duration, conds ...Cond) (Held, error)
}

// Held is a key that is kept alive.
type Held interface {
	// Revision is the store revision at which the key was written last; only Update changes it. A transaction under the condition
	// that the key is at it can't be written by who lost the key: a lock by a lease alone is not enough.
	Revision() int64
	// Update writes a new value.
	Update(ctx context.Context, value []byte) error
	// Lost is closed when the key is gone or may be: at the latest when ttl passed, by the monotonic clock, since the store last
	// confirmed the lease.
	Lost() <-chan struct{}
	// Release removes the key at once and waits for the keeping to end. It is safe twice.
	Release(ctx context.Context) error
}
