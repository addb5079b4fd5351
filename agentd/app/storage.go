package app

import (
	"context"
	"log/slog"

	"github.com/agentry/agentry/agentd/assembler"
	"github.com/agentry/agentry/agentd/memory/inmemory"
	"github.com/agentry/agentry/agentd/memory/strategy"
	"github.com/agentry/agentry/agentd/pending/inpending"
)

// storages makes where sessions and suspended runs are kept. What is kept in the process is kept in one place, whatever the config, so that
// a change of it loses no session.
type storages struct {
	memory  *inmemory.Store
	pending *inpending.Store
	log     *slog.Logger
}

var _ assembler.StorageFactory = (*storages)(nil)

func newStorages(log *slog.Logger) (*storages, error) {
	store, err := inmemory.NewStore(inmemory.StoreConfig{})
	if err != nil {
		return nil, err
	}
	runs, err := inpending.New(inpending.Config{})
	if err != nil {
		return nil, err
	}
	return &storages{memory: store, pending: runs, log: log}, nil
}

// NewStorage makes one of the storage type that the spec names.
func (f *storages) NewStorage(s assembler.StorageSettings) (assembler.Storage, error) {
	m, err := inmemory.New(inmemory.Config{Store: f.memory, Strategy: f.strategy(s)})
	if err != nil {
		return nil, err
	}
	return local{assembler.Stores{Memory: m, Sessions: m, Pending: f.pending}}, nil
}

func (f *storages) strategy(s assembler.StorageSettings) strategy.Config {
	m := s.Spec
	c := strategy.Config{
		Compression: strategy.Compression(m.CompressionStrategy), Search: strategy.Search(m.SearchStrategy),
		TTL: m.TTL.Std(), MaxTurns: m.MaxTurns, MaxTokens: m.MaxTokens, EmbeddingModel: m.EmbeddingModel, Log: f.log,
	}
	if s.Embed != nil {
		c.Embed = s.Embed.Embed
	}
	return c
}

// local is a storage in the process: it can't be away.
type local struct{ stores assembler.Stores }

// Stores gives its ports.
func (l local) Stores() assembler.Stores { return l.stores }

// Connect has nothing to wait for.
func (local) Connect(context.Context) error { return nil }

// State is always good.
func (local) State() assembler.StorageState { return assembler.StorageState{Healthy: true} }
