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
	"github.com/agentry/agentry/controlplane/headwrite"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/gen/agentry/spec/v1/specv1connect"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

const defaultNamespace = "default"

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
	writer *headwrite.Writer
	vault  *Vault
	fleet  Fleet
	now    func() time.Time
	notify func(Notice)
}

// New makes a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.View == nil || cfg.Vault == nil || cfg.Fleet == nil || cfg.Now == nil || cfg.Logger == nil {
		return nil, errs.New(errs.Invalid, "specapi: something required is missing")
	}
	writer, err := headwrite.New(headwrite.Config{Store: cfg.Store, View: cfg.View, Now: cfg.Now, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	s := &Service{store: cfg.Store, view: cfg.View, writer: writer, vault: cfg.Vault, fleet: cfg.Fleet, now: cfg.Now, notify: cfg.Notify}
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

// actor is who calls, as history keeps it.
func actor(ctx context.Context) string {
	p, ok := access.From(ctx)
	if !ok {
		return "unknown"
	}
	return p.Name
}

func (c caller) actor() string {
	if c.who.Name == "" {
		return "unknown"
	}
	return c.who.Name
}

func namespaceOf(given string) string {
	if given == "" {
		return defaultNamespace
	}
	return given
}

var _ specv1connect.SpecServiceHandler = (*Service)(nil)
