// Package once makes a call's transactions happen once, whatever becomes of the answers: a store whose Commit tries again while the
// store elects a leader or a connection is gone, and finds out whether the tries before were written. Every transaction of a call
// writes a record of its own under the condition that there is none; so of all tries, also those that arrive late, one is written. A
// caller that gives an idempotency key may ask again anywhere, and gets the first answer. app puts it around the store and the gate
// begins calls; what writes without a call (the releaser, the collector) plans again by itself.
package once

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

const (
	// DefaultPatience is how long a write is tried: an election takes 1 to 4 s, and what is on its way should be found out.
	DefaultPatience = 15 * time.Second
	// ReadPatience is how long a read is: a call of which nothing was sent yet is better told that the store is away.
	ReadPatience = 7 * time.Second
	// tryWithin bounds one try.
	tryWithin  = 4 * time.Second
	backoffMin = 20 * time.Millisecond
	backoffMax = 500 * time.Millisecond
)

// Config says how long to try; zero: DefaultPatience, ReadPatience. A deadline of the call counts too.
type Config struct{ Patience, Reads time.Duration }

// Store is the store. It is safe for concurrent use.
type Store struct {
	store.Store

	patience, reads time.Duration
}

// Wrap makes a Store. What it is put around must say of a failed commit by the error's kind whether it may have been written: Timeout,
// Unavailable, Internal. An error with a method Refused that gives true surely wasn't.
func Wrap(s store.Store, cfg Config) *Store {
	if cfg.Patience <= 0 {
		cfg.Patience = DefaultPatience
	}
	if cfg.Reads <= 0 {
		cfg.Reads = ReadPatience
	}
	return &Store{Store: s, patience: cfg.Patience, reads: cfg.Reads}
}

// Get reads, again and again within a call.
func (s *Store) Get(ctx context.Context, key string) (kv store.KV, err error) {
	err = s.patiently(ctx, func(ctx context.Context) error {
		kv, err = s.Store.Get(ctx, key)
		return err
	})
	return kv, err
}

// List reads, again and again within a call.
func (s *Store) List(ctx context.Context, prefix string, opts store.ListOptions) (page store.Page, err error) {
	err = s.patiently(ctx, func(ctx context.Context) error {
		page, err = s.Store.List(ctx, prefix, opts)
		return err
	})
	return page, err
}

// Commit writes t once, if it is part of a call. Errors are those of the store, and *CarriedOutError where another try of the same
// call was first. One of kind Unavailable after the patience may have been written; the same key finds out.
func (s *Store) Commit(ctx context.Context, t store.Txn) (revision int64, err error) {
	c := From(ctx)
	switch {
	case c == nil:
		return s.Store.Commit(ctx, t)
	case repeatable(t):
		err = s.patiently(ctx, func(ctx context.Context) error {
			revision, err = s.Store.Commit(ctx, t)
			return err
		})
		return revision, err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	w := &write{Store: s, call: c, txn: t, until: time.Now().Add(s.patience)}
	return w.run(ctx)
}

// Resume looks whether a call that came with a key was carried out before, here or in another replica: then it answers
// *CarriedOutError, or Invalid where the key was used for another request.
func (s *Store) Resume(ctx context.Context, c *Call) error {
	if !c.keyed {
		return nil
	}
	before, err := s.before(ctx, c)
	if err != nil {
		return unavailable(err)
	}
	return before
}

// Refused gives the answer of a call that was refused with err. A try before it may have been written after Resume looked, and be the
// very reason: what was expected is no longer there because the caller changed it. Then it answers *CarriedOutError, and Unavailable
// where that can't be found out. Refusals that don't depend on what is in the store are left as they are.
func (s *Store) Refused(ctx context.Context, c *Call, err error) error {
	switch errs.KindOf(err) {
	case errs.NotFound, errs.Exists, errs.Conflict, errs.Precondition:
	default:
		return err
	}
	if !c.keyed || errors.As(err, new(*CarriedOutError)) {
		return err
	}
	before, failed := s.before(ctx, c)
	switch {
	case failed != nil:
		return unknown(failed)
	case before != nil:
		return before
	}
	return err
}

// before looks for what other tries of a call wrote last: an error that tells of it, nil where there is nothing.
func (s *Store) before(ctx context.Context, c *Call) (found, _ error) {
	page, err := s.List(With(ctx, c), c.prefix, store.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, kv := range page.KVs {
		r, err := decode(kv)
		if err != nil {
			return nil, err
		}
		if !r.Void && r.Nonce != c.nonce {
			found = c.carriedOut(r, kv.ModRevision)
		}
	}
	return found, nil
}

// repeatable reports whether it does no harm to write t twice, at any time: it only reads, or keeps content under its hash.
func repeatable(t store.Txn) bool {
	return len(t.Deletes) == 0 && (len(t.Puts) == 0 || len(t.If) == 0) &&
		!slices.ContainsFunc(t.Puts, func(kv store.KV) bool { return !strings.HasPrefix(kv.Key, view.BlobPrefix) })
}

// patiently does f until it answers. Outside of a call it does it once.
func (s *Store) patiently(ctx context.Context, f func(ctx context.Context) error) error {
	if From(ctx) == nil {
		return f(ctx)
	}
	until, wait := time.Now().Add(s.reads), backoffMin
	for {
		err := within(ctx, until, f)
		if err == nil || !silent(err) || !pause(ctx, until, &wait) {
			return err
		}
	}
}

// within does f in the time of one try.
func within(ctx context.Context, until time.Time, f func(ctx context.Context) error) error {
	end := time.Now().Add(tryWithin)
	if until.Before(end) {
		end = until
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	return f(ctx)
}

// silent reports whether an error says nothing about what became of a call.
func silent(err error) bool {
	var known interface{ Refused() bool }
	if errors.As(err, &known) && known.Refused() {
		return false
	}
	return errs.Is(err, errs.Unavailable) || errs.Is(err, errs.Timeout) || errs.Is(err, errs.Internal)
}

// pause waits before the next try, longer each time; false: there is no time for one.
func pause(ctx context.Context, until time.Time, wait *time.Duration) bool {
	d := *wait/2 + rand.N(*wait) //nolint:gosec // G404: jitter
	*wait = min(2**wait, backoffMax)
	end := time.Now().Add(d)
	if deadline, ok := ctx.Deadline(); end.After(until) || ok && end.After(deadline) {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func unavailable(err error) error {
	if errs.Is(err, errs.Timeout) || errs.Is(err, errs.Internal) {
		return errs.New(errs.Unavailable, "store: %w", err)
	}
	return err
}

// unknown is the answer when nobody could find out.
func unknown(err error) error {
	return errs.New(errs.Unavailable, "the store doesn't answer, and whether this was written isn't known: ask again with the same idempotency key, or read what is there: %w", err)
}
