package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"

	"google.golang.org/grpc/status"

	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
)

// pending is a key that no certificate was given for yet. It is used until one was: a call whose answer got lost is repeated with the
// same.
type pending struct {
	key *ecdsa.PrivateKey
	csr []byte
}

func (k *Keeper) pendingKey() (*pending, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.newKey != nil {
		return k.newKey, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	k.newKey = &pending{key: key, csr: csr}
	return k.newKey, nil
}

// untrustedError is a server that isn't of the roots that are held, or not the one of the pin.
type untrustedError struct{ err error }

// Error says what was wrong with it.
func (e *untrustedError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *untrustedError) Unwrap() error { return e.err }

// enroll gets an identity by the proofs, each in turn.
func (k *Keeper) enroll(ctx context.Context) error {
	var faults error
	for _, m := range k.means() {
		p, err := k.pendingKey()
		if err != nil {
			return err
		}
		req := &identityv1.EnrollRequest{Namespace: k.cfg.Namespace, Agent: k.cfg.Agent, Instance: k.cfg.Instance, Csr: p.csr}
		cfg, err := m.tls()
		if err == nil {
			err = m.fill(req)
		}
		if err == nil {
			err = k.ask(ctx, m.name, p, cfg, func(ctx context.Context, c identityv1.EnrollServiceClient) (*identityv1.Certificate, error) {
				r, err := c.Enroll(ctx, req)
				return r.GetCertificate(), err
			})
		}
		if err == nil {
			return nil
		}
		if m.name == "join_token" && errs.Is(err, errs.Unauthenticated) {
			err = fmt.Errorf("%w; a join token is good for one instance and a short time: make another with `%s`", err, k.hint())
		}
		faults = errors.Join(faults, fmt.Errorf("%s: %w", m.name, err))
	}
	return faults
}

// renew gets a new certificate for the one that is held.
func (k *Keeper) renew(ctx context.Context) error {
	p, err := k.pendingKey()
	if err != nil {
		return err
	}
	return k.ask(ctx, "renewal", p, k.TLS(), func(ctx context.Context, c identityv1.EnrollServiceClient) (*identityv1.Certificate, error) {
		r, err := c.Renew(ctx, &identityv1.RenewRequest{Instance: k.cfg.Instance, Csr: p.csr})
		return r.GetCertificate(), err
	})
}

type call func(context.Context, identityv1.EnrollServiceClient) (*identityv1.Certificate, error)

// ask calls the control planes in turn until one gives a certificate, and takes it. Where one that is trusted refused, that is the error.
func (k *Keeper) ask(ctx context.Context, proof string, p *pending, cfg *tls.Config, f call) error {
	var faults error
	for _, i := range mathrand.Perm(len(k.cfg.Addresses)) { // any replica will do: no order, so that none gets all
		address := k.cfg.Addresses[i]
		cert, err := k.askOne(ctx, address, cfg, f)
		if err == nil {
			return k.accept(ctx, proof, p, cert)
		}
		err = fmt.Errorf("control plane %s: %w", address, err)
		var u *untrustedError
		if kind := errs.KindOf(err); !errors.As(err, &u) && (kind == errs.Unauthenticated || kind == errs.Denied) {
			return err
		}
		faults = errors.Join(faults, err)
	}
	return faults
}

func (k *Keeper) askOne(ctx context.Context, address string, cfg *tls.Config, f call) (_ *identityv1.Certificate, err error) {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.pace.call)
	defer cancel()
	var untrusted fault
	cfg = cfg.Clone()
	verify := cfg.VerifyConnection
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		err := verify(cs)
		untrusted.set(err)
		return err
	}
	conn, err := rpc.Dial(address, rpc.DialConfig{TLS: cfg, UserAgent: k.cfg.UserAgent})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	cert, err := f(ctx, identityv1.NewEnrollServiceClient(conn))
	switch {
	case err == nil:
		return cert, nil
	case untrusted.get() != nil:
		return nil, &untrustedError{untrusted.get()}
	case refused(err) && !errs.Is(rpc.FromStatus(err), errs.Denied):
		return nil, errs.New(errs.Unauthenticated, "%s", status.Convert(err).Message())
	default:
		return nil, rpc.FromStatus(err)
	}
}

// fault carries an error out of a handshake's goroutine.
type fault struct {
	mu  sync.Mutex
	err error
}

func (f *fault) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fault) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// accept checks an answer and makes it the identity. One that can't be stored counts all the same: storing is tried again.
func (k *Keeper) accept(ctx context.Context, proof string, p *pending, cert *identityv1.Certificate) error {
	now := k.cfg.clock()
	h, err := newHeld(document{
		Chain: cert.GetChain(), Roots: cert.GetRoots(), NotAfter: cert.GetNotAfter().AsTime(),
		Now: cert.GetNow().AsTime(), Here: now.Round(0).UTC(), Proof: proof,
	}, p.key, k.me(), now)
	if err != nil {
		return fmt.Errorf("the control plane's answer: %w", err)
	}
	k.take(h, true)
	k.mu.Lock()
	k.newKey = nil
	k.counts.issued++
	k.mu.Unlock()
	k.save(ctx)
	k.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "identity received", slog.String("spiffe_id", k.id.String()), slog.String("proof", proof),
		slog.String("serial", h.serial()), slog.Time("not_after", h.doc.NotAfter), slog.Duration("renewed_in", h.due))
	return nil
}

// save stores the identity that is held, if it isn't.
func (k *Keeper) save(ctx context.Context) {
	k.mu.Lock()
	h, unsaved := k.now, k.unsaved
	k.mu.Unlock()
	if !unsaved {
		return
	}
	raw, key, err := h.encode()
	if err == nil {
		err = k.cfg.Store.SaveIdentity(raw, key)
	}
	told := k.stored(h, err)
	if err != nil && !told {
		k.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "identity is not stored", slog.Any("error", err))
	}
}

// stored notes how storing h went, and reports whether the same was said before.
func (k *Keeper) stored(h *held, err error) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.unstored
	k.unstored = ""
	if err != nil {
		k.unstored = "it is not stored, and would be lost with this process: " + err.Error()
	} else if k.now == h {
		k.unsaved = false
	}
	return before == k.unstored
}
