package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/auditchain"
	"github.com/agentry/agentry/internal/errs"
)

// Where the log lies. Only this package writes below view.AuditPrefix.
const (
	pendingPrefix = view.AuditPrefix + "pending/" // <time-ordered id>: an entry without its place
	chainPrefix   = view.AuditPrefix + "chain/"   // <20 digits>: an entry's hash, a blank, the hash before it, a line feed, its record
	headKey       = view.AuditPrefix + "head"     // Head
)

// Head says where the chain's window begins and ends. It is the one thing that replicas race for.
type Head struct {
	// Seq and Hash are the newest entry's; 0 and "": there is none yet.
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
	// AnchorSeq and AnchorHash are those of the entry before the window's first: what the window goes on from.
	AnchorSeq  int64  `json:"anchorSeq"`
	AnchorHash string `json:"anchorHash"`
	// Bytes is the size of the window's records.
	Bytes int64 `json:"bytes"`
}

// End is the chain's end.
func (h Head) End() auditchain.Point { return auditchain.Point{Seq: h.Seq, Hash: h.Hash} }

// Anchor is what the window goes on from.
func (h Head) Anchor() auditchain.Point {
	return auditchain.Point{Seq: h.AnchorSeq, Hash: h.AnchorHash}
}

// Chained is an entry with its place in the chain.
type Chained struct {
	auditchain.Link

	Seq      int64
	Previous string // the hash of the entry before it, as it was when this one was chained
	Entry    Entry
}

// ReadHead gives the chain's head and the ModRevision at which it was read; of a log without entries 0.
func ReadHead(ctx context.Context, s store.Store) (Head, int64, error) {
	kv, err := s.Get(ctx, headKey)
	if errs.Is(err, errs.NotFound) {
		return Head{Hash: auditchain.Genesis(), AnchorHash: auditchain.Genesis()}, 0, nil
	}
	if err != nil {
		return Head{}, 0, err
	}
	var h Head
	if err := json.Unmarshal(kv.Value, &h); err != nil {
		return Head{}, 0, fmt.Errorf("head of the audit chain: %w", err)
	}
	return h, kv.ModRevision, nil
}

// Read gives the entries from a seq on, oldest first, at most limit, and the store revision that they are of. Entries that left
// the window are left out. One whose record can't be read is given without its Entry, so that a verifier sees it.
func Read(ctx context.Context, s store.Store, from int64, limit int) ([]Chained, int64, error) {
	page, err := s.List(ctx, chainPrefix, store.ListOptions{From: chainKey(from), Limit: limit})
	if err != nil {
		return nil, 0, err
	}
	out := make([]Chained, len(page.KVs))
	for i, kv := range page.KVs {
		out[i] = decode(kv)
	}
	return out, page.Revision, nil
}

// Follow calls emit for every entry chained after a store revision, in order, until ctx ends or emit fails.
func Follow(ctx context.Context, s store.Store, after int64, emit func(Chained) error) error {
	return s.Watch(ctx, chainPrefix, after, func(b store.Batch) error {
		for _, e := range b.Events {
			if e.Deleted {
				continue
			}
			if err := emit(decode(e.KV)); err != nil {
				return err
			}
		}
		return nil
	})
}

func chainKey(seq int64) string { return fmt.Sprintf("%s%020d", chainPrefix, seq) }

func stored(l auditchain.Link, previous string) []byte {
	return append([]byte(l.Hash+" "+previous+"\n"), l.Record...)
}

func decode(kv store.KV) Chained {
	var c Chained
	c.Seq, _ = strconv.ParseInt(strings.TrimPrefix(kv.Key, chainPrefix), 10, 64)
	hashes, record, _ := bytes.Cut(kv.Value, []byte("\n"))
	c.Hash, c.Previous, _ = strings.Cut(string(hashes), " ")
	c.Record = record
	_ = json.Unmarshal(record, &c.Entry) // a verifier says what is wrong with it
	return c
}
