package identityapi

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/identity"
	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	"github.com/agentry/agentry/gen/agentry/identity/v1/identityv1connect"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// The permissions that the handlers themselves ask for, object by object.
const (
	permRead = "identity.read"
	permJoin = "identity.join"
)

// Config is what New needs.
type Config struct {
	Authority *identity.Authority
	// Connected says whether an instance has a stream to this replica.
	Connected func(namespace, agent, instance string) bool
	// Labels gives an agent's labels, for bindings that select by them; nil: agents have none.
	Labels func(namespace, agent string) map[string]string
}

// Service is IdentityService. It is safe for concurrent use.
type Service struct{ cfg Config }

var _ identityv1connect.IdentityServiceHandler = (*Service)(nil)

// New makes the service.
func New(cfg Config) (*Service, error) {
	if cfg.Authority == nil || cfg.Connected == nil {
		return nil, errs.New(errs.Invalid, "identity service: authority and connected are required")
	}
	if cfg.Labels == nil {
		cfg.Labels = func(string, string) map[string]string { return nil }
	}
	return &Service{cfg: cfg}, nil
}

// actorOf names the caller for records.
func actorOf(ctx context.Context) string {
	p, _ := access.From(ctx)
	return p.Name
}

func (s *Service) object(namespace, agent string) access.Object {
	return access.Object{Namespace: namespace, Kind: manifest.KindAgent, Name: agent, Labels: s.cfg.Labels(namespace, agent)}
}

// CreateJoinToken makes a one-time token.
func (s *Service) CreateJoinToken(ctx context.Context, r *connect.Request[identityv1.CreateJoinTokenRequest]) (*connect.Response[identityv1.CreateJoinTokenResponse], error) {
	m := r.Msg
	audit.From(ctx).Because(m.GetMessage())
	if ttl := m.GetTtl(); ttl != nil && (!ttl.IsValid() || ttl.AsDuration() <= 0) {
		return nil, errs.New(errs.Invalid, "ttl must be a duration above zero")
	}
	t, text, err := s.cfg.Authority.CreateJoinToken(ctx, m.GetNamespace(), m.GetAgent(), m.GetTtl().AsDuration(), actorOf(ctx))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&identityv1.CreateJoinTokenResponse{Token: tokenOf(t), Secret: text.Reveal()}), nil
}

func tokenOf(t identity.JoinToken) *identityv1.JoinToken {
	return &identityv1.JoinToken{
		Id: t.ID, Namespace: t.Namespace, Agent: t.Agent, Created: timestamppb.New(t.Created), Expires: timestamppb.New(t.Expires), CreatedBy: t.CreatedBy,
	}
}

// ListJoinTokens answers the tokens that can still be spent.
func (s *Service) ListJoinTokens(ctx context.Context, r *connect.Request[identityv1.ListJoinTokensRequest]) (*connect.Response[identityv1.ListJoinTokensResponse], error) {
	namespace, err := scope(r.Msg.GetNamespace(), r.Msg.GetAllNamespaces())
	if err != nil {
		return nil, err
	}
	all, err := s.cfg.Authority.JoinTokens(ctx, namespace)
	if err != nil {
		return nil, err
	}
	out := &identityv1.ListJoinTokensResponse{}
	slices.SortFunc(all, func(a, b identity.JoinToken) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Agent, b.Agent), a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	for _, t := range all {
		if access.Visible(ctx, permRead, s.object(t.Namespace, t.Agent)) {
			out.Tokens = append(out.Tokens, tokenOf(t))
		}
	}
	return connect.NewResponse(out), nil
}

// scope gives the namespace to list; empty: all of them.
func scope(namespace string, all bool) (string, error) {
	switch {
	case all:
		return "", nil
	case namespace == "":
		return "", errs.New(errs.Invalid, "a namespace, or all_namespaces, is required")
	}
	return namespace, nil
}

