// Package upkeep looks after the store: it looks at every member regularly and at once when a write finds no space, says in the log and
// by metrics what is wrong, and has an external etcd drop old revisions. app runs it in every replica; only the leader compacts. It
// mends nothing that needs a person: docs/operations.md says what to do.
package upkeep

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// Defaults of Config.
const (
	DefaultLook    = 30 * time.Second
	DefaultCompact = 5 * time.Minute
	DefaultKeep    = 10_000
)

// lookWithin bounds one look, compactWithin one compaction.
const (
	lookWithin    = 5 * time.Second
	compactWithin = 30 * time.Second
)

// full is the share of its quota from which a store's size is an alarm.
const full = 0.8

// Config is what New needs. Store, Leading and Logger are required.
type Config struct {
	Store store.Maintenance
	// Leading says whether this replica leads.
	Leading func() bool
	Logger  *slog.Logger
	// Look is how often the members are looked at, Compact how often an external etcd drops all but the Keep newest revisions.
	Look, Compact time.Duration
	Keep          int64
}

// Upkeep looks after one store. Its methods may be called from any goroutine.
type Upkeep struct {
	cfg Config

	mu        sync.Mutex // guards what follows
	condition store.Condition
	compacted int64
}

// New makes an Upkeep.
func New(cfg Config) (*Upkeep, error) {
	if cfg.Store == nil || cfg.Leading == nil || cfg.Logger == nil {
		return nil, errs.New(errs.Invalid, "upkeep: store, leading and logger are required")
	}
	if cfg.Look <= 0 {
		cfg.Look = DefaultLook
	}
	if cfg.Compact <= 0 {
		cfg.Compact = DefaultCompact
	}
	if cfg.Keep <= 0 {
		cfg.Keep = DefaultKeep
	}
	return &Upkeep{cfg: cfg}, nil
}

// Run looks at once and then regularly until ctx ends.
func (u *Upkeep) Run(ctx context.Context) error {
	look, compact := time.NewTicker(u.cfg.Look), time.NewTicker(u.cfg.Compact)
	defer look.Stop()
	defer compact.Stop()
	for {
		u.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		case <-u.cfg.Store.Full():
		case <-compact.C:
			u.compact(ctx)
		}
	}
}

// Condition is what the last look showed; zero before the first.
func (u *Upkeep) Condition() store.Condition {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.condition
}

// Compacted is the revision below which this replica dropped the history last; 0: it didn't.
func (u *Upkeep) Compacted() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.compacted
}

func (u *Upkeep) look(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	now := u.cfg.Store.Inspect(bounded)
	if ctx.Err() != nil {
		return
	}
	u.mu.Lock()
	before := Alarms(u.condition)
	u.condition = now
	u.mu.Unlock()
	after := Alarms(now)
	for _, a := range after {
		if !slices.Contains(before, a) {
			u.cfg.Logger.LogAttrs(ctx, slog.LevelError, "store alarm", slog.String("alarm", a))
		}
	}
	if len(after) == 0 && len(before) > 0 {
		u.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "store is well again")
	}
}

// compact drops old revisions of an external etcd. Where etcd does so itself, the one with fewer revisions wins: dropping what is
// dropped is nothing.
func (u *Upkeep) compact(ctx context.Context) {
	c := u.Condition()
	below := c.Revision - u.cfg.Keep
	if c.Kind != store.External || below <= 0 || !u.cfg.Leading() {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, compactWithin)
	defer cancel()
	if err := u.cfg.Store.Compact(bounded, below); err != nil {
		if ctx.Err() == nil {
			u.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "store's old revisions are not dropped", slog.Any("error", err))
		}
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.compacted = below
}

// Alarms says in sentences what a person must see to; none when all is well.
func Alarms(c store.Condition) []string {
	var out []string
	if c.Fault != "" {
		out = append(out, "the store doesn't answer: "+c.Fault)
	}
	for _, m := range c.Members {
		name := first(m.Name, strings.Join(m.ClientURLs, ","), fmt.Sprintf("%x", m.ID))
		if m.Fault != "" {
			out = append(out, fmt.Sprintf("store member %s doesn't answer: %s", name, m.Fault))
		}
		for _, a := range m.Alarms {
			switch a {
			case "NOSPACE":
				out = append(out, fmt.Sprintf("store member %s is out of space, so nothing can be written (docs/operations.md, \"The store is full\")", name))
			default:
				out = append(out, fmt.Sprintf("store member %s: %s", name, a))
			}
		}
	}
	if c.QuotaBytes > 0 && float64(c.SizeBytes) > full*float64(c.QuotaBytes) {
		out = append(out, fmt.Sprintf("the store has used over %d %% of its space (docs/operations.md, \"The store is full\")", int(full*100)))
	}
	return out
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
