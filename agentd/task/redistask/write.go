package redistask

import (
	"context"
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

// tries is how often an Update begins anew because others came first; wave is the longest it waits before that.
const (
	tries = 30
	wave  = 20 * time.Millisecond
)

// inline is how large an event in the stream may be, in bytes; a larger one has a key of its own.
const inline = 8 << 10

// Create implements task.Store.
func (s *Store) Create(ctx context.Context, r task.Record) (task.Record, error) {
	if err := checkKeeper(r); err != nil {
		return task.Record{}, err
	}
	s.live()
	r.Version, r.Seq = 1, 0
	if r.Task.Size() > s.cfg.Bounds.Bytes {
		return task.Record{}, errs.New(errs.Exhausted, "task %s: it would be larger than %d bytes", r.Task.ID, s.cfg.Bounds.Bytes)
	}
	h := held{rec: r, call: rand.Text()}
	texts, err := marshalAll(headless(r), r.Task.History, r.Task.Artifacts)
	if err != nil {
		return task.Record{}, err
	}
	h.whole = len(texts[2])
	args := append(place(r), s.ttl(r), h.call, s.cfg.MaxTasks, s.cfg.MaxBytes, texts[0], texts[1], texts[2])
	answer, err := s.eval(ctx, s.run.create, args...)
	if err != nil {
		return task.Record{}, fmt.Errorf("write a task: %w", err)
	}
	switch answer {
	case "ok":
		s.keep(nameOf(r.Ref()), h)
		return r, nil
	case "exists":
		return task.Record{}, errs.New(errs.Exists, "task %s is there already", r.Task.ID)
	default:
		return task.Record{}, errs.New(errs.Exhausted, "the agent has as many tasks under way as it can hold; try again")
	}
}

// checkKeeper keeps out what would be read wrongly from the indexes.
func checkKeeper(r task.Record) error {
	if strings.ContainsAny(r.Keeper, " \t\r\n\v\f") || strings.Contains(r.Task.ID, "\x00") {
		return errs.New(errs.Invalid, "task %s: a keeper has no spaces, an ID no zero byte", r.Task.ID)
	}
	return nil
}

// ttl is how long a record is held from now, in ms.
func (s *Store) ttl(r task.Record) int64 {
	if r.Task.Status.State.Terminal() {
		return s.cfg.TTL.Milliseconds()
	}
	return s.cfg.OpenTTL.Milliseconds()
}

// keep remembers a record of which this process is the one who writes; another's changes are noticed by the version.
func (s *Store) keep(name string, h held) {
	if h.rec.Keeper == s.self && !h.rec.Task.Status.State.Terminal() {
		s.cache.put(name, h)
		return
	}
	s.cache.drop(name)
}

// Update implements task.Store. It waits once where the server is away for a moment, and writes once whatever becomes of the answers.
func (s *Store) Update(ctx context.Context, ref task.Ref, change func(r *task.Record) ([]task.Event, error)) (task.Record, error) {
	s.live()
	name := nameOf(ref)
	unlock, err := s.locks.take(ctx, name)
	if err != nil {
		return task.Record{}, err
	}
	defer unlock()
	h, cached := s.cache.get(name)
	for try := range tries {
		if !cached {
			if h, err = s.load(ctx, ref); err != nil {
				s.cache.drop(name)
				return task.Record{}, err
			}
		}
		w, err := s.apply(h, change)
		if err != nil {
			if cached { // it may come from a record that is no longer true
				cached = false
				continue
			}
			return task.Record{}, err
		}
		answer, err := s.write(ctx, w)
		if err != nil {
			s.cache.drop(name) // whether it was written isn't known
			return task.Record{}, fmt.Errorf("write a task: %w", err)
		}
		switch answer {
		case "ok":
			s.keep(name, w.next)
			return w.next.rec, nil
		case "missing":
			s.cache.drop(name)
			return task.Record{}, missing(ref)
		case "full":
			return task.Record{}, errs.New(errs.Exhausted, "the agent has as many bytes in tasks as it can hold; try again")
		}
		if cached = false; try > 0 {
			if err := pause(ctx, mrand.N(wave)); err != nil { //nolint:gosec // no secret
				return task.Record{}, err
			}
		}
	}
	return task.Record{}, errs.New(errs.Unavailable, "task %s is changed by too many at a time; try again", ref.ID)
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errs.New(errs.KindOf(ctx.Err()), "wait for a task: %w", context.Cause(ctx))
	}
}