// DeleteJoinToken makes a token useless.
func (s *Service) DeleteJoinToken(ctx context.Context, r *connect.Request[identityv1.DeleteJoinTokenRequest]) (*connect.Response[identityv1.DeleteJoinTokenResponse], error) {
	all, err := s.cfg.Authority.JoinTokens(ctx, r.Msg.GetNamespace())
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(t identity.JoinToken) bool { return t.ID == r.Msg.GetId() })
	missing := errs.New(errs.NotFound, "join token %q doesn't exist in %s", r.Msg.GetId(), r.Msg.GetNamespace())
	if i < 0 || r.Msg.GetNamespace() == "" {
		return nil, missing
	}
	o := s.object(all[i].Namespace, all[i].Agent)
	if !access.Visible(ctx, permRead, o) && !access.Visible(ctx, permJoin, o) {
		return nil, missing
	}
	if err := access.Check(ctx, permJoin, o); err != nil {
		return nil, err
	}
	audit.From(ctx).On("agent/" + all[i].Agent)
	audit.From(ctx).Because("join token " + all[i].ID)
	if err := s.cfg.Authority.DeleteJoinToken(ctx, all[i].Namespace, all[i].ID); err != nil {
		return nil, err
	}
	return connect.NewResponse(&identityv1.DeleteJoinTokenResponse{}), nil
}

// ListIdentities answers the newest certificate of each instance, and what is revoked.
func (s *Service) ListIdentities(ctx context.Context, r *connect.Request[identityv1.ListIdentitiesRequest]) (*connect.Response[identityv1.ListIdentitiesResponse], error) {
	namespace, err := scope(r.Msg.GetNamespace(), r.Msg.GetAllNamespaces())
	if err != nil {
		return nil, err
	}
	agent := r.Msg.GetAgent()
	all, err := s.cfg.Authority.Issued(ctx, namespace, agent)
	if err != nil {
		return nil, err
	}
	out := &identityv1.ListIdentitiesResponse{}
	for _, i := range all { // in the order of the store: namespace, agent, instance
		if (agent != "" && !strings.EqualFold(i.Agent, agent)) || !access.Visible(ctx, permRead, s.object(i.Namespace, i.Agent)) {
			continue
		}
		out.Identities = append(out.Identities, &identityv1.Identity{
			Namespace: i.Namespace, Agent: i.Agent, Instance: i.Instance, Serial: i.Serial, NotBefore: timestamppb.New(i.NotBefore),
			NotAfter: timestamppb.New(i.NotAfter), Proof: string(i.Proof), Revoked: s.cfg.Authority.IsRevoked(i),
		})
	}
	revoked := s.cfg.Authority.Revocations()
	slices.SortFunc(revoked, func(a, b identity.Revocation) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Agent, b.Agent), strings.Compare(a.Instance, b.Instance))
	})
	for _, v := range revoked {
		if (namespace != "" && v.Namespace != namespace) || (agent != "" && !strings.EqualFold(v.Agent, agent)) || !access.Visible(ctx, permRead, s.object(v.Namespace, v.Agent)) {
			continue
		}
		out.Revocations = append(out.Revocations, revocationOf(v))
	}
	return connect.NewResponse(out), nil
}

func revocationOf(v identity.Revocation) *identityv1.Revocation {
	return &identityv1.Revocation{
		Namespace: v.Namespace, Agent: v.Agent, Instance: v.Instance, Before: timestamppb.New(v.Before), RevokedBy: v.RevokedBy, Message: v.Message,
	}
}

// Revoke ends certificates.
func (s *Service) Revoke(ctx context.Context, r *connect.Request[identityv1.RevokeRequest]) (*connect.Response[identityv1.RevokeResponse], error) {
	m := r.Msg
	d := audit.From(ctx)
	d.Because(m.GetMessage())
	if m.GetInstance() != "" {
		d.On("instance/" + m.GetInstance())
	}
	v, ended, err := s.cfg.Authority.Revoke(ctx, identity.Subject{Namespace: m.GetNamespace(), Agent: m.GetAgent(), Instance: m.GetInstance()}, actorOf(ctx), m.GetMessage())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&identityv1.RevokeResponse{Revocation: revocationOf(v), Certificates: int32(min(ended, 1<<30))}), nil //nolint:gosec // bounded in the line
}

