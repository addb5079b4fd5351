package releaser

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// actor is who moves heads without a person.
const actor = "releaser"

// maxForgotten is how many applied configs of dropped revisions one write removes.
const maxForgotten = 50

// transaction is one decision: the head, the record of its moves, and what must be kept, all or nothing.
func (s *sight) transaction(next release.State, actions []release.Action, policies map[manifest.Hash][]byte, now time.Time, term int64) store.Txn {
	var t store.Txn
	record := view.MoveRecord{Actor: actor, Time: now, Term: term}
	write, kept := false, false
	for _, a := range actions {
		switch a := a.(type) {
		case release.Write:
			write = true
		case release.Moved:
			write = true
			if a.Move == release.MoveProve {
				continue // nothing moved for anyone: no entry in the log
			}
			record.Cause, record.Message = cause(a.Move), a.Cause
			record.Heads = append(record.Heads, view.HeadMove{
				Kind: manifest.KindAgent, Namespace: s.key.Namespace, Name: s.head.Name, Revision: a.Revision,
				From: number(a.From), To: number(a.To), Config: a.Config, Move: a.Move, Faults: a.Faults,
			})
		case release.KeepApplied:
			kept = true
			key := keepApplied(&t, s.key.Namespace, s.head.Name, a, policies, func(h manifest.Hash) bool {
				_, kept := s.im.Blob(h)
				return kept
			})
			t.If = append(t.If, store.Cond{Key: key})
		case release.KeepRefusal:
			t.Puts = append(t.Puts, store.KV{
				Key: view.RefusalKey(s.key.Namespace, s.head.Name, a.Refusal.Hash),
				Value: view.Encode(view.RefusalRecord{
					Revision: a.Refusal.Revision, Config: a.Config, Instance: a.Refusal.Instance,
					Faults: a.Refusal.Faults, Time: a.Refusal.At,
				}),
			})
		}
	}
	if kept {
		s.forget(&t)
	}
	if !write {
		return t
	}
	head := s.head
	if release.OwnMove(actions) {
		head = head.Moved(next)
	} else {
		head = head.Noted(next, s.mod)
	}
	if len(record.Heads) > 0 { // the first APPLIED of a stable is no move: whoever applied it stays named
		head.Updated, head.UpdatedBy = now, actor
	}
	key := view.HeadKey(manifest.KindAgent, s.key.Namespace, s.head.Name)
	t.If = append(t.If, store.Cond{Key: key, ModRevision: s.mod})
	t.Puts = append(t.Puts, store.KV{Key: key, Value: view.Encode(head)})
	if len(record.Heads) > 0 {
		id := fmt.Sprintf("%020d-%016x", now.UnixNano(), rand.Uint64()) //nolint:gosec // G404: unique is enough, nobody may guess
		t.Puts = append(t.Puts, store.KV{Key: view.MoveKey(s.key.Namespace, id), Value: view.Encode(record)})
	}
	return t
}

// keepApplied stores an applied config, and those of its policies that aren't kept: a veto or a pin may go back to them when the
// head has moved on. Whose instance was the first stays recorded if the caller makes it a condition that there is no record.
func keepApplied(t *store.Txn, namespace, agent string, a release.KeepApplied, policies map[manifest.Hash][]byte, kept func(manifest.Hash) bool) (key string) {
	key = view.AppliedKey(namespace, agent, a.Config.Hash)
	t.Puts = append(t.Puts, store.KV{Key: key, Value: view.Encode(view.Applied{
		Revision: a.Config.Revision, Config: manifest.ConfigName(a.Config.Revision, a.Config.Hash),
		Lines: a.Config.Lines, Instance: a.Instance, Time: a.At,
	})})
	for _, l := range a.Config.Lines {
		b, ok := policies[l.SHA256]
		if l.Kind != manifest.KindPolicy || !ok || kept(l.SHA256) {
			continue
		}
		kv := store.KV{Key: view.BlobKey(l.SHA256), Value: b}
		if !slices.ContainsFunc(t.Puts, func(p store.KV) bool { return p.Key == kv.Key }) {
			t.Puts = append(t.Puts, kv)
		}
	}
	return key
}

// forget removes applied configs of revisions that are no longer kept and that nobody runs (semantics.md 12).
func (s *sight) forget(t *store.Txn) {
	runs := map[manifest.Hash]bool{}
	for _, in := range s.instances {
		runs[in.Running.Token.Hash] = true
	}
	for _, a := range s.applied {
		if _, kept := s.head.State.Find(a.Revision); kept || runs[a.Hash] || len(t.Deletes) == maxForgotten {
			continue
		}
		t.Deletes = append(t.Deletes, view.AppliedKey(s.key.Namespace, s.head.Name, a.Hash))
	}
}

func cause(m release.Move) string {
	switch m {
	case release.MoveReturn, release.MoveHold:
		return "policy"
	case release.MoveVeto:
		return "veto"
	default:
		return "settled"
	}
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// write commits and says when to look again.
func (r *Releaser) write(ctx context.Context, s *sight, t store.Txn, actions []release.Action, out outcome) outcome {
	bounded, cancel := context.WithTimeout(ctx, r.cfg.WriteTimeout)
	defer cancel()
	// gofail: var beforeReleaserWrite struct{}
	// go panic("failpoint beforeReleaserWrite")
	// select {}

	revision, err := r.cfg.Store.Commit(bounded, t)
	// gofail: var afterReleaserWrite struct{}
	// go panic("failpoint afterReleaserWrite")
	// select {}

	switch {
	case err == nil:
		r.memo.succeeded(s.key)
		r.log(ctx, s, actions, revision)
		// What was just written changes what counts: look again as soon as the view shows it.
		if err := r.cfg.View.WaitFor(bounded, revision); err != nil {
			return outcome{due: time.Now().Add(backoffMin)}
		}
		return outcome{rest: out.rest, due: time.Now()}
	case ctx.Err() != nil:
		return outcome{}
	case errs.Is(err, errs.Conflict):
		return outcome{due: time.Now().Add(conflictWait)}
	}
	wait := r.memo.failed(s.key)
	r.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "release decision not written", slog.String("namespace", s.key.Namespace),
		slog.String("agent", s.head.Name), slog.Any("error", err), slog.Duration("retry_in", wait))
	return outcome{rest: wait, due: time.Now().Add(wait)}
}

func (r *Releaser) log(ctx context.Context, s *sight, actions []release.Action, revision int64) {
	for _, a := range actions {
		switch a := a.(type) {
		case release.Moved:
			r.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "release moved", slog.String("namespace", s.key.Namespace),
				slog.String("agent", s.head.Name), slog.String("move", string(a.Move)), slog.Int64("from", a.From),
				slog.Int64("to", a.To), slog.String("config", a.Config), slog.String("instance", a.Instance),
				slog.String("cause", a.Cause), slog.Int64("store_revision", revision))
		case release.KeepRefusal:
			r.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "config refused", slog.String("namespace", s.key.Namespace),
				slog.String("agent", s.head.Name), slog.String("config", a.Config), slog.String("instance", a.Refusal.Instance),
				slog.Int("faults", len(a.Refusal.Faults)), slog.Int64("store_revision", revision))
		}
	}
}
