package identity

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// perTxn bounds the deletions of one transaction.
const perTxn = 100

// Tend renews the intermediates and removes what nothing needs any more. Run calls it every ten minutes.
func (a *Authority) Tend(ctx context.Context) error {
	return errors.Join(a.renewIntermediates(ctx), a.sweep(ctx))
}

// renewIntermediates makes new ones once two thirds of their life are over. Of several replicas one wins.
func (a *Authority) renewIntermediates(ctx context.Context) error {
	if a.cfg.Files != nil || !slices.ContainsFunc(a.trust.Load().roots, a.agedIssuer) {
		return nil
	}
	t, err := a.read(ctx)
	if err != nil {
		return err
	}
	stored := t.stored
	stored.Roots = slices.Clone(t.stored.Roots)
	changed := false
	for i, r := range t.roots {
		if !a.agedIssuer(r) {
			continue
		}
		issuer, err := newIntermediate(a.domain, r.signer, a.cfg.Now())
		if err != nil {
			return err
		}
		fresh, err := recordOf(&root{signer: r.signer, issuer: issuer}, r.state)
		if err != nil {
			return err
		}
		stored.Roots[i], changed = fresh, true
	}
	if !changed {
		return nil
	}
	rev, err := a.write(ctx, stored, t.mod)
	if errs.Is(err, errs.Conflict) {
		return nil // another replica did it; the watch brings it
	}
	if err != nil {
		return err
	}
	return a.table.WaitFor(ctx, rev)
}

// agedIssuer says whether what signs under a root is to be made anew.
func (a *Authority) agedIssuer(r *root) bool {
	return r.state != Former && a.cfg.Now().After(r.issuer.cert.NotAfter.Add(-intermediateLife/3))
}

// sweep removes join tokens that ran out by every clock that isn't too wrong, certificates that can't be renewed any more, and revocations of which every certificate
// has run out.
func (a *Authority) sweep(ctx context.Context) error {
	now := a.cfg.Now()
	var gone []string
	err := a.eachJoin(ctx, func(kv store.KV, t JoinToken) {
		if now.After(t.Expires.Add(Skew)) {
			gone = append(gone, kv.Key)
		}
	})
	if err != nil {
		return err
	}
	all, err := a.Issued(ctx, "", "")
	if err != nil {
		return err
	}
	for _, i := range all {
		if now.After(i.NotAfter.Add(a.cfg.Grace)) {
			gone = append(gone, issuedKey(Subject{Namespace: i.Namespace, Agent: i.Agent, Instance: i.Instance}))
		}
	}
	rows, _ := a.table.All()
	var conds []store.Cond
	for key, row := range rows {
		// No leaf outlives what signed it. With files that isn't known, and every revocation stays.
		if r := row.Value.revoked; r != nil && a.cfg.Files == nil && now.After(r.At.Add(intermediateLife+a.cfg.Grace)) {
			gone = append(gone, trustPrefix+key)
			conds = append(conds, store.Cond{Key: trustPrefix + key, ModRevision: row.ModRevision})
		}
	}
	for batch := range slices.Chunk(gone, perTxn) {
		if err := a.remove(ctx, batch, conds); err != nil && !errs.Is(err, errs.Conflict) {
			return err
		}
	}
	return nil
}

// remove deletes keys; those that were written again meanwhile wait for the next time.
func (a *Authority) remove(ctx context.Context, keys []string, conds []store.Cond) error {
	t := store.Txn{Deletes: keys}
	for _, key := range keys {
		i := slices.IndexFunc(conds, func(c store.Cond) bool { return c.Key == key })
		if i >= 0 {
			t.If = append(t.If, conds[i])
			continue
		}
		if !strings.HasPrefix(key, issuedPrefix) {
			continue // a join token is never written twice
		}
		kv, err := a.cfg.Store.Get(ctx, key)
		if errs.Is(err, errs.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		var i2 Issued
		if json.Unmarshal(kv.Value, &i2) == nil && !a.cfg.Now().After(i2.NotAfter.Add(a.cfg.Grace)) {
			return nil
		}
		t.If = append(t.If, store.Cond{Key: key, ModRevision: kv.ModRevision})
	}
	_, err := a.cfg.Store.Commit(ctx, t)
	return err
}

// Reseal seals the authority with the present key.
func (a *Authority) Reseal(ctx context.Context) (sealed, resealed int, err error) {
	if a.cfg.Files != nil {
		return 0, 0, nil
	}
	for range attempts {
		kv, err := a.cfg.Store.Get(ctx, trustPrefix+authorityKey)
		if err != nil {
			return 0, 0, err
		}
		if secret.SealedBy(kv.Value) == a.cfg.KEK.ID() {
			return 1, 0, nil
		}
		t, err := a.unseal(kv.Value)
		if err != nil {
			return 1, 0, err
		}
		if _, err = a.write(ctx, t.stored, kv.ModRevision); !errs.Is(err, errs.Conflict) {
			return 1, 1, err
		}
	}
	return 1, 0, errs.New(errs.Conflict, "somebody else writes the certificate authority")
}
