package inmemory

import (
	"github.com/agentry/agentry/agentd/memory/strategy"
	"github.com/agentry/agentry/internal/errs"
)

// Config is one config's view of a Store. Store is required.
type Config struct {
	Store    *Store
	Strategy strategy.Config
}

// New makes a view; errors are of kind Invalid. The view's calls never wait, but for Enter and what strategies ask of a model.
func New(cfg Config) (*strategy.Memory, error) {
	if cfg.Store == nil {
		return nil, errs.New(errs.Invalid, "memory: no store")
	}
	return strategy.New(cfg.Store, cfg.Strategy)
}
