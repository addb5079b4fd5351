package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/agentry/agentry/agentd/assembler"
	"github.com/agentry/agentry/agentd/memory/inmemory"
	"github.com/agentry/agentry/agentd/memory/redismemory"
	"github.com/agentry/agentry/agentd/memory/strategy"
	"github.com/agentry/agentry/agentd/pending/inpending"
	"github.com/agentry/agentry/agentd/pending/redispending"
	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/agentd/task/redistask"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/phase"
)

// storages makes where sessions and suspended runs are kept. What is kept in the process is kept in one place, whatever the config, so that
// a change of it loses no session.
type storages struct {
	memory  *inmemory.Store
	pending *inpending.Store
	clients redis.Clients
	guard   *egress.Guard
	log     *slog.Logger
}

var _ assembler.StorageFactory = (*storages)(nil)

func newStorages(guard *egress.Guard, log *slog.Logger) (*storages, error) {
	store, err := inmemory.NewStore(inmemory.StoreConfig{})
	if err != nil {
		return nil, err
	}
	runs, err := inpending.New(inpending.Config{})
	if err != nil {
		return nil, err
	}
	return &storages{memory: store, pending: runs, guard: guard, log: log}, nil
}

// NewStorage makes one of the storage type that the spec names.
func (f *storages) NewStorage(s assembler.StorageSettings) (assembler.Storage, error) {
	if s.Spec.StorageType == "redis" {
		return f.shared(s)
	}
	m, err := inmemory.New(inmemory.Config{Store: f.memory, Strategy: f.strategy(s)})
	if err != nil {
		return nil, err
	}
	return local{assembler.Stores{Memory: m, Sessions: m, Pending: f.pending}}, nil
}

// shared makes one in Redis, for all instances of the agent.
func (f *storages) shared(s assembler.StorageSettings) (assembler.Storage, error) {
	where := redis.Config{
		Address: s.Spec.Address, Credential: value(s.Spec.Credential, s.Credentials), Prefix: redis.Prefix(s.Namespace, s.Agent),
		Dial: f.guard.DialContext, Log: f.log,
	}
	secretKey := s.Spec.Credential.Ref + "\n" + redis.Digest(s.Spec.Credential.Literal)
	client, release, err := f.clients.Take(where, secretKey)
	if err != nil {
		return nil, err
	}
	runs, err := redispending.New(redispending.Config{Client: client})
	if err != nil {
		release()
		return nil, err
	}
	m, err := redismemory.New(redismemory.Config{Client: client, Strategy: f.strategy(s), OnClose: release, Log: f.log})
	if err != nil {
		release()
		return nil, err
	}
	tasks, err := f.tasks(where, secretKey)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return &remote{
		client: client, memory: m, tasks: tasks, stop: client.OnChange(s.Changed),
		stores: assembler.Stores{Memory: m, Sessions: m, Pending: runs, Tasks: tasks},
	}, nil
}

// tasks makes the store of the A2A door's tasks; the connections are those of the rest, held by themselves.
func (f *storages) tasks(where redis.Config, secretKey string) (*sharedTasks, error) {
	client, release, err := f.clients.Take(where, secretKey)
	if err != nil {
		return nil, err
	}
	store, err := redistask.New(redistask.Config{Client: client, Log: f.log})
	if err != nil {
		release()
		return nil, err
	}
	return newSharedTasks(store, release), nil
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

// remote is a storage in Redis.
type remote struct {
	client *redis.Client
	memory *redismemory.Memory
	tasks  *sharedTasks
	stores assembler.Stores
	stop   func()
}

// Stores gives its ports.
func (r *remote) Stores() assembler.Stores { return r.stores }

// Connect asks the server once.
func (r *remote) Connect(ctx context.Context) error {
	err := r.client.Probe(ctx)
	var why *redis.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &why):
		return &assembler.ServerError{Code: why.Code, Err: why}
	default:
		return &assembler.ServerError{Code: phase.Timeout, Err: fmt.Errorf("redis %s: %w", r.client.Address(), err)}
	}
}

// State is how the server stood last.
func (r *remote) State() assembler.StorageState {
	if why := r.client.Sick(); why != nil {
		return assembler.StorageState{Code: why.Code, Message: why.Error()}
	}
	return assembler.StorageState{Healthy: true}
}

// Close ends what the storage does in the background, then gives its connections back.
func (r *remote) Close() error {
	r.stop()
	r.tasks.release()
	return r.memory.Close()
}
