package backup

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

// Config is what New needs. Everything but Identity, Audit and Mark is required.
type Config struct {
	// Store is written without audit entries: a restore is one change, whatever it writes. Audited is the same store with them; the
	// first and the last write of a restore go there.
	Store, Audited store.Store
	Logger         *slog.Logger
	Replica        string
	Now            func() time.Time
	// Identity says what a key of section Identity becomes where the control plane becomes another cluster: given what the backup and
	// the store have of it (nil: nothing), what is to be there (nil: nothing). nil: what the backup has.
	Identity func(key string, backup, stored []byte) ([]byte, error)
	// Audit brings the audit log of another cluster back: walk begins to give what the backup has of it, in the order of keys. It
	// answers what a person should know, and how many records it wrote. nil: it isn't brought back.
	Audit func(ctx context.Context, s store.Store, walk func() func() (key string, value []byte, ok bool, err error)) (note string, written int64, err error)
	// Mark gives a context whose writes the store takes while a restore is under way.
	Mark func(context.Context) context.Context
}

// Options say what is to come back.
type Options struct {
	// OtherCluster takes a backup of another cluster than the store's: this control plane becomes that one.
	OtherCluster bool
	// Access brings tokens, roles and bindings back where there are some already: they are replaced.
	Access bool
	// By is who asks for it, Message why.
	By, Message string
}

// Result is what a restore did, or would do.
type Result struct {
	Cluster  view.Cluster
	Revision int64 // of the store, at which the new state counts; 0: nothing was written
	Written  map[string]int64
	Notes    []string
}

// Restorer brings backups back. All methods are safe for concurrent use; one restore runs at a time.
type Restorer struct {
	cfg Config
	one sync.Mutex // held by the restore that runs
}

// New makes a Restorer.
func New(cfg Config) (*Restorer, error) {
	if cfg.Store == nil || cfg.Audited == nil || cfg.Logger == nil || cfg.Replica == "" || cfg.Now == nil {
		return nil, errs.New(errs.Invalid, "backup: store, audited, logger, replica and now are required")
	}
	if cfg.Mark == nil {
		cfg.Mark = func(ctx context.Context) context.Context { return ctx }
	}
	return &Restorer{cfg: cfg}, nil
}

// current reads the cluster record.
func (r *Restorer) current(ctx context.Context) (view.Cluster, int64, error) {
	kv, err := r.cfg.Store.Get(ctx, view.ClusterKey)
	if err != nil {
		return view.Cluster{}, 0, fmt.Errorf("cluster record: %w", err)
	}
	c, err := view.Decode[view.Cluster](kv.Value)
	if err != nil {
		return view.Cluster{}, 0, fmt.Errorf("cluster record: %w", err)
	}
	return c, kv.ModRevision, nil
}

// Plan says what Restore would do, without writing anything.
func (r *Restorer) Plan(ctx context.Context, f *File, opts Options) (Result, error) {
	p, err := r.plan(ctx, f, opts)
	if err != nil {
		return Result{}, err
	}
	return p.result, nil
}

// AsIs begins a new epoch on what the store holds: it was brought back by its own tools, so instances may have seen what it no longer
// has.
func (r *Restorer) AsIs(ctx context.Context, opts Options, dryRun bool) (Result, error) {
	if !dryRun {
		if !r.one.TryLock() {
			return Result{}, errs.New(errs.Conflict, "a restore is under way on this replica")
		}
		defer r.one.Unlock()
	}
	ctx = r.cfg.Mark(ctx)
	c, mod, err := r.current(ctx)
	if err != nil {
		return Result{}, err
	}
	if c.Restoring != nil {
		return Result{}, errs.New(errs.Precondition, "%s: bring the backup back again; as it is, the store is half of each", Describe(*c.Restoring))
	}
	next := r.next(c, c.Epoch, opts)
	next.Restored.BackupRevision = mod
	res := Result{Cluster: next}
	if dryRun {
		return res, nil
	}
	res.Revision, err = r.end(ctx, next, mod)
	return res, err
}

