package redismemory

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/memory/strategy"
	"github.com/agentry/agentry/agentd/memory/turnstile"
	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/internal/errs"
)

// maxListed bounds a principal's sessions in the index; beyond it the ones unused for longest are only reached by their name.
const maxListed = 10_000

// store keeps sessions in Redis.
type store struct {
	cfg       Config
	client    *redis.Client
	scripts   scripts
	turnstile turnstile.Turnstile

	mu    sync.Mutex // guards holds; never held over I/O
	holds map[memory.Key]*hold

	stop    context.CancelFunc
	done    chan struct{}
	closing sync.Once
}

var _ strategy.Store = (*store)(nil)

func newStore(cfg Config) *store {
	return &store{cfg: cfg, client: cfg.Client, scripts: newScripts(), holds: map[memory.Key]*hold{}, done: make(chan struct{})}
}

// Load implements strategy.Log.
func (s *store) Load(ctx context.Context, k memory.Key) (strategy.Session, error) {
	n := keysOf(k)
	out, err := s.client.Eval(ctx, s.scripts.load, []string{n.meta, n.turns})
	if err != nil {
		return strategy.Session{}, fmt.Errorf("recall: %w", err)
	}
	fields, _ := out.([]any)
	if len(fields) == 0 {
		return strategy.Session{}, nil
	}
	if len(fields) != 7 {
		return strategy.Session{}, errs.New(errs.Internal, "recall: a script gave %d fields instead of 7", len(fields))
	}
	ses := strategy.Session{Life: text(fields[0]), First: number(fields[1]), Config: text(fields[2])}
	ses.Summary = strategy.Summary{Text: text(fields[3]), Until: number(fields[4]), Failed: int(number(fields[5]))}
	lines, _ := fields[6].([]any)
	for _, l := range lines {
		turns, err := decode(text(l))
		if err != nil {
			return strategy.Session{}, errs.New(errs.Internal, "recall: %w", err)
		}
		ses.Exchanges = append(ses.Exchanges, turns)
	}
	return ses, nil
}

// Append implements strategy.Log. A request that entered its session before the server went away waits for it once, for the client's deadline:
// its answer is made already. It is refused with errs.Conflict where this process entered the session and another one was let in since.
func (s *store) Append(ctx context.Context, k memory.Key, e memory.Exchange, ttl time.Duration) error {
	fence, err := s.fence(k)
	if err != nil {
		return err
	}
	id := idOf(e.ID)
	line, err := encode(id, e.Turns)
	if err != nil {
		return errs.New(errs.Internal, "remember: %w", err)
	}
	config := ""
	for _, t := range e.Turns {
		if t.Config != "" {
			config = t.Config
		}
	}
	n, life := keysOf(k), rand.Text()
	write := func() (any, error) {
		return s.client.Eval(ctx, s.scripts.add, []string{n.meta, n.turns, n.ids, n.vectors, n.fence, n.index},
			id, line, len(e.Turns), config, ttl.Milliseconds(), life, k.Session, n.sid, fence, s.cfg.MaxSessionTurns, s.cfg.MaxSessionBytes, maxListed)
	}
	out, err := write()
	if errs.Is(err, errs.Unavailable) && s.mayWait(k) && s.client.Await(ctx) == nil {
		out, err = write()
	}
	if err != nil {
		return fmt.Errorf("remember: %w", err)
	}
	if number(out) != 1 {
		return takenOver()
	}
	return nil
}

// Summarise implements strategy.Log.
func (s *store) Summarise(ctx context.Context, k memory.Key, life string, was, is strategy.Summary) error {
	out, err := s.client.Eval(ctx, s.scripts.summarise, []string{keysOf(k).meta},
		life, was.Text, was.Until, was.Failed, is.Text, is.Until, is.Failed)
	if err != nil {
		return fmt.Errorf("summarise: %w", err)
	}
	if number(out) != 1 {
		return errs.New(errs.Conflict, "summarise: the session moved on")
	}
	return nil
}

// Forget implements strategy.Log.
func (s *store) Forget(ctx context.Context, k memory.Key) error {
	n := keysOf(k)
	if _, err := s.client.Eval(ctx, s.scripts.forget, []string{n.meta, n.turns, n.ids, n.vectors, n.index}, n.sid); err != nil {
		return fmt.Errorf("forget: %w", err)
	}
	return nil
}

// Vectors implements strategy.Vectors.
func (s *store) Vectors(ctx context.Context, k memory.Key, life, space string) (map[int64][]byte, error) {
	n := keysOf(k)
	out, err := s.client.Eval(ctx, s.scripts.vectors, []string{n.meta, n.vectors}, life, space)
	if err != nil {
		return nil, fmt.Errorf("read vectors: %w", err)
	}
	pairs, _ := out.([]any)
	vs := make(map[int64][]byte, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		if at, err := strconv.ParseInt(text(pairs[i]), 10, 64); err == nil { // all but the field "space"
			vs[at] = []byte(text(pairs[i+1]))
		}
	}
	return vs, nil
}

// KeepVectors implements strategy.Vectors.
func (s *store) KeepVectors(ctx context.Context, k memory.Key, life, space string, vs map[int64][]byte) error {
	n := keysOf(k)
	args := make([]any, 0, 2+2*len(vs))
	args = append(args, life, space)
	for at, v := range vs {
		args = append(args, at, v)
	}
	if _, err := s.client.Eval(ctx, s.scripts.keepVectors, []string{n.meta, n.vectors}, args...); err != nil {
		return fmt.Errorf("keep vectors: %w", err)
	}
	return nil
}

// List implements strategy.Order.
func (s *store) List(ctx context.Context, o memory.Owner, limit int) ([]memory.Info, error) {
	var out []memory.Info
	err := s.client.Do(ctx, func(ctx context.Context, cmd redis.Commands) error {
		var err error
		out, err = list(ctx, cmd, o, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return out, nil
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// number reads what a script gave; "" is 0.
func number(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case string:
		n, _ := strconv.ParseInt(v, 10, 64)
		return n
	default:
		return 0
	}
}
