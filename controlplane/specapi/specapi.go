// Package specapi is the service behind everything that is defined by files: it validates whole sets, splits secrets
// out, writes immutables and heads, and answers what is stored and how it came about (semantics.md 1, 2, 7.5 to 7.8, 12).
// The people door mounts it. It never talks to instances and never decides what becomes of a release: package
// release does.
package specapi

import (
	"context"
	"log/slog"
	"time"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/gen/agentry/spec/v1/specv1connect"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

const (
	defaultNamespace = "default"
	// maxHeads is how many heads one transaction writes (semantics.md 12).
	maxHeads = 100
	// maxConds bounds the conditions of one transaction.
	maxConds = 120
	// attempts is how often a write that lost a race is planned again.
	attempts = 5
	// viewWait bounds the wait for the view to show a write; reads may lag after it, the write stands.
	viewWait = 5 * time.Second
	// storeWait bounds one exchange with the store.
	storeWait = 5 * time.Second
)

// Fleet tells what the service must know of an agent's live instances.
type Fleet interface {
	// Live reports whether an instance is live, or may be because the fleet isn't complete.
	Live(namespace, agent string) bool
	// Capabilities gives one list per live instance.
	Capabilities(namespace, agent string) [][]string
	// Condition gives an agent's condition.
	Condition(namespace, agent string) phase.Condition
}

// Notice is something worth telling about an agent.
type Notice struct {
	Namespace, Agent, Type, Message, Config string
}

// Config is what a Service needs; everything but Notify is required.
type Config struct {
	Store  store.Store
	View   *view.View
	Vault  *Vault
	Fleet  Fleet
	Now    func() time.Time
	Logger *slog.Logger
	Notify func(Notice) // must not block
}

// Service implements agentry.spec.v1.SpecService. It is safe for concurrent use.
type Service struct {
	specv1connect.UnimplementedSpecServiceHandler

	store  store.Store
	view   *view.View
	vault  *Vault
	fleet  Fleet
	now    func() time.Time
	log    *slog.Logger
	notify func(Notice)
}

// New makes a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.View == nil || cfg.Vault == nil || cfg.Fleet == nil || cfg.Now == nil || cfg.Logger == nil {
		return nil, errs.New(errs.Invalid, "specapi: something required is missing")
	}
	s := &Service{
		store: cfg.Store, view: cfg.View, vault: cfg.Vault, fleet: cfg.Fleet, now: cfg.Now, log: cfg.Logger, notify: cfg.Notify,
	}
	if s.notify == nil {
		s.notify = func(Notice) {}
	}
	return s, nil
}

// Reveal gives the value of a credential's version, for the snapshot of an agent that refers to it.
func (s *Service) Reveal(namespace, name string, version int64) (secret.Value, error) {
	head, _, ok := s.view.Credential(namespace, name)
	if !ok {
		return secret.Value{}, errs.New(errs.NotFound, "credential %s/%s doesn't exist", namespace, name)
	}
	return s.vault.Reveal(namespace, head.Name, head, version)
}

// current waits until the view shows at least what the store holds now, by a linearizable read. A store that
// doesn't answer is errs.Unavailable at once.
func (s *Service) current(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	rev, err := s.store.Commit(ctx, store.Txn{})
	if err != nil {
		return unavailable(err)
	}
	if err := s.view.WaitFor(ctx, rev); err != nil {
		return errs.New(errs.Unavailable, "catch up with the store: %w", err)
	}
	return nil
}

// unavailable turns a store that is silent into one that is known to be away: the caller should try again.
func unavailable(err error) error {
	if errs.Is(err, errs.Timeout) || errs.Is(err, errs.Internal) {
		return errs.New(errs.Unavailable, "store: %w", err)
	}
	return err
}

// actor is who calls, as history keeps it.
func actor(ctx context.Context) string {
	p, ok := access.From(ctx)
	if !ok {
		return "unknown"
	}
	return p.Name
}

func namespaceOf(given string) string {
	if given == "" {
		return defaultNamespace
	}
	return given
}

var _ specv1connect.SpecServiceHandler = (*Service)(nil)
