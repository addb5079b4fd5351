package view

import (
	"container/list"
	"context"
	"log/slog"
	"sync"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// maxRecent bounds the bytes of blobs that no head names now: versions read lately or just replaced.
const maxRecent = 32 << 20

// blobs knows every blob of the store and keeps the bytes of those that instances may be served from now: the specs in
// play, the labelled and newest prompt versions, the current MCP versions. The others are read from the store when
// somebody asks, and kept for a while.
type blobs struct {
	known  map[manifest.Hash]struct{}
	pinned map[manifest.Hash]*pinnedBlob
	bytes  int64 // of the pinned ones
	recent *recent
}

// pinnedBlob is one that heads name; bytes are nil while it isn't in the store.
type pinnedBlob struct {
	bytes []byte
	uses  int
}

func newBlobs() blobs {
	return blobs{known: map[manifest.Hash]struct{}{}, pinned: map[manifest.Hash]*pinnedBlob{}, recent: newRecent(maxRecent)}
}

// held gives bytes that are in memory.
func (b *blobs) held(h manifest.Hash) ([]byte, bool) {
	if p := b.pinned[h]; p != nil && p.bytes != nil {
		return p.bytes, true
	}
	return b.recent.get(h)
}

// pin counts one more head that names a blob. ready holds bytes at hand.
func (b *blobs) pin(h manifest.Hash, ready map[manifest.Hash][]byte) {
	p := b.pinned[h]
	if p == nil {
		p = &pinnedBlob{}
		b.pinned[h] = p
		bytes, ok := ready[h]
		if !ok {
			bytes, _ = b.recent.get(h)
		}
		b.fill(h, bytes)
	}
	p.uses++
}

// unpin counts one less.
func (b *blobs) unpin(h manifest.Hash) {
	p := b.pinned[h]
	if p == nil {
		return
	}
	if p.uses--; p.uses > 0 {
		return
	}
	delete(b.pinned, h)
	b.bytes -= int64(len(p.bytes))
	if p.bytes != nil {
		b.recent.add(h, p.bytes)
	}
}

// fill gives a pinned blob its bytes.
func (b *blobs) fill(h manifest.Hash, bytes []byte) {
	p := b.pinned[h]
	b.bytes += int64(len(bytes)) - int64(len(p.bytes))
	p.bytes = bytes
	b.recent.drop(h)
}

// add takes a blob of the store in.
func (b *blobs) add(h manifest.Hash, bytes []byte) {
	b.known[h] = struct{}{}
	switch {
	case b.pinned[h] != nil:
		b.fill(h, bytes)
	case bytes != nil:
		b.recent.add(h, bytes)
	}
}

// remove takes a blob out that the store no longer has.
func (b *blobs) remove(h manifest.Hash) {
	delete(b.known, h)
	if b.pinned[h] != nil {
		b.fill(h, nil)
	}
	b.recent.drop(h)
}

// recent is a cache of blobs, bounded by their bytes: the least recently used goes first. It is safe for concurrent use.
type recent struct {
	max int64

	mu    sync.Mutex // guards what follows
	order *list.List // of *recentBlob, most recently used first
	items map[manifest.Hash]*list.Element
	size  int64
}

type recentBlob struct {
	hash  manifest.Hash
	bytes []byte
}

func newRecent(most int64) *recent {
	return &recent{max: most, order: list.New(), items: map[manifest.Hash]*list.Element{}}
}

func (r *recent) get(h manifest.Hash) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.items[h]
	if e == nil {
		return nil, false
	}
	r.order.MoveToFront(e)
	return blobOf(e).bytes, true
}

func (r *recent) add(h manifest.Hash, bytes []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.items[h]; e != nil {
		r.order.MoveToFront(e)
		return
	}
	if int64(len(bytes)) > r.max {
		return
	}
	r.items[h] = r.order.PushFront(&recentBlob{hash: h, bytes: bytes})
	r.size += int64(len(bytes))
	for r.size > r.max {
		r.take(r.order.Back())
	}
}

func (r *recent) drop(h manifest.Hash) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.items[h]; e != nil {
		r.take(e)
	}
}

func (r *recent) take(e *list.Element) {
	b := blobOf(e)
	r.order.Remove(e)
	delete(r.items, b.hash)
	r.size -= int64(len(b.bytes))
}

func blobOf(e *list.Element) *recentBlob {
	b, _ := e.Value.(*recentBlob)
	return b
}

// Knows reports whether the store holds a blob, without reading it.
func (v *View) Knows(h manifest.Hash) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	_, ok := v.blobs.known[h]
	return ok
}

// Blob gives immutable bytes, which the caller must not change. What no head names now is read from the store: a store
// that doesn't answer is a blob that isn't there. Who can tell the difference calls ReadBlob.
func (v *View) Blob(h manifest.Hash) ([]byte, bool) {
	b, err := v.ReadBlob(context.Background(), h)
	if err != nil && !errs.Is(err, errs.NotFound) {
		v.log.LogAttrs(context.Background(), slog.LevelWarn, "view can't read a blob", slog.String("hash", h.String()), slog.Any("error", err))
	}
	return b, err == nil
}

// ReadBlob gives immutable bytes, which the caller must not change: from memory or, when no head names them now, from the
// store. A blob that isn't there is NotFound; otherwise errors are the store's.
func (v *View) ReadBlob(ctx context.Context, h manifest.Hash) ([]byte, error) {
	v.mu.RLock()
	b, ok := v.blobs.held(h)
	_, known := v.blobs.known[h]
	v.mu.RUnlock()
	switch {
	case ok:
		return b, nil
	case !known:
		return nil, errs.New(errs.NotFound, "no blob %s", h)
	}
	b, err := v.fetch(ctx, h)
	if err != nil {
		return nil, err
	}
	v.blobs.recent.add(h, b)
	return b, nil
}

// fetch reads a blob from the store.
func (v *View) fetch(ctx context.Context, h manifest.Hash) ([]byte, error) {
	v.fetched.Add(1)
	kv, err := v.store.Get(ctx, BlobKey(h))
	if err != nil {
		return nil, err
	}
	if manifest.Sum(kv.Value) != h {
		return nil, errs.New(errs.Internal, "blob %s doesn't have its key's hash", h)
	}
	return kv.Value, nil
}
