package directory

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

const (
	// bootstrapPrefix is another than that of tokens, so that nobody takes the one for the other.
	bootstrapPrefix = "agb_"
	bootstrapToken  = "bootstrap" // the name of the token and the binding that it is spent for
	maxReplicas     = 20          // of which each may have a file with a bootstrap token of its own
)

// bootstrap is the record of the bootstrap tokens that wait. It is rewritten, never removed, so that a write that knows of an earlier
// state always loses.
type bootstrap struct {
	Hashes  []string  `json:"hashes,omitempty"` // SHA-256, hex; any of them is spent for all
	SpentAt time.Time `json:"spentAt,omitzero"` // in the write that spent one
}

// Administered says whether somebody who counts is bound to the role admin everywhere. A token that has ended is nobody.
func (d *Directory) Administered() bool {
	return slices.ContainsFunc(d.Policy().Bindings(), func(b access.Binding) bool {
		return b.Role == access.RoleAdmin && b.Everywhere() && slices.ContainsFunc(b.Subjects, func(s string) bool {
			id, isToken := strings.CutPrefix(s, ownerToken)
			if !isToken {
				return true
			}
			_, err := d.counting(id)
			return err == nil
		})
	})
}

// Waiting says whether a bootstrap token waits to be spent.
func (d *Directory) Waiting() bool {
	row, ok := d.policies.Get(bootstrapName)
	return ok && row.Value.bootstrap != nil && len(row.Value.bootstrap.Hashes) > 0 && !d.Administered()
}

// OfferBootstrap makes a bootstrap token count. Several replicas may each have their own. It answers false, and the token doesn't
// count, where there is an administrator already.
func (d *Directory) OfferBootstrap(ctx context.Context, offered secret.Value) (bool, error) {
	sum := sha256.Sum256([]byte(offered.Reveal()))
	var counts bool
	err := retrying(func() error {
		kv, rec, err := d.bootstrap(ctx)
		if err != nil {
			return err
		}
		if !rec.SpentAt.IsZero() { // perhaps a moment ago, and its administrator doesn't show here yet
			if err := d.see(ctx, kv.ModRevision); err != nil {
				return err
			}
		}
		if d.Administered() {
			counts = false
			return nil
		}
		counts = true
		if rec.has(sum) {
			return nil
		}
		rec.SpentAt, rec.Hashes = time.Time{}, append(rec.Hashes, hex.EncodeToString(sum[:]))
		rec.Hashes = rec.Hashes[max(0, len(rec.Hashes)-maxReplicas):]
		return d.commit(ctx, rec.put(kv.ModRevision), d.policies)
	})
	return counts && err == nil, err
}

// see waits until everything shows here that was written at a revision at which both tables were.
func (d *Directory) see(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithTimeout(ctx, seenWait)
	defer cancel()
	if err := d.policies.WaitFor(ctx, revision); err != nil {
		return err
	}
	return d.tokens.WaitFor(ctx, revision)
}

func (d *Directory) bootstrap(ctx context.Context) (store.KV, bootstrap, error) {
	var rec bootstrap
	kv, err := d.get(ctx, policyPrefix+bootstrapName)
	if err == nil && kv.ModRevision != 0 {
		err = json.Unmarshal(kv.Value, &rec)
	}
	return kv, rec, err
}

func (b bootstrap) put(over int64) store.Txn {
	key := policyPrefix + bootstrapName
	return store.Txn{If: []store.Cond{{Key: key, ModRevision: over}}, Puts: []store.KV{{Key: key, Value: encode(b)}}}
}

// SpendBootstrap gives an API token of an administrator for a bootstrap token, once: of several at the same time one wins. The token
// is its own owner: a binding gives it the role admin everywhere. One that is unknown or spent is errs.Unauthenticated.
func (d *Directory) SpendBootstrap(ctx context.Context, shown secret.Value) (Token, secret.Value, error) {
	refused := errs.New(errs.Unauthenticated, "the bootstrap token isn't this control plane's, or was spent")
	sum := sha256.Sum256([]byte(shown.Reveal()))
	row, ok := d.policies.Get(bootstrapName)
	if !ok || row.Value.bootstrap == nil || !row.Value.bootstrap.has(sum) || d.Administered() {
		return Token{}, secret.Value{}, refused
	}
	kv, rec, err := d.bootstrap(ctx)
	if err != nil {
		return Token{}, secret.Value{}, err
	}
	if !rec.has(sum) {
		return Token{}, secret.Value{}, refused
	}
	now := d.cfg.Now().UTC()
	value, tokenSum, id := newSecret()
	name := bootstrapToken + "-" + id[:6]
	t := &token{Token: Token{
		ID: id, Kind: KindAPI, Name: name, Owner: ownerToken + id, Created: now, Expires: now.Add(MaxTTL),
	}, Hash: hex.EncodeToString(tokenSum[:])}
	b := access.Binding{Name: name, Namespace: access.AllNamespaces, Role: access.RoleAdmin, Subjects: []string{ownerToken + id}}
	txn := bootstrap{SpentAt: now}.put(kv.ModRevision)
	add := func(more store.Txn) {
		txn.If, txn.Puts = append(txn.If, more.If...), append(txn.Puts, more.Puts...)
	}
	add(t.put(0))
	if err := d.reserve(ctx, t, &txn); err != nil {
		return Token{}, secret.Value{}, err
	}
	bound, err := d.binding(ctx, b)
	if err != nil {
		return Token{}, secret.Value{}, err
	}
	add(bound)
	audit.From(ctx).On("token/" + t.Name)
	err = d.commit(ctx, txn, both{d})
	if errs.Is(err, errs.Conflict) {
		err = refused
	}
	if err != nil {
		return Token{}, secret.Value{}, err
	}
	return t.Token, value, nil
}

// both waits for a write to both tables.
type both struct{ d *Directory }

// WaitFor waits.
func (b both) WaitFor(ctx context.Context, revision int64) error { return b.d.see(ctx, revision) }

func (b *bootstrap) has(sum [sha256.Size]byte) bool {
	found := false
	for _, h := range b.Hashes {
		raw, err := hex.DecodeString(h)
		found = subtle.ConstantTimeCompare(raw, sum[:]) == 1 && err == nil || found
	}
	return found
}
