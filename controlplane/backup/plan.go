package backup

import (
	"context"
	"fmt"
	"strings"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

// plan is a restore that may be done.
type plan struct {
	file   *File
	opts   Options
	stored view.Cluster // as the store has it now
	mod    int64
	other  bool // this control plane becomes another cluster
	access bool // tokens, roles and bindings are replaced
	result Result
}

// plan asks everything that can be asked before anything is written.
func (r *Restorer) plan(ctx context.Context, f *File, opts Options) (*plan, error) {
	p := &plan{file: f, opts: opts, result: Result{Written: map[string]int64{}}}
	var err error
	if p.stored, p.mod, err = r.current(ctx); err != nil {
		return nil, err
	}
	if was := p.stored.Restoring; was != nil && was.Replica != r.cfg.Replica {
		switch _, err := r.cfg.Store.Get(ctx, view.ReplicaPrefix+was.Replica); {
		case err == nil:
			return nil, errs.New(errs.Conflict, "%s: that replica lives, or died within the last seconds: wait for it, or try again", Describe(*was))
		case !errs.Is(err, errs.NotFound):
			return nil, fmt.Errorf("read who is alive: %w", err)
		}
	}
	p.other = f.Header.ClusterID != p.stored.ID
	if p.other && !opts.OtherCluster {
		return nil, errs.New(errs.Precondition, "the backup is of cluster %s, this is %s: where it is to become that one, ask for it (--other-cluster)", f.Header.ClusterID, p.stored.ID)
	}
	if err := p.decideAccess(ctx, r.cfg.Store); err != nil {
		return nil, err
	}
	next := r.next(p.stored, f.Header.Epoch, opts)
	next.ID, next.Greeted = f.Header.ClusterID, p.stored.Greeted || f.Cluster.Greeted
	next.Restored.Taken, next.Restored.BackupRevision = f.Header.Taken, f.Header.Revision
	p.result.Cluster = next
	p.announce()
	gone, err := p.goes(ctx, r.cfg.Store)
	if err != nil {
		return nil, err
	}
	if gone != "" {
		p.result.Notes = append(p.result.Notes, "what the backup doesn't have goes: "+gone)
	}
	return p, nil
}

// decideAccess: what was revoked since must not come back unless somebody asks for it, not even the last token there was. Only where
// this control plane becomes another and has nothing of its own is nobody's decision undone.
func (p *plan) decideAccess(ctx context.Context, s store.Store) error {
	if p.opts.Access || !p.other {
		p.access = p.opts.Access
		return nil
	}
	some := false
	err := each(ctx, s, view.AccessPrefix, 0, func(kv store.KV) error {
		some = some || !bootstraps(kv.Key)
		return nil
	})
	p.access = !some
	return err
}

// bootstraps says whether a record only tells which bootstrap tokens wait: every new control plane has it.
func bootstraps(key string) bool {
	return strings.HasSuffix(key, "/bootstrap") && strings.Count(strings.TrimPrefix(key, view.AccessPrefix), "/") <= 1
}

// announce counts what will be written, and says what won't.
func (p *plan) announce() {
	note := func(format string, args ...any) {
		p.result.Notes = append(p.result.Notes, fmt.Sprintf(format, args...))
	}
	have := p.file.Counts
	p.result.Written[ConfigSection.String()] = have[ConfigSection]
	switch {
	case p.access && have[AccessSection] > 0:
		note("tokens, roles and bindings are those of the backup: what was revoked or removed since counts again, what was made since doesn't")
	case !p.access:
		note("tokens, roles and bindings stay as they are (bring them back with --access)")
	}
	if p.other {
		note("this control plane becomes cluster %s: its certificate authority and certificates are those of the backup; join tokens aren't brought back, because one that was spent since would count again", p.file.Header.ClusterID)
		return
	}
	note("certificates, revocations and join tokens stay as they are, so that nothing revoked or spent comes back; so does the audit log")
}

// run writes everything between the first and the last transaction.
func (p *plan) run(ctx context.Context, w *writer) error {
	if err := p.blobs(ctx, w); err != nil {
		return fmt.Errorf("immutables: %w", err)
	}
	if err := p.remove(ctx, w); err != nil {
		return fmt.Errorf("what the backup doesn't have: %w", err)
	}
	if err := p.config(ctx, w); err != nil {
		return fmt.Errorf("heads: %w", err)
	}
	if p.access {
		n, err := p.replace(ctx, w, AccessSection, view.AccessPrefix, backups)
		if err != nil {
			return fmt.Errorf("access: %w", err)
		}
		p.result.Written[AccessSection.String()] = n
	}
	if !p.other {
		return nil
	}
	become := backups
	if w.cfg.Identity != nil {
		become = w.cfg.Identity
	}
	n, err := p.replace(ctx, w, IdentitySection, view.IdentityPrefix, become)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	p.result.Written[IdentitySection.String()] = n
	if w.cfg.Audit == nil {
		return nil
	}
	note, n, err := w.cfg.Audit(ctx, w.cfg.Store, func() func() (string, []byte, bool, error) {
		c := p.file.walk(AuditSection)
		return func() (string, []byte, bool, error) {
			r, ok, err := c.next()
			return r.Key, r.Value, ok, err
		}
	})
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	p.result.Written[AuditSection.String()] = n
	if note != "" {
		p.result.Notes = append(p.result.Notes, note)
	}
	return nil
}

// backups is what a key becomes where the backup alone counts.
func backups(_ string, backup, _ []byte) ([]byte, error) { return backup, nil }

// blobs writes the immutables that aren't there, or aren't what their hash says.
func (p *plan) blobs(ctx context.Context, w *writer) error {
	n, err := p.replace(ctx, w, BlobSection, view.BlobPrefix, backups)
	p.result.Written[BlobSection.String()] = n
	return err
}

// replace makes a section what become says, for every key that the backup or the store has, and counts what it wrote.
func (p *plan) replace(ctx context.Context, w *writer, section Section, prefix string, become func(key string, backup, stored []byte) ([]byte, error)) (int64, error) {
	out := bulk{w: w}
	theirs, ours := p.file.walk(section), pages{store: w.cfg.Store, prefix: prefix, opts: store.ListOptions{Limit: firstPage}}
	var written int64
	settle := func(key string, backup, stored []byte, there bool) error {
		value, err := become(key, backup, stored)
		switch {
		case err != nil:
			return err
		case value == nil && there:
			return out.delete(ctx, key)
		case value == nil, there && string(value) == string(stored):
			return nil
		}
		written++
		return out.put(ctx, key, value)
	}
	rec, more, err := theirs.next()
	for err == nil {
		var kv store.KV
		var there bool
		if kv, there, err = ours.next(ctx); err != nil {
			break
		}
		for more && err == nil && (!there || rec.Key < kv.Key) {
			if err = settle(rec.Key, some(rec.Value), nil, false); err == nil {
				rec, more, err = theirs.next()
			}
		}
		if err != nil || !there {
			break
		}
		var backup []byte
		if more && rec.Key == kv.Key {
			backup = some(rec.Value)
			rec, more, err = theirs.next()
		}
		if err == nil {
			err = settle(kv.Key, backup, some(kv.Value), true)
		}
	}
	if err != nil {
		return written, err
	}
	return written, out.flush(ctx)
}

// some makes an empty value different from none.
func some(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// remove takes out what the backup doesn't have, and what is made anew.
func (p *plan) remove(ctx context.Context, w *writer) error {
	out := bulk{w: w}
	walk := pages{store: w.cfg.Store, prefix: view.Root, opts: store.ListOptions{Limit: maxPage, KeysOnly: true}}
	for {
		kv, ok, err := walk.next(ctx)
		if err != nil {
			return err
		}
		if !ok {
			return out.flush(ctx)
		}
		if SectionOf(kv.Key) != ConfigSection {
			continue
		}
		if _, keep := p.file.keys[kv.Key]; keep {
			continue
		}
		if err := out.delete(ctx, kv.Key); err != nil {
			return err
		}
	}
}

// config writes heads, settings and the logs in the order of their old revisions.
func (p *plan) config(ctx context.Context, w *writer) error {
	o := ordered{p: p, w: w}
	places := p.file.config
	for len(places) > 0 {
		g := group{order: places[0].order}
		for len(places) > 0 && places[0].order == g.order {
			rec, err := p.file.record(places[0])
			if err != nil {
				return err
			}
			g.add(rec)
			places = places[1:]
		}
		if err := o.take(ctx, &g); err != nil {
			return err
		}
	}
	return o.flush(ctx)
}

// ordered writes groups in order and knows what their revisions became.
type ordered struct {
	p   *plan
	w   *writer
	m   became
	now batch
}

func (o *ordered) take(ctx context.Context, g *group) error {
	fits := o.now.fits(g)
	for _, r := range g.records {
		// The revision of the transaction that it goes into isn't known yet.
		fits = fits && (!strings.HasPrefix(r.Key, agentHeads) || o.now.from == 0 || refusedAt(r.Value) < o.now.from)
	}
	if !fits {
		if err := o.flush(ctx); err != nil {
			return err
		}
	}
	from := g.order
	if o.now.from != 0 {
		from = o.now.from
	}
	puts := make([]store.KV, 0, len(g.records))
	for _, r := range g.records {
		value := r.Value
		if strings.HasPrefix(r.Key, agentHeads) {
			var err error
			if value, err = mapped(r, &o.m, from); err != nil {
				return fmt.Errorf("%s: %w", r.Key, err)
			}
		}
		puts = append(puts, store.KV{Key: r.Key, Value: value})
	}
	o.now.add(g, puts)
	return nil
}

func (o *ordered) flush(ctx context.Context) error {
	if o.now.from == 0 {
		return nil
	}
	rev, err := o.w.commit(ctx, store.Txn{Puts: o.now.puts})
	if err != nil {
		return err
	}
	o.m.add(o.now.from, rev)
	o.now = batch{}
	return nil
}