// next gives the cluster record after a restore over c, of a backup of an epoch.
func (r *Restorer) next(c view.Cluster, epoch uint64, opts Options) view.Cluster {
	now := r.cfg.Now().UTC()
	unix := uint64(max(now.Unix(), 0))
	next := c
	next.Epoch = max(c.Epoch+1, epoch+1, unix)
	next.Restoring = nil
	next.Restored = &view.Restored{By: opts.By, At: now, FromEpoch: c.Epoch, Message: opts.Message}
	return next
}

// Describe says in a sentence what is under way, and what to do.
func Describe(r view.Restoring) string {
	return fmt.Sprintf("a restore by %s began at %s on replica %s and has not ended", r.By, r.Began.UTC().Format(time.RFC3339), r.Replica)
}

// Restore brings a file back. It may be repeated after it failed in the middle: until one has ended, the store says Restoring, and
// nothing else is written or pushed.
func (r *Restorer) Restore(ctx context.Context, f *File, opts Options) (Result, error) {
	if !r.one.TryLock() {
		return Result{}, errs.New(errs.Conflict, "a restore is under way on this replica")
	}
	defer r.one.Unlock()
	ctx = r.cfg.Mark(ctx)
	p, err := r.plan(ctx, f, opts)
	if err != nil {
		return Result{}, err
	}
	w := &writer{Restorer: r, id: newID()}
	if err := r.begin(ctx, w, p, opts); err != nil {
		return Result{}, err
	}
	began := r.cfg.Now()
	if err := p.run(ctx, w); err != nil {
		return Result{}, fmt.Errorf("restore broken off; nothing is pushed until it was run again to its end: %w", err)
	}
	if p.result.Revision, err = r.end(ctx, p.result.Cluster, w.mod); err != nil {
		return Result{}, fmt.Errorf("end of the restore: %w", err)
	}
	r.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "backup brought back", slog.String("by", opts.By), slog.Uint64("epoch", p.result.Cluster.Epoch),
		slog.Int64("revision", p.result.Revision), slog.Int64("backup_revision", f.Header.Revision), slog.Int("transactions", w.transactions),
		slog.Duration("took", r.cfg.Now().Sub(began)))
	return p.result, nil
}

// begin stops pushes and other writes: from its revision on every replica sees that a restore is under way.
func (r *Restorer) begin(ctx context.Context, w *writer, p *plan, opts Options) error {
	now := p.stored
	now.Restoring = &view.Restoring{ID: w.id, Replica: r.cfg.Replica, By: opts.By, Began: r.cfg.Now().UTC()}
	rev, err := r.cfg.Audited.Commit(ctx, store.Txn{
		If:   []store.Cond{{Key: view.ClusterKey, ModRevision: p.mod}},
		Puts: []store.KV{{Key: view.ClusterKey, Value: view.Encode(now)}},
	})
	switch {
	case unknown(err): // perhaps it was written
		c, mod, rerr := r.reread(ctx)
		if rerr != nil || c.Restoring == nil || c.Restoring.ID != w.id {
			return fmt.Errorf("begin the restore: %w", err)
		}
		rev = mod
	case err != nil:
		return fmt.Errorf("begin the restore: %w", err)
	}
	w.mod = rev
	return nil
}

// end writes the cluster record of the new epoch.
func (r *Restorer) end(ctx context.Context, next view.Cluster, mod int64) (int64, error) {
	t := store.Txn{
		If:   []store.Cond{{Key: view.ClusterKey, ModRevision: mod}},
		Puts: []store.KV{{Key: view.ClusterKey, Value: view.Encode(next)}},
	}
	for left := attempts; ; left-- {
		rev, err := r.cfg.Audited.Commit(ctx, t)
		if err == nil {
			return rev, nil
		}
		c, at, rerr := r.reread(ctx)
		if rerr == nil && c.Epoch == next.Epoch && c.Restoring == nil && c.ID == next.ID && at > mod {
			return at, nil // a lost answer
		}
		if !unknown(err) || left == 0 || !pause(ctx) {
			return 0, err
		}
	}
}

func newID() string {
	var id [8]byte
	_, _ = rand.Read(id[:])
	return hex.EncodeToString(id[:])
}