// write is a change as it is sent, always by the same arguments.
type write struct {
	next held
	args []any
}

// apply lets change alter a record, and prepares to write what came of it.
func (s *Store) apply(h held, change func(r *task.Record) ([]task.Event, error)) (write, error) {
	old := h.rec
	r := old
	r.Push = append([]task.Push(nil), r.Push...)
	events, err := change(&r)
	if err != nil {
		return write{}, err
	}
	r.Task, r.Seq, r.Version, r.Owner = old.Task, old.Seq, old.Version+1, old.Owner
	if err := checkKeeper(r); err != nil {
		return write{}, err
	}
	forced, talked := false, false
	var pieces []any
	sent := make([]any, 0, 2*len(events))
	for i := range events {
		e := &events[i]
		r.Seq++
		e.Seq = r.Seq
		if r.Task, err = task.Apply(r.Task, *e, s.cfg.Bounds); err != nil {
			return write{}, err
		}
		forced = forced || e.Status != nil
		talked = talked || e.Chunk == nil
		text, err := marshal(e)
		if err != nil {
			return write{}, err
		}
		sent = append(sent, e.Seq)
		if len(text) > inline {
			sent = append(sent, "")
		}
		sent = append(sent, text)
		if e.Chunk != nil {
			piece, err := marshal(e.Chunk)
			if err != nil {
				return write{}, err
			}
			pieces = append(pieces, piece)
			h.pieces += len(piece)
		}
	}
	follows := strconv.FormatInt(old.Version, 10) + " " + h.call
	h.rec, h.call = r, rand.Text()
	w := write{next: h}
	return w, w.fill(s, follows, forced, talked, pieces, sent)
}

// fill makes the arguments. Pieces that outgrew what they follow are written together with it, and so is all that ended.
func (w *write) fill(s *Store, follows string, forced, talked bool, pieces, sent []any) error {
	r := w.next.rec
	top, err := marshal(headless(r))
	if err != nil {
		return err
	}
	history, artifacts := "", ""
	if talked {
		if history, err = marshal(r.Task.History); err != nil {
			return err
		}
	}
	together := w.next.pieces > max(minPieces, w.next.whole) || w.next.pieces > 0 && r.Task.Status.State.Terminal()
	if together {
		if artifacts, err = marshal(r.Task.Artifacts); err != nil {
			return err
		}
		w.next.whole, w.next.pieces, pieces = len(artifacts), 0, nil
	}
	to, err := note(r.Ref())
	if err != nil {
		return err
	}
	w.args = append(place(r), s.ttl(r), w.next.call, follows, r.Seq, flag(!forced), s.cfg.MaxBytes, s.self, to, top,
		flag(talked), history, flag(together), artifacts, len(pieces))
	w.args = append(append(w.args, pieces...), sent...)
	return nil
}

// write sends a change, and once more where the server was away: the second time does nothing where the first one was heard.
func (s *Store) write(ctx context.Context, w write) (any, error) {
	answer, err := s.eval(ctx, s.run.update, w.args...)
	if !errs.Is(err, errs.Unavailable) || s.cfg.Client.Sick() == nil {
		return answer, err
	}
	if s.cfg.Client.Await(ctx) != nil {
		return nil, err
	}
	return s.eval(ctx, s.run.update, w.args...)
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// headless is a record without what may be large and is kept beside it.
func headless(r task.Record) task.Record {
	r.Task.History, r.Task.Artifacts = nil, nil
	return r
}

func marshalAll(vs ...any) ([]string, error) {
	out := make([]string, len(vs))
	for i, v := range vs {
		var err error
		if out[i], err = marshal(v); err != nil {
			return nil, err
		}
	}
	return out, nil
}
