// Package identityapi is the doors of package identity: EnrollService, by which instances get their certificates and keep them,
// IdentityService, by which people say who may join and end it, and Door, which tells the runtime door who calls. App registers
// them. It decides nothing about what an identity may do once it has its certificate.
package identityapi

import (
	"context"
	"crypto/ecdsa"
	"log/slog"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/identity"
	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// The bounds of what an unknown caller may send.
const (
	maxToken = 16 << 10
	maxCSR   = 8 << 10
)

// Attestor checks a bearer of another authority, such as a Kubernetes service account token. A proof that doesn't hold is
// errs.Unauthenticated; an authority that can't be asked errs.Unavailable or errs.Timeout. It bounds its own time and is safe for
// concurrent use.
type Attestor interface {
	Attest(ctx context.Context, token secret.Value) (identity.Attested, error)
}

// EnrollConfig is what NewEnroll needs.
type EnrollConfig struct {
	Logger    *slog.Logger
	Authority *identity.Authority
	// Kubernetes checks service account tokens; nil: none is taken.
	Kubernetes Attestor
	// Audit hears of proofs that don't hold; nil: nobody does.
	Audit audit.Recorder
	// Now is the clock, default time.Now.
	Now func() time.Time
}

// Enroll is EnrollService. It is safe for concurrent use.
type Enroll struct {
	identityv1.UnimplementedEnrollServiceServer

	cfg      EnrollConfig
	clients  *clients // by address
	renewals *clients // by identity
}

var _ identityv1.EnrollServiceServer = (*Enroll)(nil)

// NewEnroll makes the service.
func NewEnroll(cfg EnrollConfig) (*Enroll, error) {
	if cfg.Logger == nil || cfg.Authority == nil {
		return nil, errs.New(errs.Invalid, "enroll: logger and authority are required")
	}
	if cfg.Audit == nil {
		cfg.Audit = noAudit{}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	each := cfg.Authority.LeafTTL() / renewals
	return &Enroll{cfg: cfg, clients: newClients(enrollRate, enrollBurst), renewals: newClients(rate.Every(each), renewals)}, nil
}

// errProof is all that a caller hears of a proof that doesn't hold; the log and the audit log have the rest.
func errProof() error {
	return errs.New(errs.Unauthenticated, "the proof doesn't hold: unknown, spent, run out, or for another agent")
}

// Enroll gives a first certificate.
func (e *Enroll) Enroll(ctx context.Context, r *identityv1.EnrollRequest) (*identityv1.EnrollResponse, error) {
	if !e.clients.take(callerOf(ctx).address, e.cfg.Now()) {
		return nil, errs.New(errs.Exhausted, "too many enrollments from this address: try again in a moment")
	}
	claimed := identity.Subject{Namespace: r.GetNamespace(), Agent: r.GetAgent(), Instance: r.GetInstance()}
	if err := claimed.Check(); err != nil {
		return nil, err
	}
	key, err := keyOf(r.GetCsr())
	if err != nil {
		return nil, err
	}
	by, err := e.attest(ctx, r, claimed, key)
	if err == nil && (by.Namespace != claimed.Namespace || by.Agent != claimed.Agent) {
		err = errs.New(errs.Unauthenticated, "the proof is for %s/%s", by.Namespace, by.Agent)
	}
	var c identity.Certificate
	if err == nil {
		d := audit.NewDraft(audit.Call{
			Actor: "agent:" + by.Namespace + "/" + by.Agent, Method: identityv1.EnrollService_Enroll_FullMethodName,
			Namespace: by.Namespace, Object: "agent/" + by.Agent,
		})
		d.Because("instance " + claimed.Instance + " enrolled by " + string(by.Proof))
		ctx = audit.With(ctx, d)
		c, err = e.cfg.Authority.Enroll(ctx, by, claimed.Instance, key)
	}
	if errs.Is(err, errs.Unauthenticated) {
		return nil, e.refused(ctx, claimed, err)
	}
	if err != nil {
		return nil, err
	}
	e.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "identity given", slog.String("spiffe_id", c.ID), slog.String("instance", claimed.Instance),
		slog.String("serial", c.Serial), slog.String("proof", string(by.Proof)), slog.Time("not_after", c.NotAfter))
	return &identityv1.EnrollResponse{Certificate: e.wire(c)}, nil
}

// attest asks who proves what. Without a proof in the request the certificate of the connection is one.
func (e *Enroll) attest(ctx context.Context, r *identityv1.EnrollRequest, claimed identity.Subject, key *ecdsa.PublicKey) (identity.Attested, error) {
	switch p := r.GetProof().(type) {
	case *identityv1.EnrollRequest_JoinToken:
		if len(p.JoinToken) > maxToken {
			return identity.Attested{}, errs.New(errs.Unauthenticated, "join token is too long")
		}
		return e.cfg.Authority.AttestJoin(ctx, secret.NewValue(p.JoinToken), claimed, key)
	case *identityv1.EnrollRequest_KubernetesToken:
		if e.cfg.Kubernetes == nil || len(p.KubernetesToken) > maxToken {
			return identity.Attested{}, errs.New(errs.Unauthenticated, "service account tokens aren't taken here")
		}
		return e.cfg.Kubernetes.Attest(ctx, secret.NewValue(p.KubernetesToken))
	default:
		c := callerOf(ctx)
		if c.possesses == nil {
			return identity.Attested{}, errs.New(errs.Unauthenticated, "no proof was shown, and no certificate that is one")
		}
		return *c.possesses, nil
	}
}

func (e *Enroll) refused(ctx context.Context, claimed identity.Subject, err error) error {
	from := callerOf(ctx).address
	e.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "enrollment refused", slog.String("namespace", claimed.Namespace),
		slog.String("agent", claimed.Agent), slog.String("instance", claimed.Instance), slog.String("address", from), slog.Any("error", err))
	e.cfg.Audit.Record(audit.Event{
		Type:    audit.Unauthenticated,
		Call:    audit.Call{Actor: "address:" + from, Method: identityv1.EnrollService_Enroll_FullMethodName, Namespace: claimed.Namespace},
		Objects: []string{"agent/" + claimed.Agent}, Message: err.Error(), Outcome: "UNAUTHENTICATED",
	})
	return errProof()
}

