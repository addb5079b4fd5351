// Package reseal seals everything anew after the key-encryption key changed: a new key is put on top of the key file, every replica
// is restarted with it, this is run, and then the former key can go. The credential service calls it. It is safe to
// repeat and to stop half-way: each object is sealed with one key or the other, and both open.
package reseal

import (
	"context"
	"fmt"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// perTxn bounds the heads of one transaction: three kept values of 64 KiB each must fit into etcd's 1.5 MiB request.
const perTxn = 5

// attempts is how often a credential that is rotated meanwhile is taken again.
const attempts = 5

// Source is a part that keeps something sealed of its own, such as the certificate authority.
type Source interface {
	Reseal(ctx context.Context) (sealed, resealed int, err error)
}

// Vault seals credential values.
type Vault interface {
	KeyID() string
	Reseal(namespace string, head view.CredentialHead) (view.CredentialHead, int, error)
	ResealKey(ctx context.Context, s store.Store) (bool, error)
}

// Config is what New needs; Others may be empty.
type Config struct {
	Store  store.Store
	View   *view.View
	Vault  Vault
	Others []Source
}

// Resealer seals anew. It is safe for concurrent use: two runs at a time do each other's work.
type Resealer struct{ cfg Config }

// New makes a Resealer.
func New(cfg Config) (*Resealer, error) {
	if cfg.Store == nil || cfg.View == nil || cfg.Vault == nil {
		return nil, errs.New(errs.Invalid, "reseal: something required is missing")
	}
	return &Resealer{cfg: cfg}, nil
}

// KeyID names the key that everything is sealed with after Run.
func (r *Resealer) KeyID() string { return r.cfg.Vault.KeyID() }

// Run seals everything anew that isn't sealed with the present key, and gives how many sealed objects there are and how many of
// them it changed. A value that doesn't open stops it: nothing is lost.
func (r *Resealer) Run(ctx context.Context) (sealed, resealed int, err error) {
	moved, err := r.cfg.Vault.ResealKey(ctx, r.cfg.Store)
	if err != nil {
		return 0, 0, err
	}
	if sealed++; moved {
		resealed++
	}
	for _, s := range r.cfg.Others {
		all, changed, err := s.Reseal(ctx)
		sealed, resealed = sealed+all, resealed+changed
		if err != nil {
			return sealed, resealed, err
		}
	}
	all, changed, err := r.credentials(ctx)
	return sealed + all, resealed + changed, err
}

func (r *Resealer) credentials(ctx context.Context) (sealed, resealed int, err error) {
	for left := attempts; ; left-- {
		// What is in memory is as new as the store: a value sealed with the former key a moment ago isn't missed.
		newest, err := r.cfg.Store.Commit(ctx, store.Txn{})
		if err != nil {
			return 0, resealed, err
		}
		if err := r.cfg.View.WaitFor(ctx, newest); err != nil {
			return 0, resealed, fmt.Errorf("catch up with the store: %w", err)
		}
		all, changed, err := r.pass(ctx)
		resealed += changed
		if !errs.Is(err, errs.Conflict) {
			return all, resealed, err
		}
		if left == 0 {
			return all, resealed, errs.New(errs.Conflict, "credentials keep changing, run it again: %w", err)
		}
	}
}

// pass goes once over all credentials.
func (r *Resealer) pass(ctx context.Context) (sealed, resealed int, err error) {
	var t store.Txn
	pending := 0
	flush := func() error {
		if len(t.Puts) == 0 {
			return nil
		}
		_, err := r.cfg.Store.Commit(ctx, t)
		if err == nil {
			resealed += pending
		}
		t, pending = store.Txn{}, 0
		return err
	}
	for _, e := range r.cfg.View.Credentials("") {
		head, n, err := r.cfg.Vault.Reseal(e.Namespace, e.Head)
		if err != nil {
			return sealed, resealed, err
		}
		sealed += len(head.Sealed)
		if n == 0 {
			continue
		}
		key := view.HeadKey(manifest.KindCredential, e.Namespace, head.Name)
		t.If = append(t.If, store.Cond{Key: key, ModRevision: e.ModRevision})
		t.Puts = append(t.Puts, store.KV{Key: key, Value: view.Encode(head)})
		if pending += n; len(t.Puts) < perTxn {
			continue
		}
		if err := flush(); err != nil {
			return sealed, resealed, err
		}
	}
	return sealed, resealed, flush()
}
