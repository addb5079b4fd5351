// Package etcdstore is the store over etcd: an embedded member with no listener of its own, an embedded member of several, or endpoints of
// an external cluster. Behind all of them stands the same code on clientv3.Client. The control plane's app opens it; it
// knows nothing of what is stored, and nobody else speaks etcd.
package etcdstore

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

const (
	// callTimeout bounds a call whose ctx has no deadline.
	callTimeout = 5 * time.Second
	// maxRequest is the largest transaction in bytes that the embedded member takes; an external one has its own.
	maxRequest = 8 << 20
)

// Store is a store.Store over etcd. Use OpenEmbedded, OpenCluster or Dial.
type Store struct {
	storeParts

	onClose func(cancel func()) (stop func() bool)
	end     context.CancelFunc
	full    chan struct{} // a write met the end of the space; holds one

	mu       sync.Mutex // guards closed
	closed   bool
	inFlight sync.WaitGroup
	closing  sync.Once
	closeErr error
}

// storeParts is what the ways to open a store differ in.
type storeParts struct {
	kind store.Kind
	// client is for everything but watches: those have a connection of their own, so that a large answer holds none up.
	client, watching *clientv3.Client
	several          bool // members: one may die, and the others go on
	quota            int64
	members          func(ctx context.Context) []store.Member // each asked by itself
	release          func() error                             // ends what the clients stand on
}

func newStore(parts storeParts) *Store {
	ctx, end := context.WithCancel(context.Background())
	return &Store{
		storeParts: parts,
		onClose:    func(cancel func()) func() bool { return context.AfterFunc(ctx, cancel) },
		end:        end,
		full:       make(chan struct{}, 1),
	}
}

// background runs f until Close, which waits for it.
func (s *Store) background(f func(ctx context.Context)) {
	ctx, done, err := s.begin(context.Background())
	if err != nil {
		return
	}
	go func() {
		defer done()
		f(ctx)
	}()
}

// begin joins a call to the store's life: ctx ends with Close, which waits for done.
func (s *Store) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, errClosed()
	}
	s.inFlight.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := s.onClose(cancel)
	return ctx, func() {
		stop()
		cancel()
		s.inFlight.Done()
	}, nil
}

// call is begin for calls that answer at once: they get a deadline when ctx has none.
func (s *Store) call(ctx context.Context) (_ context.Context, done func(), err error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	if _, ok := ctx.Deadline(); ok {
		return clientv3.WithRequireLeader(ctx), end, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	return clientv3.WithRequireLeader(ctx), func() { cancel(); end() }, nil
}

// Get reads one key, linearizably.
func (s *Store) Get(ctx context.Context, key string) (store.KV, error) {
	ctx, done, err := s.call(ctx)
	if err != nil {
		return store.KV{}, err
	}
	defer done()
	var resp *clientv3.GetResponse
	err = s.try(ctx, reads, func(ctx context.Context) (err error) {
		resp, err = s.client.Get(ctx, key)
		return err
	})
	if err != nil {
		return store.KV{}, s.fault("get", err)
	}
	if len(resp.Kvs) == 0 {
		return store.KV{}, errs.New(errs.NotFound, "no key %q", key)
	}
	return fromEtcd(resp.Kvs[0]), nil
}

// List reads keys by prefix. Without a Limit the answer is one message, however long.
func (s *Store) List(ctx context.Context, prefix string, opts store.ListOptions) (store.Page, error) {
	ctx, done, err := s.call(ctx)
	if err != nil {
		return store.Page{}, err
	}
	defer done()
	from, end := span(prefix)
	from = max(from, opts.From)
	if end != "\x00" && from >= end { // past the prefix: only the revision is wanted
		from, opts.Limit, opts.KeysOnly = prefix, 1, true
	}
	ops := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(int64(opts.Limit)), clientv3.WithRev(opts.Revision)}
	if opts.KeysOnly {
		ops = append(ops, clientv3.WithKeysOnly())
	}
	var resp *clientv3.GetResponse
	err = s.try(ctx, reads, func(ctx context.Context) (err error) {
		resp, err = s.client.Get(ctx, from, ops...)
		return err
	})
	if err != nil {
		return store.Page{}, s.fault("list", err)
	}
	page := store.Page{Revision: opts.Revision}
	if page.Revision == 0 {
		page.Revision = resp.Header.Revision
	}
	if opts.From > from {
		return page, nil
	}
	for _, kv := range resp.Kvs {
		page.KVs = append(page.KVs, fromEtcd(kv))
	}
	if resp.More && len(page.KVs) > 0 {
		page.Next = page.KVs[len(page.KVs)-1].Key + "\x00"
	}
	return page, nil
}

// Commit writes t, or nothing.
func (s *Store) Commit(ctx context.Context, t store.Txn) (int64, error) {
	if err := t.Check(); err != nil {
		return 0, err
	}
	ctx, done, err := s.call(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	var conds []clientv3.Cmp
	var then, otherwise []clientv3.Op
	for _, c := range t.If {
		conds = append(conds, clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.ModRevision))
		otherwise = append(otherwise, clientv3.OpGet(c.Key, clientv3.WithKeysOnly()))
	}
	for _, kv := range t.Puts {
		then = append(then, clientv3.OpPut(kv.Key, string(kv.Value)))
	}
	for _, key := range t.Deletes {
		then = append(then, clientv3.OpDelete(key))
	}
	does := writes
	if len(then) == 0 { // a transaction without any operation would be answered by a member that lags
		does = reads
		then = []clientv3.Op{clientv3.OpGet("\x00", clientv3.WithKeysOnly())}
	}
	var resp *clientv3.TxnResponse
	err = s.try(ctx, does, func(ctx context.Context) (err error) {
		resp, err = s.client.Txn(ctx).If(conds...).Then(then...).Else(otherwise...).Commit()
		return err
	})
	if err != nil {
		return 0, s.fault("commit", err)
	}
	if !resp.Succeeded {
		return 0, conflict(t.If, resp)
	}
	return resp.Header.Revision, nil
}

// conflict says which condition failed.
func conflict(conds []store.Cond, resp *clientv3.TxnResponse) error {
	for i, c := range conds {
		var at int64
		if kvs := resp.Responses[i].GetResponseRange().GetKvs(); len(kvs) > 0 {
			at = kvs[0].ModRevision
		}
		if at != c.ModRevision {
			return errs.New(errs.Conflict, "key %q is at revision %d, wanted %d", c.Key, at, c.ModRevision)
		}
	}
	return errs.New(errs.Conflict, "a condition failed")
}

// Close ends every call and watch that runs, waits for them and releases the client and the embedded member. It is safe
// twice and must not be called from within a watch's emit.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.end()
		s.inFlight.Wait()
		s.closeErr = s.release()
	})
	return s.closeErr
}

// span gives etcd's range of a prefix; an end of "\x00" means everything from the start on.
func span(prefix string) (from, end string) {
	if prefix == "" {
		return "\x00", "\x00"
	}
	return prefix, clientv3.GetPrefixRangeEnd(prefix)
}
