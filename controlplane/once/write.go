package once

import (
	"context"
	"slices"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// write is one transaction on its way.
type write struct {
	*Store

	call  *Call
	txn   store.Txn
	until time.Time
	// unsure says that a try under the present number was sent and not answered: it may have been written, or may yet be.
	unsure bool
}

// run tries until it is known what became of the transaction.
func (w *write) run(ctx context.Context) (int64, error) {
	wait := backoffMin
	for {
		key, rec := w.call.key(w.call.next), w.call.record()
		t := w.txn
		t.If = append(slices.Clone(t.If), store.Cond{Key: key})
		t.Puts = append(slices.Clone(t.Puts), store.KV{Key: key, Value: rec.encode()})
		var revision int64
		err := within(ctx, w.until, func(ctx context.Context) (err error) {
			revision, err = w.Store.Store.Commit(ctx, t)
			return err
		})
		switch {
		case err == nil:
			w.call.next++
			return revision, nil
		case silent(err) || ctx.Err() != nil:
			w.unsure = true
			if !pause(ctx, w.until, &wait) {
				return 0, unknown(err)
			}
			continue
		case !w.unsure && (!w.call.keyed || !errs.Is(err, errs.Conflict)):
			return 0, err // surely not written
		}
		revision, again, err := w.settle(ctx, key, err)
		if !again {
			return revision, err
		}
	}
}

// settle finds out what became of the tries under a number, where the last one failed with err for good. again: the number was given up
// by another try of the call, and the transaction is to be sent under the next.
func (w *write) settle(ctx context.Context, key string, err error) (revision int64, again bool, _ error) {
	for wait := backoffMin; ; {
		kv, rerr := w.read(ctx, key)
		switch {
		case rerr == nil:
			return w.found(kv, err)
		case !errs.Is(rerr, errs.NotFound):
		case !w.unsure:
			return 0, false, err
		default:
			// A try may still be on its way: after this it finds the number taken.
			if rerr = w.void(ctx, key); rerr == nil {
				w.call.next++
				return 0, false, err
			}
		}
		if !silent(rerr) && !errs.Is(rerr, errs.Conflict) || !pause(ctx, w.until, &wait) {
			return 0, false, unknown(rerr)
		}
	}
}

// found judges the record that is there.
func (w *write) found(kv store.KV, err error) (revision int64, again bool, _ error) {
	r, derr := decode(kv)
	switch {
	case derr != nil:
		return 0, false, derr
	case r.Void:
		w.call.next++
		w.unsure = false // what was sent under that number can't be written any more
		return 0, r.Nonce != w.call.nonce, err
	case r.Nonce == w.call.nonce:
		w.call.next++
		return kv.ModRevision, false, nil
	default:
		return 0, false, w.call.carriedOut(r, kv.ModRevision)
	}
}

func (w *write) read(ctx context.Context, key string) (kv store.KV, err error) {
	err = within(ctx, w.until, func(ctx context.Context) error {
		kv, err = w.Store.Store.Get(ctx, key)
		return err
	})
	return kv, err
}

func (w *write) void(ctx context.Context, key string) error {
	r := w.call.record()
	r.Void, r.Answer = true, nil
	return within(ctx, w.until, func(ctx context.Context) error {
		_, err := w.Store.Store.Commit(ctx, store.Txn{If: []store.Cond{{Key: key}}, Puts: []store.KV{{Key: key, Value: r.encode()}}})
		return err
	})
}