// GetAuthority answers the certificate authority.
func (s *Service) GetAuthority(ctx context.Context, _ *connect.Request[identityv1.GetAuthorityRequest]) (*connect.Response[identityv1.GetAuthorityResponse], error) {
	serial, ends := s.cfg.Authority.Issuer()
	out := &identityv1.GetAuthorityResponse{
		TrustDomain: s.cfg.Authority.TrustDomain(), Roots: rootsOf(s.cfg.Authority.Roots()),
		IntermediateSerial: serial, IntermediateNotAfter: timestamppb.New(ends),
	}
	if slices.ContainsFunc(out.GetRoots(), func(r *identityv1.Root) bool { return r.GetState() == string(identity.Next) }) {
		all, err := s.cfg.Authority.Issued(ctx, "", "")
		if err != nil {
			return nil, err
		}
		for _, i := range s.cfg.Authority.Behind(all) {
			if s.cfg.Connected(i.Namespace, i.Agent, i.Instance) {
				out.Behind++
			}
		}
	}
	return connect.NewResponse(out), nil
}

func rootsOf(all []identity.Root) []*identityv1.Root {
	var out []*identityv1.Root
	for _, r := range all {
		out = append(out, &identityv1.Root{
			Pin: r.Pin, NotBefore: timestamppb.New(r.NotBefore), NotAfter: timestamppb.New(r.NotAfter), State: string(r.State), Certificate: r.DER,
		})
	}
	return out
}

// RotateAuthority takes a step of a rotation.
func (s *Service) RotateAuthority(ctx context.Context, r *connect.Request[identityv1.RotateAuthorityRequest]) (*connect.Response[identityv1.RotateAuthorityResponse], error) {
	step, ok := stepOf(r.Msg.GetStep())
	if !ok {
		return nil, errs.New(errs.Invalid, "step %d isn't known", r.Msg.GetStep())
	}
	d := audit.From(ctx)
	d.Because(r.Msg.GetMessage())
	before := pins(s.cfg.Authority.Roots())
	done, err := s.cfg.Authority.Rotate(ctx, step, r.Msg.GetForce(), func(step identity.Step) {
		d.Changed(true, audit.Change{Object: "authority", Path: "rotation", Before: strconv.Quote(before), After: strconv.Quote(string(step))})
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&identityv1.RotateAuthorityResponse{Done: wireStep(done), Roots: rootsOf(s.cfg.Authority.Roots())}), nil
}

func pins(all []identity.Root) string {
	var out []string
	for _, r := range all {
		out = append(out, string(r.State)+" "+r.Pin[:16])
	}
	return strings.Join(out, ", ")
}

func stepOf(s identityv1.RotationStep) (identity.Step, bool) {
	switch s {
	case identityv1.RotationStep_ROTATION_STEP_UNSPECIFIED:
		return "", true
	case identityv1.RotationStep_ROTATION_STEP_PREPARE:
		return identity.Prepare, true
	case identityv1.RotationStep_ROTATION_STEP_ACTIVATE:
		return identity.Activate, true
	case identityv1.RotationStep_ROTATION_STEP_RETIRE:
		return identity.Retire, true
	default:
		return "", false
	}
}

func wireStep(s identity.Step) identityv1.RotationStep {
	switch s {
	case identity.Prepare:
		return identityv1.RotationStep_ROTATION_STEP_PREPARE
	case identity.Activate:
		return identityv1.RotationStep_ROTATION_STEP_ACTIVATE
	case identity.Retire:
		return identityv1.RotationStep_ROTATION_STEP_RETIRE
	default:
		return identityv1.RotationStep_ROTATION_STEP_UNSPECIFIED
	}
}
