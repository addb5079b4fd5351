// Package redispending keeps suspended runs in a Redis 7 server, so that any instance of an agent can go on with them, and none is lost when
// an instance ends. Every change is one script; every key ends Keep after the last run that it is about.
package redispending

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"

	goredis "github.com/redis/go-redis/v9"

	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/internal/errs"
)

// The defaults of a Config.
const (
	DefaultMaxRuns     = 1_000
	DefaultMaxRunBytes = 8 << 20
)

// batch is how many runs are read at a time.
const batch = 50

var (
	//go:embed put.lua
	putSource string
	//go:embed update.lua
	updateSource string
	//go:embed delete.lua
	deleteSource string
)

// Config is what a Store is made of. Client is required and stays the caller's. Full: the oldest run that is final goes; where none is, a new
// one is refused.
type Config struct {
	Client      *redis.Client
	MaxRuns     int // of one agent
	MaxRunBytes int // of one run, its engine included
}

// Store keeps runs.
type Store struct {
	cfg              Config
	put, update, del *redis.Script
}

var _ pending.Store = (*Store)(nil)

// New makes a Store; errors are of kind Invalid. It asks the server nothing.
func New(cfg Config) (*Store, error) {
	if cfg.Client == nil {
		return nil, errs.New(errs.Invalid, "redispending: no client")
	}
	if cfg.MaxRuns < 0 || cfg.MaxRunBytes < 0 {
		return nil, errs.New(errs.Invalid, "redispending: a bound is negative")
	}
	if cfg.MaxRuns == 0 {
		cfg.MaxRuns = DefaultMaxRuns
	}
	if cfg.MaxRunBytes == 0 {
		cfg.MaxRunBytes = DefaultMaxRunBytes
	}
	return &Store{cfg: cfg, put: redis.NewScript(putSource), update: redis.NewScript(updateSource), del: redis.NewScript(deleteSource)}, nil
}

// Put implements pending.Store.
func (s *Store) Put(ctx context.Context, r pending.Run) error {
	args, err := s.args(r)
	if err != nil {
		return err
	}
	out, err := s.client().Eval(ctx, s.put, keysOf(r).all(), append(args, s.cfg.MaxRuns, runPrefix(r.Ref()))...)
	if err != nil {
		return fmt.Errorf("suspend a run: %w", err)
	}
	switch out {
	case "ok":
		return nil
	case "exists":
		return errs.New(errs.Exists, "there is a run %s", r.ID)
	case "full":
		return errs.New(errs.Exhausted, "too many runs wait: no more can be suspended until some are decided about")
	default:
		return errs.New(errs.Conflict, "the session has a run that waits: %v", out)
	}
}

// Get implements pending.Store.
func (s *Store) Get(ctx context.Context, ref pending.Ref) (pending.Run, error) {
	var run pending.Run
	found := false
	err := s.client().Do(ctx, func(ctx context.Context, cmd redis.Commands) error {
		fields, err := cmd.HMGet(ctx, runPrefix(ref)+ref.ID, "version", "body", "engine").Result()
		if err != nil {
			return err
		}
		run, found, err = decode(fields)
		return err
	})
	if err != nil {
		return pending.Run{}, fmt.Errorf("read a suspended run: %w", err)
	}
	if !found {
		return pending.Run{}, missing(ref)
	}
	return run, nil
}

// List implements pending.Store.
func (s *Store) List(ctx context.Context, f pending.Filter) ([]pending.Run, error) {
	limit := f.Limit
	if limit <= 0 {
		limit = pending.DefaultLimit
	}
	var out []pending.Run
	err := s.client().Do(ctx, func(ctx context.Context, cmd redis.Commands) error {
		out = nil
		ids, err := candidates(ctx, cmd, f)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(ids, batch) {
			runs, err := read(ctx, cmd, f, part)
			if err != nil {
				return err
			}
			out = append(out, runs...)
			if len(out) >= limit && f.ExpiresBefore.IsZero() { // the candidates come newest first then
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list suspended runs: %w", err)
	}
	slices.SortFunc(out, pending.Newest)
	return out[:min(len(out), limit)], nil
}

// candidates gives the IDs among which the filter's runs are.
func candidates(ctx context.Context, cmd redis.Commands, f pending.Filter) ([]string, error) {
	n := keysOf(pending.Run{Namespace: f.Namespace, Agent: f.Agent, Principal: f.Principal, Session: f.Session})
	switch {
	case f.Session != "" && slices.Equal(f.States, []pending.State{pending.Waiting}):
		id, err := cmd.Get(ctx, n.wait).Result()
		if errors.Is(err, goredis.Nil) {
			return nil, nil
		}
		return []string{id}, err
	case f.ExpiresBefore.IsZero():
		return cmd.ZRange(ctx, n.index, 0, -1).Result()
	case len(f.States) > 0 && !slices.ContainsFunc(f.States, pending.State.Final):
		return cmd.ZRangeByScore(ctx, n.open, before(f.ExpiresBefore.UnixMilli())).Result()
	default:
		return cmd.ZRangeByScore(ctx, n.ends, before(f.ExpiresBefore.Add(pending.Keep).UnixMilli())).Result()
	}
}

func before(ms int64) *goredis.ZRangeBy {
	return &goredis.ZRangeBy{Min: "-inf", Max: strconv.FormatInt(ms, 10)} // inclusive, Filter.Matches decides
}

// read gives those of the named runs that the filter chooses, without their engines.
func read(ctx context.Context, cmd redis.Commands, f pending.Filter, ids []string) ([]pending.Run, error) {
	prefix := runPrefix(pending.Ref{Namespace: f.Namespace, Agent: f.Agent})
	answers := make([]*goredis.SliceCmd, len(ids))
	_, err := cmd.Pipelined(ctx, func(p goredis.Pipeliner) error {
		for i, id := range ids {
			answers[i] = p.HMGet(ctx, prefix+id, "version", "body")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []pending.Run
	for _, a := range answers {
		r, found, err := decode(a.Val())
		if err != nil {
			return nil, err
		}
		if found && f.Matches(r) {
			out = append(out, r)
		}
	}
	return out, nil
}

// Update implements pending.Store.
func (s *Store) Update(ctx context.Context, r pending.Run) (pending.Run, error) {
	args, err := s.args(r)
	if err != nil {
		return pending.Run{}, err
	}
	out, err := s.client().Eval(ctx, s.update, keysOf(r).all(), append(args, r.Version)...)
	if err != nil {
		return pending.Run{}, fmt.Errorf("write a suspended run: %w", err)
	}
	switch out {
	case "ok":
		r = r.Clone()
		r.Version++
		return r, nil
	case "missing":
		return pending.Run{}, missing(r.Ref())
	default:
		return pending.Run{}, errs.New(errs.Conflict, "the run %s has moved on: read it again", r.ID)
	}
}

// Delete implements pending.Store.
func (s *Store) Delete(ctx context.Context, ref pending.Ref) error {
	r, err := s.Get(ctx, ref)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := s.client().Eval(ctx, s.del, keysOf(r).all(), r.ID); err != nil {
		return fmt.Errorf("drop a suspended run: %w", err)
	}
	return nil
}

func (s *Store) client() *redis.Client { return s.cfg.Client }

func missing(ref pending.Ref) error { return errs.New(errs.NotFound, "there is no run %s", ref.ID) }
