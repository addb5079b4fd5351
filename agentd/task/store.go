package task

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// Owner is whose a task is. Nobody else learns that it is there.
type Owner struct {
	Namespace string `json:"namespace"`
	Agent     string `json:"agent"`
	Principal string `json:"principal"` // "" where the door knows nobody
	Tenant    string `json:"tenant,omitempty"`
}

// Ref names a task of an owner.
type Ref struct {
	Owner Owner
	ID    string
}

// Record is a task with what the agent keeps beside it.
type Record struct {
	Task  Task  `json:"task"`
	Owner Owner `json:"owner"`
	Seq   int64 `json:"seq"` // of the last event
	// Version is the store's, from 1: every change counts it up.
	Version int64 `json:"version"`
	Turns   int   `json:"turns"` // how often the agent was asked
	// Keeper is the process that looks after the task while it isn't terminal: works on it, or sees what becomes of the run that it waits for
	// (Shared.Self). "" where the store isn't shared.
	Keeper string `json:"keeper,omitempty"`
	// Pending names the suspended run that the task waits for (package pending); "": it waits for none.
	Pending string `json:"pending,omitempty"`
	// Approval says that Pending waits for consent, not for the caller's answer.
	Approval bool `json:"approval,omitempty"`
	// Push are the addresses that are told of changes, by ID.
	Push []Push `json:"push,omitempty"`
}

// Ref gives the record's name.
func (r Record) Ref() Ref { return Ref{Owner: r.Owner, ID: r.Task.ID} }

// Push is one address that is told of a task's changes.
type Push struct {
	ID          string `json:"id"`
	URL         string `json:"url"`
	Token       string `json:"token,omitempty"`
	Scheme      string `json:"scheme,omitempty"` // of the Authorization header
	Credentials string `json:"credentials,omitempty"`
	Legacy      bool   `json:"legacy,omitempty"` // it is told in the words of protocol 0.3
}

// MarshalJSON is only for stores: nothing else may write a Push, whose credentials are secret.
func (p Push) MarshalJSON() ([]byte, error) {
	type plain Push
	return json.Marshal(plain(p))
}

// String leaves the credentials out.
func (p Push) String() string { return "push " + p.ID }

// GoString leaves the credentials out.
func (p Push) GoString() string { return p.String() }

// Filter chooses tasks of an owner, the newest status first.
type Filter struct {
	Owner   Owner
	Context string    // "": all
	State   State     // "": all
	Since   time.Time // of the status, inclusive; zero: all
	Limit   int       // at least 1
	After   Cursor    // the last one of the page before; zero: from the start
}

// Cursor is a place in a list: behind the task whose status is of At and whose ID is ID.
type Cursor struct {
	At time.Time
	ID string
}

// Before reports whether a task comes before another one in a list.
func Before(a, b Cursor) bool {
	if !a.At.Equal(b.At) {
		return a.At.After(b.At)
	}
	return a.ID < b.ID
}

// Place gives a record's place in a list.
func (r Record) Place() Cursor { return Cursor{At: r.Task.Status.At, ID: r.Task.ID} }

// Matches reports whether the filter chooses r, whatever its After.
func (f Filter) Matches(r Record) bool {
	return r.Owner == f.Owner &&
		(f.Context == "" || r.Task.ContextID == f.Context) &&
		(f.State == "" || r.Task.Status.State == f.State) &&
		(f.Since.IsZero() || !r.Task.Status.At.Before(f.Since))
}

// Page is a piece of a list.
type Page struct {
	Records []Record
	Total   int // of all pages
	More    bool
	Next    Cursor // where More: the After of the page that follows
}

// ErrLagged ends a Feed whose reader fell too far behind; its reader may watch again.
var ErrLagged = errors.New("the reader of a task's events fell too far behind")

// ErrEnded ends a Feed behind the event of a terminal state.
var ErrEnded = errors.New("the task has ended")

// Feed gives the events that follow a Record, in order, each once. One goroutine reads it.
type Feed interface {
	// Next waits for the next event that is no Message. Errors: ErrEnded, ErrLagged, ctx's, or errs.Unavailable.
	Next(ctx context.Context) (Event, error)
	// Close lets go of the feed; it may be called twice.
	Close()
}

// Shared is a Store that several processes use: each of them keeps tasks, and learns what the others do to those and which ones nobody
// keeps any more.
type Shared interface {
	Store
	// Self names this process as a Keeper: random, new at each start. Others hold it for dead some seconds after it stopped to say that it lives.
	Self() string
	// Orphans gives tasks that aren't terminal and whose Keeper has died, at most limit. Whoever sees one tries to take it over by an Update.
	Orphans(ctx context.Context, limit int) ([]Record, error)
	// Ended waits for the next task of this Keeper that another process made terminal. Errors: ctx's. What happened while the store was
	// gone is told once it's back.
	Ended(ctx context.Context) (Ref, error)
}

// Store keeps tasks. All methods may be used from many goroutines, none waits for a reader; errors are of kind errs.Unavailable where the store is
// gone. Terminal tasks are dropped some time after they ended, or sooner where there is no room.
type Store interface {
	// Create adds a record with Version 1 and Seq 0, whatever r says. Errors: errs.Exists, errs.Exhausted where the store is full of tasks
	// that are under way.
	Create(ctx context.Context, r Record) (Record, error)
	// Get gives a record; errs.NotFound, also for one of another owner.
	Get(ctx context.Context, ref Ref) (Record, error)
	// Update lets change alter the record as it is now, in place but for Task, Version and Seq, and give events, which are applied and shown
	// to those who watch; all of it or nothing. change may run again where another change came first, must not block and must not keep r; its error ends
	// the Update and is given back. Errors: errs.NotFound, and Apply's.
	Update(ctx context.Context, ref Ref, change func(r *Record) ([]Event, error)) (Record, error)
	// List gives a page.
	List(ctx context.Context, f Filter) (Page, error)
	// Watch gives the record and what follows it, with nothing between them lost; errs.NotFound.
	Watch(ctx context.Context, ref Ref) (Record, Feed, error)
}
