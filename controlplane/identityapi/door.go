package identityapi

import (
	"context"
	"crypto/x509"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/identity"
	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
)

// DoorConfig is what NewDoor needs.
type DoorConfig struct {
	Authority *identity.Authority
	// Possession holds the roots of another authority whose certificates may enroll; nil: none may.
	Possession *x509.CertPool
	// Audit hears of calls that were refused; nil: nobody does.
	Audit audit.Recorder
	// Now is the clock, default time.Now.
	Now func() time.Time
}

// Door tells the runtime door who calls. It is safe for concurrent use.
type Door struct{ cfg DoorConfig }

// NewDoor makes a Door.
func NewDoor(cfg DoorConfig) (*Door, error) {
	if cfg.Authority == nil {
		return nil, errs.New(errs.Invalid, "door: an authority is required")
	}
	if cfg.Audit == nil {
		cfg.Audit = noAudit{}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Door{cfg: cfg}, nil
}

// Credentials make connections TLS ones, and find out who is at the other end once per connection.
func (d *Door) Credentials() credentials.TransportCredentials {
	return &transport{TransportCredentials: credentials.NewTLS(d.cfg.Authority.ServerTLS()), door: d}
}

type transport struct {
	credentials.TransportCredentials

	door *Door
}

// caller is who is at the other end of a connection: all that is kept of its handshake.
type caller struct {
	credentials.CommonAuthInfo

	peer      identity.Peer
	fault     error              // why peer is nobody
	replica   identity.Replica   // whose certificate it is where it isn't an instance's; without an id: no replica's
	possesses *identity.Attested // what a certificate of another authority proves
	address   string
}

// AuthType names the mechanism.
func (caller) AuthType() string { return "agentry-svid" }

// ServerHandshake shakes hands. Whoever shows no certificate of ours is let in all the same: it may enroll, and nothing else.
func (t *transport) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := t.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	shaken, ok := info.(credentials.TLSInfo)
	if !ok {
		_ = conn.Close()
		return nil, nil, errs.New(errs.Internal, "the handshake gave %T", info)
	}
	c := caller{CommonAuthInfo: shaken.CommonAuthInfo, address: hostOf(raw.RemoteAddr())}
	c.peer, c.fault = t.door.cfg.Authority.Chain(shaken.State.PeerCertificates)
	if c.fault != nil {
		c.possesses = t.door.possession(shaken.State.PeerCertificates)
		if r, err := t.door.cfg.Authority.ReplicaChain(shaken.State.PeerCertificates); err == nil {
			c.replica = r
		}
	}
	return conn, c, nil
}

// Clone gives a copy.
func (t *transport) Clone() credentials.TransportCredentials {
	return &transport{TransportCredentials: t.TransportCredentials.Clone(), door: t.door}
}

// possession reads a certificate of the other authority: its URI ends in /ns/<namespace>/agent/<agent>. The handshake proved that who
// shows it has its key.
func (d *Door) possession(chain []*x509.Certificate) *identity.Attested {
	if d.cfg.Possession == nil || len(chain) == 0 || len(chain[0].URIs) != 1 {
		return nil
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{
		Roots: d.cfg.Possession, Intermediates: between, CurrentTime: d.cfg.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return nil
	}
	s, ok := identity.SubjectOfURI(chain[0].URIs[0])
	if !ok {
		return nil
	}
	return &identity.Attested{Namespace: s.Namespace, Agent: s.Agent, Proof: identity.ByX509, Made: chain[0].NotBefore}
}

func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// callerOf gives who is at the other end; nobody where the connection isn't the door's.
func callerOf(ctx context.Context) caller {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return caller{fault: errs.New(errs.Unauthenticated, "no connection")}
	}
	c, ok := p.AuthInfo.(caller)
	if !ok {
		c.fault = errs.New(errs.Unauthenticated, "no certificate was shown")
		if p.Addr != nil {
			c.address = hostOf(p.Addr)
		}
	}
	return c
}

type (
	peerKey    struct{}
	replicaKey struct{}
)

