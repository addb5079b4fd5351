package redistask

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

// How a keeper's death is told from a server that is slow for a while. A keeper that the server hasn't heard of for silence and, while this
// process itself was heard without a pause longer than missed, for suspicion more is dead: 3 s and a beat after its last word.
const (
	every     = 400 * time.Millisecond
	silence   = 1500 * time.Millisecond
	suspicion = 1500 * time.Millisecond
	missed    = 1200 * time.Millisecond
)

// toldAtOnce is how many tasks wait for Ended in this process; more wait in the server.
const toldAtOnce = 100

// pulse is what the beats brought.
type pulse struct {
	ended chan task.Ref

	mu     sync.Mutex // guards what follows
	last   time.Time  // when the server heard of this process last
	silent map[string]suspect
	heard  []string // notes that were taken, for the server to forget
}

type suspect struct {
	score string    // when it was heard of last, as the server says
	since time.Time // when this was seen first
}

func newPulse() pulse {
	return pulse{ended: make(chan task.Ref, toldAtOnce), silent: map[string]suspect{}}
}

// beat says that this process lives until ctx ends.
func (s *Store) beat(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := s.once(ctx); err != nil && ctx.Err() == nil && !errs.Is(err, errs.Unavailable) { // the client tells of those
			s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "the store of tasks can't say that this instance lives", slog.String("error", err.Error()))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// once is one beat. Where the server was away it is asked at once, whatever its client thinks of it: others are waiting for a word.
func (s *Store) once(ctx context.Context) error {
	if s.cfg.Client.Sick() != nil {
		if err := s.cfg.Client.Probe(ctx); err != nil {
			return err
		}
	}
	p := &s.pulse
	args := []any{s.self, cap(p.ended) - len(p.ended), silence.Milliseconds()}
	p.mu.Lock()
	forget := p.heard
	p.mu.Unlock()
	for _, n := range forget {
		args = append(args, n)
	}
	answer, err := s.eval(ctx, s.run.beat, args...)
	if err != nil {
		return fmt.Errorf("say that this instance lives: %w", err)
	}
	list, _ := answer.([]any)
	if len(list) != 2 {
		return errs.New(errs.Internal, "an answer of %d parts", len(list))
	}
	notes, _ := list[0].([]any)
	silent, _ := list[1].([]any)
	for _, ref := range p.take(texts(notes)) {
		s.cache.drop(nameOf(ref))
	}
	p.suspect(texts(silent), time.Now())
	return nil
}

// take hands tasks on to Ended. The server keeps them until it hears that they were taken.
func (p *pulse) take(notes []string) (taken []task.Ref) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = p.heard[:0:0]
	for _, n := range notes {
		if ref, err := readNote(n); err == nil {
			select {
			case p.ended <- ref:
				taken = append(taken, ref)
			default: // it asked for no more than there is room for
				continue
			}
		}
		p.heard = append(p.heard, n)
	}
	return taken
}

// suspect notes who is silent, by pairs of a keeper and when it was heard of.
func (p *pulse) suspect(pairs []string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	steady := now.Sub(p.last) <= missed
	p.last = now
	next := make(map[string]suspect, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		keeper, score := pairs[i], pairs[i+1]
		next[keeper] = suspect{score: score, since: now}
		if old, ok := p.silent[keeper]; ok && steady && old.score == score {
			next[keeper] = old
		}
	}
	p.silent = next
}

// dead gives the keepers that are held for dead.
func (p *pulse) dead(now time.Time) []any {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.last) > missed {
		return nil
	}
	var out []any
	for keeper, s := range p.silent {
		if s.score == "0" || now.Sub(s.since) >= suspicion {
			out = append(out, keeper)
		}
	}
	return out
}

// Orphans implements task.Shared. A process that said goodbye is known by the next beat, one that died within four seconds.
func (s *Store) Orphans(ctx context.Context, limit int) ([]task.Record, error) {
	s.live()
	dead := s.pulse.dead(time.Now())
	if len(dead) == 0 {
		return nil, nil
	}
	list, _, err := s.kept(ctx, "", limit, silence, dead) // whoever is taken over is on the list no more
	return list, err
}

// Kept gives tasks that aren't terminal and whose Keeper this process is, at most limit, those that were changed longest ago first. after goes on
// behind a call before: it is that one's next, which is "" where nothing more follows; "": from the start.
func (s *Store) Kept(ctx context.Context, after string, limit int) (list []task.Record, next string, err error) {
	return s.kept(ctx, after, limit, 0, []any{s.self})
}

func (s *Store) kept(ctx context.Context, after string, limit int, silent time.Duration, keepers []any) (open []task.Record, next string, err error) {
	answer, err := s.eval(ctx, s.run.kept, append([]any{max(limit, 1), silent.Milliseconds(), after}, keepers...)...)
	if err != nil {
		return nil, "", fmt.Errorf("read whose tasks are kept: %w", err)
	}
	list, _ := answer.([]any)
	if len(list) == 0 {
		return nil, "", errs.New(errs.Internal, "read whose tasks are kept: no place")
	}
	next, _ = list[0].(string)
	hs, err := s.loadAll(ctx, texts(list[1:]))
	if err != nil {
		return nil, "", err
	}
	return records(hs), next, nil
}

// Ended implements task.Shared.
func (s *Store) Ended(ctx context.Context) (task.Ref, error) {
	s.live()
	select {
	case ref := <-s.pulse.ended:
		return ref, nil
	case <-ctx.Done():
		return task.Ref{}, ctx.Err()
	case <-s.life.Done():
		return task.Ref{}, errClosed()
	}
}
