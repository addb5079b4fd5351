package headwrite

import (
	"maps"
	"slices"
	"strings"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
)

// Change is one transaction being put together, all in one namespace: the heads it writes, what it read on the way, and
// its log. One goroutine uses it.
type Change struct {
	namespace string
	reads     map[string]int64 // head key -> ModRevision it was read at; 0: it wasn't there
	written   map[string]bool  // the heads among them that are written
	puts      []store.KV
	blobs     map[manifest.Hash][]byte
	moves     []view.HeadMove
}

// NewChange makes one without writes.
func NewChange(namespace string) *Change {
	return &Change{namespace: namespace, reads: map[string]int64{}, written: map[string]bool{}, blobs: map[manifest.Hash][]byte{}}
}

// Namespace is that of everything it writes.
func (c *Change) Namespace() string { return c.namespace }

// Heads counts the heads that it writes.
func (c *Change) Heads() int { return len(c.puts) }

// Empty reports whether there is nothing to write.
func (c *Change) Empty() bool { return len(c.puts) == 0 }

// Read notes that the change depends on a head as it was read at mod; 0: it wasn't there.
func (c *Change) Read(kind, name string, mod int64) {
	c.reads[view.HeadKey(kind, c.namespace, name)] = mod
}

// Put writes a head that was read at mod.
func (c *Change) Put(kind, name string, mod int64, value []byte) {
	key := view.HeadKey(kind, c.namespace, name)
	c.reads[key] = mod
	c.written[key] = true
	c.puts = append(c.puts, store.KV{Key: key, Value: value})
}

// Replace writes a head together with its log entry; a second write of the same head takes the place of the first.
func (c *Change) Replace(kind, name string, mod int64, value []byte, m view.HeadMove) {
	key := view.HeadKey(kind, c.namespace, name)
	if i := slices.IndexFunc(c.puts, func(kv store.KV) bool { return kv.Key == key }); i >= 0 {
		c.puts[i].Value = value
	} else {
		c.Put(kind, name, mod, value)
	}
	c.Move(m)
}

// Move adds an entry to the log.
func (c *Change) Move(m view.HeadMove) {
	m.Namespace = c.namespace
	c.moves = append(c.moves, m)
}

// Keep adds immutable bytes, which are written before the heads, and gives their hash.
func (c *Change) Keep(b []byte) manifest.Hash {
	h := manifest.Sum(b)
	c.blobs[h] = b
	return h
}

// Kept gives bytes that Keep was given.
func (c *Change) Kept(h manifest.Hash) ([]byte, bool) {
	b, ok := c.blobs[h]
	return b, ok
}

// conds gives the conditions: every head that is written, and of those that were only read as many as fit.
func (c *Change) conds() []store.Cond {
	var out []store.Cond
	for _, written := range []bool{true, false} {
		for _, key := range slices.Sorted(maps.Keys(c.reads)) {
			if c.written[key] == written && (written || len(out) < maxConds) {
				out = append(out, store.Cond{Key: key, ModRevision: c.reads[key]})
			}
		}
	}
	return out
}

// small reports whether the immutables fit into one batch.
func (c *Change) small() bool {
	size := 0
	for _, b := range c.blobs {
		size += len(b)
	}
	return len(c.blobs) <= batchKeys && size <= batchBytes
}

// blobKVs gives the immutables as they are stored, in key order.
func (c *Change) blobKVs() []store.KV {
	out := make([]store.KV, 0, len(c.blobs))
	for h, b := range c.blobs {
		out = append(out, store.KV{Key: view.BlobKey(h), Value: b})
	}
	slices.SortFunc(out, func(a, b store.KV) int { return strings.Compare(a.Key, b.Key) })
	return out
}
