package audit

import (
	"context"
	"slices"
	"strings"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
)

// systemActor is who changes heads without a person: the releaser, and whoever else works by itself.
const systemActor = "system"

// Wrap gives a store whose Commit adds the entry of a change to the transaction of the change: there is neither without the other,
// and it costs no write of its own. What is written with a Draft in the context gets that draft's entry, unless it is immutables
// only. A transaction without a Draft that writes heads gets one of its own, so that no head ever moves without an entry.
func Wrap(s store.Store, o Origin) store.Store { return &audited{Store: s, origin: o} }

type audited struct {
	store.Store

	origin Origin
}

// Commit writes t and its entry, or nothing.
func (a *audited) Commit(ctx context.Context, t store.Txn) (int64, error) {
	d := From(ctx)
	heads, counts := weigh(t)
	if !counts || (d == nil && !heads) {
		return a.Store.Commit(ctx, t)
	}
	e := Entry{Type: Changed, Actor: systemActor, Outcome: OK}
	if d != nil {
		e = d.entry()
	}
	e = withMoves(e, t)
	t.Puts = append(slices.Clone(t.Puts), a.origin.pending(e))
	revision, err := a.Store.Commit(ctx, t)
	if err == nil && d != nil {
		d.wrote()
	}
	return revision, err
}

// weigh says whether a transaction writes heads, and whether it writes anything but immutables and the log's own records.
func weigh(t store.Txn) (heads, counts bool) {
	see := func(key string) {
		heads = heads || strings.HasPrefix(key, view.HeadsPrefix)
		counts = counts || (!strings.HasPrefix(key, view.BlobPrefix) && !strings.HasPrefix(key, view.AuditPrefix))
	}
	for _, kv := range t.Puts {
		see(kv.Key)
	}
	for _, key := range t.Deletes {
		see(key)
	}
	return heads, counts
}

// withMoves completes an entry by what the transaction itself says: its log of moves, or else its heads.
func withMoves(e Entry, t store.Txn) Entry {
	for _, kv := range t.Puts {
		switch {
		case strings.HasPrefix(kv.Key, view.MovePrefix):
			if r, err := view.Decode[view.MoveRecord](kv.Value); err == nil {
				e = withRecord(e, r)
			}
		case strings.HasPrefix(kv.Key, view.HeadsPrefix):
			kind, namespace, name := headOf(kv.Key)
			if e.Namespace == "" {
				e.Namespace = namespace
			}
			e = on(e, kind+"/"+name)
		}
	}
	return e
}

// withRecord adds the moves of a transaction to its entry.
func withRecord(e Entry, r view.MoveRecord) Entry {
	if e.Actor == systemActor && e.Method == "" {
		e.Method = r.Actor
	}
	if e.Message == "" {
		e.Message = r.Message
		if e.Actor == systemActor && r.Cause != "" {
			e.Message = strings.TrimSuffix(r.Cause+": "+r.Message, ": ")
		}
	}
	var moves []Change
	for _, h := range r.Heads {
		object := h.Kind + "/" + h.Name
		if e.Namespace == "" {
			e.Namespace = h.Namespace
		}
		e = on(e, object)
		path := h.Part
		if path == "" {
			path = string(h.Move)
		}
		moves = append(moves, Change{Object: object, Path: path, Before: h.From, After: h.To})
	}
	e.Changes = append(moves, e.Changes...)
	return e
}

// on adds an object. Keys hold names in lower case, so a name that is there in other letters is the same.
func on(e Entry, object string) Entry {
	if !slices.ContainsFunc(e.Objects, func(o string) bool { return strings.EqualFold(o, object) }) {
		e.Objects = append(e.Objects, object)
	}
	return e
}

func headOf(key string) (kind, namespace, name string) {
	kind, rest, _ := strings.Cut(strings.TrimPrefix(key, view.HeadsPrefix), "/")
	namespace, name, _ = strings.Cut(rest, "/")
	return kind, namespace, name
}
