package register

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/world"
)

// Config is what a Suite needs.
type Config struct {
	World    *world.World
	Findings *report.Findings
	// Run names the run and Seed makes its choices.
	Run  string
	Seed uint64
	// Registers is how many of each kind; Clients work on all of them, and wait about Think between two operations.
	Registers, Clients int
	Think              time.Duration
	// Reads is the part of reads among the operations.
	Reads float64
	// Chunk is after how many operations a register's history is checked and forgotten.
	Chunk int
	// KeysCount says that a repeated call under one idempotency key is answered as the first was.
	KeysCount bool
	// Acked is told of every acknowledged write: the store's revision and the key of the head; nil: nobody is.
	Acked func(revision int64, key string)
}

// Stats are the counts so far.
type Stats struct {
	Acked, Stale, Reads, Unknown, UnknownReads int
	Checked, Chunks, Undecided                 int
	Errors                                     map[string]int // by code: tries that failed
	Gaps                                       []Gap          // the longest times without an acknowledged write, longest first
}

// Gap is a time in which no write was acknowledged.
type Gap struct {
	From   time.Time     `json:"from"`
	Length time.Duration `json:"length"`
}

// Suite works on the registers and checks what it saw.
type Suite struct {
	cfg       Config
	began     time.Time
	registers []*register
	log       *Log
	doors     []*world.Door

	mu      sync.Mutex // guards what follows
	stats   Stats
	lastAck time.Time
}

// register is one register with the history of its present chunk.
type register struct {
	target Target
	using  sync.RWMutex // held for reading during an operation, for writing while a chunk is cut

	mu    sync.Mutex // guards what follows
	first State
	ops   []Op
	known int64
}

func (r *register) saw(version int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = max(r.known, version)
}

func (r *register) seen() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known
}

// New sets the registers up and reads them.
func New(ctx context.Context, cfg Config) (*Suite, error) {
	log, err := NewLog(filepath.Join(cfg.World.Dir, "api-history.jsonl"))
	if err != nil {
		return nil, err
	}
	s := &Suite{cfg: cfg, log: log, began: time.Now(), doors: cfg.World.Doors(), lastAck: time.Now()}
	s.stats.Errors = map[string]int{}
	if err := Setup(ctx, s.doors[0], cfg.Registers); err != nil {
		return nil, err
	}
	for _, t := range Targets(cfg.Registers) {
		first, err := t.Read(world.Linearizable(ctx), s.doors[0])
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", t.Name(), err)
		}
		s.registers = append(s.registers, &register{target: t, first: first, known: first.Version})
	}
	return s, nil
}

func (s *Suite) now() time.Duration { return time.Since(s.began) }

// Run works until ctx ends, then checks what is left. It returns when everything was checked.
func (s *Suite) Run(ctx context.Context) error {
	s.mu.Lock()
	s.lastAck = time.Now()
	s.mu.Unlock()
	var clients, checker sync.WaitGroup
	for i := range s.cfg.Clients {
		c := &client{id: i, r: rand.New(rand.NewPCG(s.cfg.Seed, uint64(i))), suite: s, doors: s.cfg.World.Doors()} //nolint:gosec // seeded on purpose; i is small
		clients.Go(func() { c.run(ctx) })
	}
	chunks := make(chan chunk, 64) // full: who cuts waits, and the clients of that register with it
	checker.Go(func() {
		for c := range chunks {
			s.check(c)
		}
	})
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		for _, r := range s.registers {
			r.mu.Lock()
			full := len(r.ops) >= s.cfg.Chunk
			r.mu.Unlock()
			if full {
				s.cut(ctx, r, chunks)
			}
		}
	}
	clients.Wait()
	for _, r := range s.registers {
		s.cut(context.WithoutCancel(ctx), r, chunks)
	}
	close(chunks)
	checker.Wait()
	return s.log.Close()
}

// done notes an operation that ended.
func (s *Suite) done(r *register, op Op) {
	r.mu.Lock()
	r.ops = append(r.ops, op)
	r.mu.Unlock()
	if err := s.log.Add(op); err != nil {
		s.cfg.Findings.Violate("harness", "%v", err)
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case op.Kind == Read && op.Outcome == OK:
		s.stats.Reads++
	case op.Kind == Read:
		s.stats.UnknownReads++
	case op.Outcome == Unknown:
		s.stats.Unknown++
	case op.Outcome == Stale:
		s.stats.Stale++
	default:
		s.stats.Acked++
		if op.Revision != 0 && s.cfg.Acked != nil {
			s.cfg.Acked(op.Revision, r.target.Head())
		}
		s.gap(now)
	}
}

// gap notes the time since the last acknowledged write. s.mu is held.
func (s *Suite) gap(now time.Time) {
	if d := now.Sub(s.lastAck); d > time.Second {
		s.stats.Gaps = append(s.stats.Gaps, Gap{s.lastAck, d})
		slices.SortFunc(s.stats.Gaps, func(a, b Gap) int { return cmp.Compare(b.Length, a.Length) })
		s.stats.Gaps = s.stats.Gaps[:min(len(s.stats.Gaps), 1000)]
	}
	s.lastAck = now
}

func (s *Suite) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Errors[connect.CodeOf(err).String()]++
}

// Stats gives the counts so far.
func (s *Suite) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Errors, out.Gaps = maps.Clone(out.Errors), slices.Clone(out.Gaps)
	return out
}

// KeysCount tells whether repeated calls were taken as one.
func (s *Suite) KeysCount() bool { return s.cfg.KeysCount }

// Pause waits for the operations under way and lets no other begin until the answer is called: for when the whole control plane is to
// be away.
func (s *Suite) Pause() (again func()) {
	for _, r := range s.registers {
		r.using.Lock()
	}
	return func() {
		s.mu.Lock()
		s.lastAck = time.Now()
		s.mu.Unlock()
		for _, r := range s.registers {
			r.using.Unlock()
		}
	}
}
