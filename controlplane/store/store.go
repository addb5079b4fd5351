// Package store is the port to what must survive: a revisioned key-value space in the manner of etcd.
// The core speaks to it, etcdstore implements it, storetest holds the conformance suite that every
// implementation runs. It knows nothing of what is stored.
package store

import "context"

// KV is one stored value. ModRevision is the store revision of its last write, CreateRevision of its first.
type KV struct {
	Key            string
	Value          []byte
	CreateRevision int64
	ModRevision    int64
}

// Event is one change of a key. A deletion carries key and ModRevision only.
type Event struct {
	KV
	Deleted bool
}

// Batch is everything that one or more whole store revisions changed, in order; a revision is never split.
// A Batch without events is progress: everything up to Revision was delivered.
type Batch struct {
	Revision int64
	Events   []Event
}

// Page is part of a listing at one store revision. Next is "" at the end, else From of the next call.
type Page struct {
	KVs      []KV
	Revision int64
	Next     string
}

// ListOptions bound a listing. Zero values: from the start, everything, at the newest revision.
type ListOptions struct {
	From     string // first key to answer, inclusive
	Limit    int
	Revision int64
	KeysOnly bool
}

// Cond must hold for a transaction to be written: the key's ModRevision is the given one; 0: no such key.
type Cond struct {
	Key         string
	ModRevision int64
}

// Txn is a compare-and-swap write: all conditions hold and everything is written at one revision, or nothing is.
type Txn struct {
	If      []Cond
	Puts    []KV // Key and Value only
	Deletes []string
}

// Store is the port. All methods are safe for concurrent use, block until done or ctx ends, and answer errors of
// package errs: NotFound, Conflict (a Cond failed), Unavailable (no quorum, closed), Timeout,
// OutOfRange (revision compacted), Exhausted (space). A write that ended in Timeout or Unavailable may have happened.
type Store interface {
	// Get reads one key, linearizably.
	Get(ctx context.Context, key string) (KV, error)
	// List reads keys by prefix in key order, linearizably unless a Revision is given.
	List(ctx context.Context, prefix string, opts ListOptions) (Page, error)
	// Commit writes t and answers its store revision. A Txn without Puts and Deletes answers the
	// newest revision by a linearizable read.
	Commit(ctx context.Context, t Txn) (int64, error)
	// Watch calls emit for every batch under prefix with a revision greater than after, in order, without gaps, until
	// ctx ends (nil), emit fails (that error) or the watch breaks. It reconnects by itself.
	Watch(ctx context.Context, prefix string, after int64, emit func(Batch) error) error
	// Close releases the store; it is safe twice.
	Close() error
}