// Renew gives a new certificate for the one that the connection shows.
func (e *Enroll) Renew(ctx context.Context, r *identityv1.RenewRequest) (*identityv1.RenewResponse, error) {
	p, ok := PeerOf(ctx)
	if !ok {
		return nil, errs.New(errs.Unauthenticated, "no certificate was shown")
	}
	s := p.Subject
	switch {
	case s.Instance == "":
		s.Instance = r.GetInstance()
	case r.GetInstance() != "" && r.GetInstance() != s.Instance:
		return nil, errs.New(errs.Denied, "the certificate is of instance %q: another needs an enrollment of its own", s.Instance)
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	key, err := keyOf(r.GetCsr())
	if err != nil {
		return nil, err
	}
	// By the certificate, and not by what the caller says of itself: one certificate can't fill the audit log.
	if !e.renewals.take(p.Namespace+"/"+p.Agent+"/"+p.Instance, e.cfg.Now()) {
		return nil, errs.New(errs.Exhausted, "too many renewals of this identity: try again later")
	}
	audit.From(ctx).Because("instance " + s.Instance + " renewed")
	c, err := e.cfg.Authority.Enroll(ctx, identity.Attested{Namespace: s.Namespace, Agent: s.Agent, Proof: identity.ByRenewal, Renews: &p}, s.Instance, key)
	if err != nil {
		return nil, err
	}
	e.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "identity renewed", slog.String("spiffe_id", c.ID), slog.String("instance", s.Instance),
		slog.String("serial", c.Serial), slog.Bool("in_grace", p.InGrace), slog.Time("not_after", c.NotAfter))
	return &identityv1.RenewResponse{Certificate: e.wire(c)}, nil
}

func keyOf(csr []byte) (*ecdsa.PublicKey, error) {
	if len(csr) > maxCSR {
		return nil, errs.New(errs.Invalid, "certificate request: %d bytes, at most %d", len(csr), maxCSR)
	}
	return identity.KeyOf(csr)
}

func (e *Enroll) wire(c identity.Certificate) *identityv1.Certificate {
	return &identityv1.Certificate{
		Chain: c.Chain, Roots: c.Roots, SpiffeId: c.ID, NotBefore: timestamppb.New(c.NotBefore), NotAfter: timestamppb.New(c.NotAfter),
		Now: timestamppb.New(c.Now), GraceSeconds: int64(e.cfg.Authority.Grace() / time.Second),
	}
}

type noAudit struct{}

// Record drops an event.
func (noAudit) Record(audit.Event) {}
