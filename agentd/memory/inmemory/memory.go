package inmemory

import (
	"context"
	"slices"
	"time"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/tokens"
)

// Strategy says what of a session reaches the model. It never starts in the middle of an exchange.
type Strategy string

// The strategies.
const (
	None        Strategy = "none"         // all that is held
	Window      Strategy = "window"       // the newest MaxTurns
	TokenBudget Strategy = "token-budget" // the newest that fit MaxTokens, by estimate
)

// The defaults of a Config.
const (
	DefaultWindow = 20
	DefaultTokens = 8_000
)

// Config is one config's view of a Store. Store is required.
type Config struct {
	Store     *Store
	Strategy  Strategy      // "" and "default" mean TokenBudget
	TTL       time.Duration // since the last exchange; default 24 h
	MaxTurns  int           // messages; default 20 for Window, else no bound of its own
	MaxTokens int           // default 8000 for TokenBudget, else no bound of its own
}

// Memory is a view of a Store.
type Memory struct{ cfg Config }

var _ memory.Memory = (*Memory)(nil)

// New makes a view; errors are of kind Invalid.
func New(cfg Config) (*Memory, error) {
	if cfg.Store == nil {
		return nil, errs.New(errs.Invalid, "memory: no store")
	}
	switch cfg.Strategy {
	case "", "default":
		cfg.Strategy = TokenBudget
	case None, Window, TokenBudget:
	default:
		return nil, errs.New(errs.Invalid, "memory: compressionStrategy %q (none, window or token-budget)", cfg.Strategy)
	}
	if cfg.TTL <= 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.Strategy == Window && cfg.MaxTurns <= 0 {
		cfg.MaxTurns = DefaultWindow
	}
	if cfg.Strategy == TokenBudget && cfg.MaxTokens <= 0 {
		cfg.MaxTokens = DefaultTokens
	}
	return &Memory{cfg: cfg}, nil
}

// Recall implements memory.Memory; it never fails.
func (m *Memory) Recall(_ context.Context, k memory.Key, _ memory.Query) (memory.Recollection, error) {
	turns, config := m.cfg.Store.recall(k)
	return memory.Recollection{Turns: m.compress(turns), Config: config}, nil
}

// Remember implements memory.Memory; it never fails.
func (m *Memory) Remember(_ context.Context, k memory.Key, e memory.Exchange) error {
	config := ""
	for _, t := range e.Turns {
		if t.Config != "" {
			config = t.Config
		}
	}
	m.cfg.Store.remember(k, config, e.Turns, m.cfg.TTL)
	return nil
}

// Search implements memory.Memory.
func (m *Memory) Search(context.Context, memory.Key, string, int) ([]memory.Turn, error) {
	return nil, nil
}

// Compact implements memory.Memory.
func (m *Memory) Compact(context.Context, memory.Key, memory.Summarize) error { return nil }

// Forget implements memory.Memory; it never fails.
func (m *Memory) Forget(_ context.Context, k memory.Key) error {
	m.cfg.Store.forget(k)
	return nil
}

func (m *Memory) compress(turns []memory.Turn) []memory.Turn {
	if m.cfg.Strategy == None {
		return turns
	}
	from, spent := len(turns), 0
	for from > 0 {
		if m.cfg.MaxTurns > 0 && len(turns)-from >= m.cfg.MaxTurns {
			break
		}
		spent += 4 + tokens.Estimate(turns[from-1].Text)
		if m.cfg.MaxTokens > 0 && spent > m.cfg.MaxTokens {
			break
		}
		from--
	}
	if from == 0 {
		return turns
	}
	for from < len(turns) && turns[from].Role != "user" {
		from++
	}
	return slices.Clip(turns[from:])
}
