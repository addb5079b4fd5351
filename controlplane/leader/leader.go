// Package leader chooses one replica among those that share a store: the one that holds view.LeaderKey. What only one of them may do
// (moving heads by itself, collecting) runs within its term, and writes through Fence: a lock by a lease alone is not enough, for a
// process may stand still past its lease and go on. app runs an Election in every replica; the package knows nothing of what is led.
package leader

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

const (
	// DefaultTTL is how long a leader that fell silent still counts as one.
	DefaultTTL = 5 * time.Second
	// storeWait bounds one exchange with the store.
	storeWait  = 3 * time.Second
	backoffMin = 50 * time.Millisecond
	backoffMax = time.Second
)

// Config is what an Election needs; TTL zero means DefaultTTL.
type Config struct {
	Store   store.Store
	Leases  store.Leases
	Replica string
	Logger  *slog.Logger
	TTL     time.Duration
}

// Term is the time from when a replica took the lead until it lost it. Its number is the store revision at which it took it, so a
// later term has a greater one.
type Term struct {
	number int64
	end    func() // ends its context; nil: it has none
}

// Number tells terms apart and orders them; 0: no term.
func (t Term) Number() int64 { return t.number }

// NewTerm gives a term of a number, for tests of what is led.
func NewTerm(number int64) Term { return Term{number: number} }

// Cond holds as long as this term does.
func (t Term) Cond() store.Cond { return store.Cond{Key: view.LeaderKey, ModRevision: t.number} }

// Election takes part in choosing the leader. Run is for one goroutine, the rest for any.
type Election struct {
	cfg Config

	mu      sync.Mutex    // guards what follows
	seen    seat          // what the store last showed
	changed chan struct{} // closed and replaced when seen changes
	mine    int64         // number of the term that runs here; 0: none does
}

// seat is who leads, as the store shows it.
type seat struct {
	replica string // "": nobody
	term    int64
	known   bool // it was looked at
}

// New makes an Election.
func New(cfg Config) (*Election, error) {
	if cfg.Store == nil || cfg.Leases == nil || cfg.Replica == "" || cfg.Logger == nil {
		return nil, errs.New(errs.Invalid, "leader: store, leases, replica and logger are required")
	}
	if cfg.TTL <= 0 {
		cfg.TTL = DefaultTTL
	}
	return &Election{cfg: cfg, changed: make(chan struct{})}, nil
}

// Leader gives the replica that leads as far as this one knows; "": nobody, or not known yet. While the store is away it is the one
// that led last.
func (e *Election) Leader() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen.replica
}

// Term gives the number of the term that runs in this replica; 0: it doesn't lead.
func (e *Election) Term() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mine
}

// Run takes part until ctx ends (nil) or lead broke. Whenever this replica leads it calls lead, whose ctx ends with the term: lead must
// return soon then, and Run waits for it before it stands again. At the end of ctx the lead is given up at once, so that
// another replica needn't wait for the ttl.
func (e *Election) Run(ctx context.Context, lead func(ctx context.Context, t Term) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { e.follow(ctx) })
	wait := backoffMin
	for e.vacant(ctx) {
		held, err := e.stand(ctx)
		if err == nil {
			wait = backoffMin
			if err := e.serve(ctx, held, lead); err != nil {
				return err
			}
			continue
		}
		if !errs.Is(err, errs.Conflict) && ctx.Err() == nil {
			level := slog.LevelWarn
			if wait > backoffMin { // it goes on, as whoever else needs the store says too
				level = slog.LevelDebug
			}
			e.cfg.Logger.LogAttrs(ctx, level, "can't stand for leader", slog.Any("error", err), slog.Duration("retry_in", wait))
		}
		pause(ctx, wait/2+rand.N(wait)) //nolint:gosec // G404: jitter
		wait = min(2*wait, backoffMax)
	}
	return nil
}

