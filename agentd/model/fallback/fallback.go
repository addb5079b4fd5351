// Package fallback is a model made of several: the first that works answers. The app makes one where a spec has fallbacks; package run
// calls it through the port agentd/model. It speaks to no endpoint itself, and never changes an endpoint once an answer has begun.
package fallback

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"time"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/errs"
)

// The defaults of a cooldown.
const (
	DefaultCooldown    = 10 * time.Second
	DefaultMaxCooldown = 5 * time.Minute
)

// Endpoint is one of the models.
type Endpoint struct {
	Name  string // for errors and logs: the model's
	Model model.Model
}

// Config lists the endpoints, the preferred one first; at least one.
type Config struct {
	Endpoints []Endpoint
	// Cooldown is how long an endpoint that failed is left alone, doubled with every failure in a row up to MaxCooldown. What the
	// endpoint asked for itself (Retry-After) counts if it is longer. Defaults 10 s and 5 min.
	Cooldown    time.Duration
	MaxCooldown time.Duration
	Now         func() time.Time // default time.Now
	Log         *slog.Logger     // default: none
}

// Model asks its endpoints one after the other. It may be used from many goroutines.
type Model struct {
	endpoints []*endpoint
	log       *slog.Logger
	now       func() time.Time
}

var (
	_ model.Model    = (*Model)(nil)
	_ model.Embedder = (*Model)(nil)
)

// New makes a Model. The error is of kind Invalid.
func New(cfg Config) (*Model, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errs.New(errs.Invalid, "fallbacks: no endpoint at all")
	}
	if cfg.Cooldown <= 0 {
		cfg.Cooldown = DefaultCooldown
	}
	if cfg.MaxCooldown <= 0 {
		cfg.MaxCooldown = max(DefaultMaxCooldown, cfg.Cooldown)
	}
	m := &Model{log: cfg.Log, now: cfg.Now}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.now == nil {
		m.now = time.Now
	}
	for _, e := range cfg.Endpoints {
		m.endpoints = append(m.endpoints, &endpoint{Endpoint: e, first: cfg.Cooldown, most: cfg.MaxCooldown})
	}
	return m, nil
}

// Close closes the endpoints that can be closed.
func (m *Model) Close() error {
	var all []error
	for _, e := range m.endpoints {
		if c, ok := e.Model.(io.Closer); ok {
			all = append(all, c.Close())
		}
	}
	return errors.Join(all...)
}

// Generate asks the endpoints in order until one begins to answer: those that cool down, or that somebody is trying again already, come
// last. A failure that lies in the request ends the call; so does one in the middle of an answer.
func (m *Model) Generate(ctx context.Context, r model.Request) iter.Seq2[model.Chunk, error] {
	return func(yield func(model.Chunk, error) bool) {
		var failed failures
		var later []*endpoint
		for _, e := range m.endpoints {
			if !e.claim(m.now()) {
				later = append(later, e)
				continue
			}
			if m.ask(ctx, e, r, &failed, yield) {
				return
			}
		}
		for _, e := range soonest(later) {
			if m.ask(ctx, e, r, &failed, yield) {
				return
			}
		}
		yield(model.Chunk{Usage: failed.spent}, failed.error())
	}
}

// ask lets one endpoint answer; false: it failed before it began, and the next may try.
func (m *Model) ask(ctx context.Context, e *endpoint, r model.Request, failed *failures, yield func(model.Chunk, error) bool) (over bool) {
	defer e.leave()
	began := false
	for c, err := range e.Model.Generate(ctx, r) {
		if err == nil {
			if !began {
				began = true
				m.recovered(ctx, e)
			}
			if c.Usage != nil {
				c.Usage = failed.spent.Plus(c.Usage)
			}
			if !yield(c, nil) {
				return true
			}
			continue
		}
		failed.spent = failed.spent.Plus(c.Usage)
		c.Usage = failed.spent
		if ctx.Err() != nil {
			yield(c, context.Cause(ctx))
			return true
		}
		var known *model.Error
		if !errors.As(err, &known) {
			yield(c, err)
			return true
		}
		ours := endpointsFault(known)
		if ours {
			m.cool(ctx, e, known)
		}
		failed.add(e.Name, known)
		if began || !ours {
			yield(c, failed.error())
			return true
		}
		return false
	}
	return true
}

func (m *Model) recovered(ctx context.Context, e *endpoint) {
	if n := e.works(); n > 0 {
		m.log.LogAttrs(ctx, slog.LevelInfo, "model endpoint answers again", slog.String("model", e.Name), slog.Int("failures", n))
	}
}

func (m *Model) cool(ctx context.Context, e *endpoint, err *model.Error) {
	d := e.fails(m.now(), err.RetryAfter)
	m.log.LogAttrs(ctx, slog.LevelWarn, "model endpoint failed", slog.String("model", e.Name), slog.String("code", err.Code),
		slog.String("error", err.Message), slog.Duration("cooldown", d))
}

// Embed asks the first endpoint only: vectors of two models can't be compared.
func (m *Model) Embed(ctx context.Context, name string, texts []string) ([][]float32, error) {
	e, ok := m.endpoints[0].Model.(model.Embedder)
	if !ok {
		return nil, errs.New(errs.Unsupported, "the model's endpoint gives no embeddings")
	}
	return e.Embed(ctx, name, texts)
}
