// Package strategy decides what of a session reaches the model: how it is compressed and what is searched for. It stands between the port
// and the stores (inmemory, redismemory), which only keep what was said. It asks the embedding function that it is given and nobody else.
package strategy

import (
	"context"
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/tokens"
)

// Compression says how much of a session reaches the model. An exchange is never cut.
type Compression string

// The compressions.
const (
	None        Compression = "none"         // all that is held
	Window      Compression = "window"       // the newest MaxTurns
	TokenBudget Compression = "token-budget" // the newest that fit MaxTokens, by estimate
	Summarize   Compression = "summarize"    // a summary of the older ones, then the newest that fit MaxTokens
)

// Search says which older exchanges are brought back where not all fit.
type Search string

// The searches.
const (
	Recency Search = "recency" // none: the newest only
	Keyword Search = "keyword" // those that share words with the request, by BM25
	Vector  Search = "vector"  // those whose embeddings are near the request's
	Hybrid  Search = "hybrid"  // both ranks, fused
)

// The defaults of a Config.
const (
	DefaultTTL    = 24 * time.Hour
	DefaultWindow = 20
	DefaultTokens = 8_000
)

// Embed turns texts into vectors, one for each, in order.
type Embed func(ctx context.Context, model string, texts []string) ([][]float32, error)

// Config chooses the strategies; they are those of the spec's memory section. "" and "default" are TokenBudget and Recency.
type Config struct {
	Compression Compression
	Search      Search
	TTL         time.Duration // since the last exchange; 0: 24 h
	MaxTurns    int           // messages; 0: 20 for Window, else no bound of its own
	MaxTokens   int           // 0: 8000 for TokenBudget and Summarize, else no bound of its own
	// Embed and EmbeddingModel are needed for Vector and Hybrid.
	Embed          Embed
	EmbeddingModel string
	Log            *slog.Logger // nil: none
}

// Memory is a Store seen through strategies.
type Memory struct {
	cfg   Config
	store Store
}

var (
	_ memory.Memory   = (*Memory)(nil)
	_ memory.Sessions = (*Memory)(nil)
)

// New makes a Memory; errors are of kind Invalid.
func New(store Store, cfg Config) (*Memory, error) {
	if store == nil {
		return nil, errs.New(errs.Invalid, "memory: no store")
	}
	switch cfg.Compression {
	case "", "default":
		cfg.Compression = TokenBudget
	case None, Window, TokenBudget, Summarize:
	default:
		return nil, errs.New(errs.Invalid, "memory: compressionStrategy %q (none, window, token-budget or summarize)", cfg.Compression)
	}
	switch cfg.Search {
	case "", "default":
		cfg.Search = Recency
	case Recency, Keyword:
	case Vector, Hybrid:
		if cfg.Embed == nil || cfg.EmbeddingModel == "" {
			return nil, errs.New(errs.Invalid, "memory: searchStrategy %q needs embeddingModel and a model endpoint", cfg.Search)
		}
	default:
		return nil, errs.New(errs.Invalid, "memory: searchStrategy %q (recency, keyword, vector or hybrid)", cfg.Search)
	}
	if cfg.TTL < 0 || cfg.MaxTurns < 0 || cfg.MaxTokens < 0 {
		return nil, errs.New(errs.Invalid, "memory: ttl, maxTurns and maxTokens can't be negative")
	}
	if cfg.TTL == 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.Compression == Window && cfg.MaxTurns == 0 {
		cfg.MaxTurns = DefaultWindow
	}
	if (cfg.Compression == TokenBudget || cfg.Compression == Summarize) && cfg.MaxTokens == 0 {
		cfg.MaxTokens = DefaultTokens
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Memory{cfg: cfg, store: store}, nil
}

// Recall implements memory.Memory.
func (m *Memory) Recall(ctx context.Context, k memory.Key, q memory.Query) (memory.Recollection, error) {
	s, err := m.store.Load(ctx, k)
	if err != nil || s.Life == "" {
		return memory.Recollection{}, err
	}
	count := q.Estimate
	if count == nil {
		count = tokens.Estimate
	}
	r := memory.Recollection{Config: s.Config}
	spent, open := budget{}, 0
	if m.cfg.Compression == Summarize && s.Summary.Text != "" {
		r.Summary = s.Summary.Text
		spent.tokens = count(r.Summary)
		open = int(min(max(s.Summary.Until-s.First, 0), int64(len(s.Exchanges))))
	}
	from := m.newest(s.Exchanges[open:], spent, m.limits(), count) + open
	if from > 0 && m.cfg.Search != Recency && q.Text != "" {
		r.Turns = flatten(m.bringBack(ctx, k, s, q.Text, spent, open, count))
		return r, nil
	}
	r.Turns = flatten(s.Exchanges[from:])
	return r, nil
}

// Remember implements memory.Memory. An Exchange without an ID gets one: it is never taken for another.
func (m *Memory) Remember(ctx context.Context, k memory.Key, e memory.Exchange) error {
	if len(e.Turns) == 0 {
		return nil
	}
	if e.ID == "" {
		e.ID = rand.Text()
	}
	return m.store.Append(ctx, k, e, m.cfg.TTL)
}

// Search implements memory.Memory. Recency gives the newest turns, newest first.
func (m *Memory) Search(ctx context.Context, k memory.Key, query string, n int) ([]memory.Turn, error) {
	s, err := m.store.Load(ctx, k)
	if err != nil || n <= 0 {
		return nil, err
	}
	var out []memory.Turn
	for _, i := range m.rank(ctx, k, s, query, len(s.Exchanges)) {
		for _, t := range bestFirst(s.Exchanges[i], query, m.cfg.Search) {
			if out = append(out, t); len(out) == n {
				return out, nil
			}
		}
	}
	return out, nil
}

// Forget implements memory.Memory.
func (m *Memory) Forget(ctx context.Context, k memory.Key) error { return m.store.Forget(ctx, k) }

// Enter implements memory.Sessions.
func (m *Memory) Enter(ctx context.Context, k memory.Key) (leave func(), err error) {
	return m.store.Enter(ctx, k)
}

// History implements memory.Sessions.
func (m *Memory) History(ctx context.Context, k memory.Key, limit int) ([]memory.Turn, error) {
	s, err := m.store.Load(ctx, k)
	if err != nil {
		return nil, err
	}
	if s.Life == "" {
		return nil, errs.New(errs.NotFound, "there is no session %q", k.Session)
	}
	turns := flatten(s.Exchanges)
	if limit > 0 && len(turns) > limit {
		turns = turns[len(turns)-limit:]
	}
	return turns, nil
}

// List implements memory.Sessions.
func (m *Memory) List(ctx context.Context, o memory.Owner, limit int) ([]memory.Info, error) {
	if limit <= 0 {
		limit = 100
	}
	return m.store.List(ctx, o, limit)
}

// flatten gives the turns in a slice of its own.
func flatten(exchanges [][]memory.Turn) []memory.Turn {
	n := 0
	for _, e := range exchanges {
		n += len(e)
	}
	if n == 0 {
		return nil
	}
	out := make([]memory.Turn, 0, n)
	for _, e := range exchanges {
		out = append(out, e...)
	}
	return out
}
