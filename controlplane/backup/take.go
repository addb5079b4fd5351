package backup

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/backupfile"
	"github.com/agentry/agentry/internal/errs"
)

// Pages of a listing begin with firstPage keys and then ask for as many as make about pageBytes.
const (
	firstPage = 50
	maxPage   = 2000
	pageBytes = 1 << 20
)

// Taking is what Take needs; everything is required.
type Taking struct {
	Store   store.Store
	Version string // of this controlplane
	KEK     string // names the key that values are sealed with
	Taken   time.Time
}

// Summary is what a backup holds.
type Summary struct {
	Header
	Records uint64
	Bytes   int64
}

// Take writes everything that the store keeps to out, as of one store revision: that of its first read, which is linearizable. It needs
// memory for one page and holds up nobody. When that revision is compacted meanwhile, it is errs.Unavailable and what was written is
// worth nothing: a reader sees that its end is missing.
func Take(ctx context.Context, cfg Taking, out io.Writer) (Summary, error) {
	first, err := cfg.Store.List(ctx, view.ClusterKey, store.ListOptions{Limit: 1})
	if err != nil {
		return Summary{}, fmt.Errorf("read the store: %w", err)
	}
	if len(first.KVs) != 1 || first.KVs[0].Key != view.ClusterKey {
		return Summary{}, errs.New(errs.Precondition, "the store has no cluster record")
	}
	cluster, err := view.Decode[view.Cluster](first.KVs[0].Value)
	switch {
	case err != nil:
		return Summary{}, fmt.Errorf("cluster record: %w", err)
	case cluster.Restoring != nil:
		return Summary{}, errs.New(errs.Precondition, "a restore is under way, or was broken off: the store is half of each; bring a backup back first")
	}
	h := Header{
		Format: backupfile.Format, ClusterID: cluster.ID, Epoch: cluster.Epoch, Revision: first.Revision, Taken: cfg.Taken.UTC(),
		Version: cfg.Version, KEK: cfg.KEK,
	}
	w, err := backupfile.NewWriter(out, h)
	if err != nil {
		return Summary{}, err
	}
	err = each(ctx, cfg.Store, view.Root, first.Revision, func(kv store.KV) error {
		if SectionOf(kv.Key) == NoSection {
			return nil
		}
		return w.Add(Record{Key: kv.Key, Value: kv.Value, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision})
	})
	if errs.Is(err, errs.OutOfRange) {
		return Summary{}, errs.New(errs.Unavailable, "the store was compacted while it was read: take the backup again")
	}
	if err != nil {
		return Summary{}, err
	}
	if err := w.Close(); err != nil {
		return Summary{}, err
	}
	s := Summary{Header: h}
	s.Records, s.Bytes = w.Count()
	return s, nil
}

// each calls f for every key under a prefix in order, page by page; revision 0 reads each page as it is then.
func each(ctx context.Context, s store.Store, prefix string, revision int64, f func(store.KV) error) error {
	p := pages{store: s, prefix: prefix, opts: store.ListOptions{Limit: firstPage, Revision: revision}}
	for {
		kv, ok, err := p.next(ctx)
		if err != nil || !ok {
			return err
		}
		if err := f(kv); err != nil {
			return err
		}
	}
}

// pages walks the keys under a prefix in order.
type pages struct {
	store  store.Store
	prefix string
	opts   store.ListOptions
	kvs    []store.KV
	ended  bool
}

// next gives the next key; false: there is none.
func (p *pages) next(ctx context.Context) (store.KV, bool, error) {
	for len(p.kvs) == 0 {
		if p.ended {
			return store.KV{}, false, nil
		}
		page, err := p.store.List(ctx, p.prefix, p.opts)
		if err != nil {
			return store.KV{}, false, fmt.Errorf("read the store: %w", err)
		}
		p.kvs, p.opts.From, p.ended = page.KVs, page.Next, page.Next == ""
		size := 0
		for _, kv := range page.KVs {
			size += len(kv.Key) + len(kv.Value)
		}
		if size > 0 {
			p.opts.Limit = min(max(len(page.KVs)*pageBytes/size, 1), maxPage)
		}
	}
	kv := p.kvs[0]
	p.kvs = p.kvs[1:]
	return kv, true, nil
}
