package etcdstore

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

const (
	// progressEvery is how often a watch asks how far it is, so that a revision under other keys shows too.
	progressEvery = time.Second
	retryMin      = 100 * time.Millisecond
	retryMax      = 2 * time.Second
	// silentFor ends a watch that answers nothing, though it is asked every second.
	silentFor = 8 * time.Second
)

// Watch follows prefix. The client resumes by itself after a lost connection; when etcd ends the watch (no leader, a
// member that stops), Watch begins anew after the last revision that emit got.
func (s *Store) Watch(ctx context.Context, prefix string, after int64, emit func(store.Batch) error) error {
	asked := ctx
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	w := &watch{store: s, prefix: prefix, after: after, emit: emit}
	wait := retryMin
	for {
		before := w.after
		again, err := w.follow(ctx)
		switch {
		case asked.Err() != nil:
			return nil // the end of ctx is how a watch is asked to end
		case ctx.Err() != nil:
			return errClosed()
		case !again:
			return err
		}
		if w.after > before {
			wait = retryMin
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		wait = min(2*wait, retryMax)
	}
}

// watch is one Watch under way.
type watch struct {
	store  *Store
	prefix string
	after  int64 // what emit got
	emit   func(store.Batch) error
}

// follow runs one watch of the client until it ends; again says that a new one may go on. Fragments stay off: etcd
// then never splits a revision over two responses.
func (w *watch) follow(ctx context.Context) (again bool, err error) {
	ctx, cancel := context.WithCancel(ownStream(clientv3.WithRequireLeader(ctx)))
	defer cancel()
	from, end := span(w.prefix)
	responses := w.store.watching.Watch(ctx, from, clientv3.WithRange(end), clientv3.WithRev(w.after+1), clientv3.WithProgressNotify())
	progress := time.NewTicker(progressEvery)
	defer progress.Stop()
	silent := time.NewTimer(silentFor)
	defer silent.Stop()
	for {
		select {
		case <-progress.C:
			if err := w.store.watching.RequestProgress(ctx); err != nil {
				return true, err
			}
		case <-silent.C:
			return true, errs.New(errs.Timeout, "the watch answered nothing for %s", silentFor)
		case resp, ok := <-responses:
			if !ok {
				return true, nil
			}
			silent.Reset(silentFor)
			if resp.CompactRevision != 0 {
				return false, errs.New(errs.OutOfRange, "revision %d was compacted, %d is the oldest", w.after, resp.CompactRevision)
			}
			if err := resp.Err(); err != nil {
				return true, err
			}
			if err := w.deliver(resp); err != nil {
				return false, err
			}
		}
	}
}

// watches counts them, to tell their streams apart.
var watches atomic.Uint64 //nolint:gochecknoglobals // a name for a stream, nothing else

// ownStream gives a watch a stream of its own on the client's connection: the client puts watches whose contexts carry the same metadata onto
// one. On a shared stream the answer to RequestProgress goes to every watch of it, also to one that began in the past just then and
// hasn't been sent what it missed; it would take that for sent.
func ownStream(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "agentry-watch", strconv.FormatUint(watches.Add(1), 10))
}

// deliver passes a response on. Its header shows the store's revision, not how far the response goes, unless it is
// a progress notice.
func (w *watch) deliver(resp clientv3.WatchResponse) error {
	batch := store.Batch{Revision: w.after}
	if resp.IsProgressNotify() {
		batch.Revision = max(w.after, resp.Header.Revision)
	}
	for _, e := range resp.Events {
		if e.Kv.ModRevision <= w.after {
			continue // a resumed watch may repeat
		}
		kv := fromEtcd(e.Kv)
		deleted := e.Type == clientv3.EventTypeDelete
		if deleted {
			kv = store.KV{Key: kv.Key, ModRevision: kv.ModRevision}
		}
		batch.Events = append(batch.Events, store.Event{KV: kv, Deleted: deleted})
		batch.Revision = max(batch.Revision, kv.ModRevision)
	}
	if batch.Revision == w.after {
		return nil
	}
	if err := w.emit(batch); err != nil {
		return err
	}
	w.after = batch.Revision
	return nil
}