// ReplicaOf gives the replica that Authenticate found, and what says whether its certificate still counts.
func (d *Door) ReplicaOf(ctx context.Context) (id string, check func() error, ok bool) {
	r, ok := ctx.Value(replicaKey{}).(identity.Replica)
	return r.ID, func() error { return d.cfg.Authority.ReplicaStanding(r, d.cfg.Now()) }, ok
}

// PeerOf gives the identity that Authenticate found.
func PeerOf(ctx context.Context) (identity.Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(identity.Peer)
	return p, ok
}

// Authenticate is the rpc.Auth of the runtime door: a method for instances needs a certificate that counts at this very moment, and
// not only when the connection was made. One that has run out is good for Renew alone.
func (d *Door) Authenticate(ctx context.Context, method string) (context.Context, error) {
	rule, ok := rpc.Rule(method)
	if !ok {
		return ctx, errs.New(errs.Denied, "method %q isn't known, or carries no rule", method)
	}
	switch rule.GetOn() {
	case accessv1.On_ON_PUBLIC:
		return ctx, nil
	case accessv1.On_ON_REPLICA:
		return d.authenticateReplica(ctx, method)
	case accessv1.On_ON_INSTANCE:
	default:
		return ctx, errs.New(errs.Denied, "method %q isn't for this door", method)
	}
	c := callerOf(ctx)
	p, err := c.peer, c.fault
	if err == nil {
		p, err = d.cfg.Authority.Standing(c.peer, d.cfg.Now())
	}
	if err == nil && p.InGrace && method != identityv1.EnrollService_Renew_FullMethodName {
		err = errs.New(errs.Unauthenticated, "certificate %s ran out at %s: renew it", p.Serial, p.NotAfter.UTC().Format(time.RFC3339))
	}
	actor := "agent:" + p.Namespace + "/" + p.Agent
	if err != nil {
		d.refused(c, actor, method, err)
		return ctx, err
	}
	ctx = context.WithValue(ctx, peerKey{}, p)
	ctx = access.With(ctx, access.Principal{Name: actor, Kind: access.Agent, Expires: p.NotAfter})
	if rule.GetMutates() {
		ctx = audit.With(ctx, audit.NewDraft(audit.Call{
			Actor: actor, Method: method, Permission: rule.GetPermission(), Namespace: p.Namespace, Object: "agent/" + p.Agent,
		}))
	}
	return ctx, nil
}

// authenticateReplica lets the other replicas of this control plane in, and nobody else.
func (d *Door) authenticateReplica(ctx context.Context, method string) (context.Context, error) {
	c := callerOf(ctx)
	err := d.cfg.Authority.ReplicaStanding(c.replica, d.cfg.Now())
	switch {
	case c.fault == nil:
		err = errs.New(errs.Denied, "method %q is for the replicas of the control plane", method)
	case c.replica.ID == "":
		err = errs.New(errs.Unauthenticated, "method %q is for the replicas of the control plane, and no certificate of one was shown", method)
	}
	if err != nil {
		d.refused(c, "agent:"+c.peer.Namespace+"/"+c.peer.Agent, method, err)
		return ctx, err
	}
	return context.WithValue(ctx, replicaKey{}, c.replica), nil
}

// Denied tells the audit log that an instance asked for what isn't its own.
func (d *Door) Denied(p identity.Peer, method, object, why string) {
	d.cfg.Audit.Record(audit.Event{
		Type:    audit.Denied,
		Call:    audit.Call{Actor: "agent:" + p.Namespace + "/" + p.Agent, Method: method, Namespace: p.Namespace},
		Objects: []string{object}, Message: why, Outcome: "PERMISSION_DENIED", Instance: p.Instance,
	})
}

func (d *Door) refused(c caller, actor, method string, err error) {
	e := audit.Event{
		Type: audit.Unauthenticated, Call: audit.Call{Actor: "address:" + c.address, Method: method}, Message: err.Error(), Outcome: "UNAUTHENTICATED",
	}
	if errs.Is(err, errs.Denied) {
		e.Type, e.Outcome = audit.Denied, "PERMISSION_DENIED"
	}
	if c.fault == nil {
		e.Actor, e.Namespace, e.Objects, e.Instance = actor, c.peer.Namespace, []string{"agent/" + c.peer.Agent}, c.peer.Instance
	}
	d.cfg.Audit.Record(e)
}