// stand tries to take the lead; Conflict where another has it.
func (e *Election) stand(ctx context.Context) (store.Held, error) {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	return e.cfg.Leases.Hold(ctx, store.KV{Key: view.LeaderKey, Value: []byte(e.cfg.Replica)}, e.cfg.TTL, store.Cond{Key: view.LeaderKey})
}

// serve runs one term.
func (e *Election) serve(ctx context.Context, held store.Held, lead func(ctx context.Context, t Term) error) error {
	term, end := context.WithCancel(ctx)
	defer end()
	t := Term{number: held.Revision(), end: end}
	e.see(seat{replica: e.cfg.Replica, term: t.number, known: true})
	e.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "leads", slog.Int64("term", t.number))
	var wg sync.WaitGroup
	wg.Go(func() {
		e.lost(term, held, t)
		end()
	})
	e.hold(t.number)
	err := lead(term, t)
	e.hold(0)
	over := term.Err() != nil
	end()
	wg.Wait()
	release, stop := context.WithTimeout(context.WithoutCancel(ctx), storeWait)
	defer stop()
	if rerr := held.Release(release); rerr != nil {
		e.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "lead wasn't given back; it ends by itself", slog.Any("error", rerr))
	}
	e.unsee(t.number)
	e.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "leads no more", slog.Int64("term", t.number))
	switch {
	case over && errs.Is(err, errs.Canceled): // how a term ends
		return nil
	case err == nil && !over:
		return errs.New(errs.Internal, "leader: what is led ended by itself")
	}
	return err
}

// lost waits for the end of a term: ctx's, the lease's, or that the store shows another term.
func (e *Election) lost(ctx context.Context, held store.Held, t Term) {
	for {
		e.mu.Lock()
		seen, changed := e.seen, e.changed
		e.mu.Unlock()
		if seen.term > t.number {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-held.Lost():
			return
		case <-changed:
		}
	}
}

// vacant waits until nobody leads as far as the store shows; false when ctx ended.
func (e *Election) vacant(ctx context.Context) bool {
	for {
		e.mu.Lock()
		seen, changed := e.seen, e.changed
		e.mu.Unlock()
		if ctx.Err() != nil {
			return false
		}
		if seen.known && seen.replica == "" {
			return true
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

func (e *Election) hold(term int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mine = term
}

// see notes what the store shows. What is older than what was seen is passed over.
func (e *Election) see(s seat) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seen.known && s.term < e.seen.term {
		return
	}
	e.seen = s
	close(e.changed)
	e.changed = make(chan struct{})
}

// unsee notes that a term is over, unless a later one was seen.
func (e *Election) unsee(term int64) { e.see(seat{term: term, known: true}) }

// follow keeps seen up to date until ctx ends.
func (e *Election) follow(ctx context.Context) {
	for ctx.Err() == nil {
		after, err := e.read(ctx)
		if err == nil {
			err = e.cfg.Store.Watch(ctx, view.LeaderKey, after, func(b store.Batch) error {
				for _, ev := range b.Events {
					if ev.Key == view.LeaderKey {
						e.see(seatOf(ev.KV))
					}
				}
				return nil
			})
		}
		if err != nil && ctx.Err() == nil {
			e.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "can't see who leads", slog.Any("error", err), slog.Duration("retry_in", backoffMax))
		}
		pause(ctx, backoffMax)
	}
}

// read looks who leads, and gives the store revision of that.
func (e *Election) read(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	page, err := e.cfg.Store.List(ctx, view.LeaderKey, store.ListOptions{Limit: 1})
	if err != nil {
		return 0, err
	}
	s := seat{known: true, term: page.Revision}
	if len(page.KVs) > 0 && page.KVs[0].Key == view.LeaderKey {
		s = seatOf(page.KVs[0])
	}
	e.see(s)
	return page.Revision, nil
}

// seatOf reads the key; a deletion has no value, and the revision of it as its term.
func seatOf(kv store.KV) seat {
	return seat{replica: string(kv.Value), term: kv.ModRevision, known: true}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
