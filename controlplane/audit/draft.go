package audit

import (
	"context"
	"slices"
	"sync"
)

// Change is one changed path of one object. Values are JSON, never a credential's.
type Change struct {
	Object string `json:"object,omitempty"` // such as "agent/helper"
	Path   string `json:"path,omitempty"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Call is what is known of a call before its handler runs.
type Call struct {
	Actor, Method, Permission, Namespace, RequestID string
	// Object is such as "agent/helper"; empty where the handler will say.
	Object string
}

// Draft is the entry of a change that is being made. The gate puts one into the context of every call that mutates, handlers add
// to it, and the store of Wrap writes it in the same transaction as the change. A nil Draft takes everything and keeps nothing, so
// that handlers needn't ask. It is safe for concurrent use.
type Draft struct {
	mu      sync.Mutex
	call    Call
	objects []string
	changes []Change
	message string
	written int // how many transactions wrote it
}

// NewDraft begins an entry.
func NewDraft(c Call) *Draft {
	d := &Draft{call: c}
	if c.Object != "" {
		d.objects = []string{c.Object}
	}
	return d
}

// On adds objects that the call is about, such as "agent/helper".
func (d *Draft) On(objects ...string) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range objects {
		if !slices.Contains(d.objects, o) {
			d.objects = append(d.objects, o)
		}
	}
}

// Changed adds what changes. A handler that plans anew after a lost race calls it again: replace says that only these count.
func (d *Draft) Changed(replace bool, changes ...Change) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if replace {
		d.changes = nil
	}
	d.changes = append(d.changes, changes...)
}

// Because keeps the reason that the caller gave.
func (d *Draft) Because(message string) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.message = message
}

// By says who calls where the call itself proves it, as a login does. The address that was all that was known till then is told as
// the reason.
func (d *Draft) By(actor string) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.message == "" && d.call.Actor != "" {
		d.message = "from " + d.call.Actor
	}
	d.call.Actor = actor
}

// Written counts the transactions that wrote the entry: 0 means that the call changed nothing, so far.
func (d *Draft) Written() int {
	if d == nil {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.written
}

// entry gives what is known so far.
func (d *Draft) entry() Entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Entry{
		Type: Changed, Actor: d.call.Actor, Method: d.call.Method, Permission: d.call.Permission, Namespace: d.call.Namespace,
		RequestID: d.call.RequestID, Objects: slices.Clone(d.objects), Changes: slices.Clone(d.changes), Message: d.message, Outcome: OK,
	}
}

func (d *Draft) wrote() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.written++
}

type draftKey struct{}

// With gives a context that carries a draft.
func With(ctx context.Context, d *Draft) context.Context {
	return context.WithValue(ctx, draftKey{}, d)
}

// From gives the draft of a call; nil where there is none.
func From(ctx context.Context) *Draft {
	d, _ := ctx.Value(draftKey{}).(*Draft)
	return d
}
