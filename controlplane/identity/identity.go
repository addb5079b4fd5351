// Package identity is the certificate authority of the runtime door: who an instance is (an X.509 SVID, see
// https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md), how it proves that at first (join tokens and other proofs),
// and how that ends (expiry, revocation, rotation of the root). Package identityapi and app call it. It never sees the private key
// of an instance and decides nothing about what an identity may do.
package identity

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/agentry/agentry/controlplane/records"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// How long things count.
const (
	rootLife         = 10 * 365 * 24 * time.Hour
	intermediateLife = 90 * 24 * time.Hour
	serverLife       = 7 * 24 * time.Hour
	// Skew is how wrong a clock may be: leaves begin so long before they are made.
	Skew = 2 * time.Hour
	// issuerSkew is the same for what signs and for the door's own certificate.
	issuerSkew = 24 * time.Hour
	// lookEvery is how often Run looks at what grows old.
	lookEvery = 10 * time.Minute
)

// Config is what Open needs.
type Config struct {
	Store  store.Store
	Logger *slog.Logger
	// KEK seals the authority in the store; not needed with Files.
	KEK secret.KEK
	// TrustDomain such as "agentry.local" heads every identity.
	TrustDomain string
	// ReplicaID names this control plane in the door's certificate.
	ReplicaID string
	// Files, when set, are the authority: nothing of it is in the store, and it is rotated by new files and a restart.
	Files *Files
	// LeafTTL is how long an instance's certificate is valid, default 24 h. Grace is how long after that it may still be renewed,
	// default 7 days.
	LeafTTL, Grace time.Duration
	// Now is the clock, default time.Now.
	Now func() time.Time
}

// Files are an authority as PEM: the issuing certificate, what leads from it to its root, the root; any more that sign themselves
// are roots to trust beside it. Key is PKCS #8.
type Files struct {
	Cert []byte
	Key  secret.Value
}

// Authority signs and verifies. All methods are safe for concurrent use.
type Authority struct {
	cfg    Config
	domain spiffeid.TrustDomain
	table  *records.Table[record] // authority and revocations
	trust  atomic.Pointer[trust]  // as of the table; never nil

	serving sync.Mutex             // held by who makes served
	served  atomic.Pointer[served] // the door's certificate
}

// Open reads the authority, or makes it at the first start. Run keeps it up to date.
func Open(ctx context.Context, cfg Config) (*Authority, error) {
	if cfg.Store == nil || cfg.Logger == nil || cfg.ReplicaID == "" || (cfg.KEK == nil && cfg.Files == nil) {
		return nil, errs.New(errs.Invalid, "identity: something required is missing")
	}
	domain, err := spiffeid.TrustDomainFromString(cfg.TrustDomain)
	if err != nil {
		return nil, errs.New(errs.Invalid, "trust domain %q: %w", cfg.TrustDomain, err)
	}
	cfg.LeafTTL = cmp.Or(cfg.LeafTTL, 24*time.Hour)
	cfg.Grace = cmp.Or(cfg.Grace, 7*24*time.Hour)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &Authority{cfg: cfg, domain: domain}
	if cfg.Files != nil {
		t, err := a.fromFiles(*cfg.Files)
		if err != nil {
			return nil, err
		}
		a.trust.Store(t)
	} else if err := a.found(ctx); err != nil {
		return nil, err
	}
	if err := a.ofDomain(); err != nil {
		return nil, err
	}
	a.table, err = records.Open(ctx, records.Config[record]{Store: cfg.Store, Prefix: trustPrefix, Decode: a.decode, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	return a, a.serve()
}

// ofDomain refuses an authority that was made for another trust domain: its certificates would say nothing here.
func (a *Authority) ofDomain() error { return a.domainOf(a.trust.Load()) }

func (a *Authority) domainOf(t *trust) error {
	for _, u := range t.active().cert.URIs {
		if id, err := spiffeid.FromURI(u); err == nil && id.TrustDomain() != a.domain {
			return errs.New(errs.Precondition, "the certificate authority is of trust domain %q, not %q: --trust-domain can't change while it is in use", id.TrustDomain(), a.domain)
		}
	}
	return nil
}

// Run follows the store and renews what grows old until ctx ends.
func (a *Authority) Run(ctx context.Context) error {
	following, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- a.table.Run(following) }()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		changed := a.table.Changed()
		if err := a.serve(); err != nil {
			a.cfg.Logger.LogAttrs(ctx, slog.LevelError, "the door's certificate can't be made", slog.Any("error", err))
		}
		select {
		case err := <-done:
			return err
		case <-changed:
		case <-tick.C:
			if err := a.Tend(ctx); err != nil {
				a.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "the certificate authority can't be tended now", slog.Any("error", err))
			}
		}
	}
}

// Changed gives a channel that is closed once the roots or the revocations differ from now: who has streams open asks Standing
// again.
func (a *Authority) Changed() <-chan struct{} { return a.table.Changed() }

// TrustDomain gives the name that heads every identity.
func (a *Authority) TrustDomain() string { return a.domain.Name() }

// Grace gives how long after its end a certificate may be renewed.
func (a *Authority) Grace() time.Duration { return a.cfg.Grace }

// LeafTTL gives how long a new certificate is valid.
func (a *Authority) LeafTTL() time.Duration { return a.cfg.LeafTTL }
