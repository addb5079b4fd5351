package accessapi

import (
	"context"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/directory"
	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// LoginInfo answers how people log in here.
func (s *Service) LoginInfo(context.Context, *connect.Request[accessv1.LoginInfoRequest]) (*connect.Response[accessv1.LoginInfoResponse], error) {
	p := s.cfg.Provider
	return connect.NewResponse(&accessv1.LoginInfoResponse{
		Issuer: p.Issuer, ClientId: p.ClientID, Scopes: p.Scopes, Bootstrap: s.cfg.Directory.Waiting(),
	}), nil
}

// Login exchanges an ID token for a session.
func (s *Service) Login(ctx context.Context, req *connect.Request[accessv1.LoginRequest]) (*connect.Response[accessv1.LoginResponse], error) {
	if s.cfg.Verifier == nil {
		return nil, errs.New(errs.Precondition, "no OIDC provider is configured: use an API token")
	}
	user, groups, err := s.cfg.Verifier.Verify(ctx, req.Msg.GetIdToken(), req.Msg.GetNonce())
	if err != nil {
		return nil, err
	}
	// Whoever finds the ID token later, in a log or a history, can't use it again. Of a signature there may be several spellings.
	signed := req.Msg.GetIdToken()
	if i := strings.LastIndexByte(signed, '.'); i > 0 {
		signed = signed[:i]
	}
	audit.From(ctx).By("user:" + user)
	session, value, err := s.cfg.Directory.CreateSession(ctx, directory.NewSession{User: user, Groups: groups, Proof: signed})
	if err != nil {
		return nil, err
	}
	who := access.Principal{Name: session.Owner, Kind: access.User, Groups: session.Groups, TokenID: session.ID, Expires: session.Expires}
	return connect.NewResponse(&accessv1.LoginResponse{Token: value.Reveal(), Expires: timestamppb.New(session.Expires), Caller: s.caller(who)}), nil
}

// Bootstrap spends the bootstrap token.
func (s *Service) Bootstrap(ctx context.Context, req *connect.Request[accessv1.BootstrapRequest]) (*connect.Response[accessv1.BootstrapResponse], error) {
	token, value, err := s.cfg.Directory.SpendBootstrap(ctx, secret.NewValue(req.Msg.GetBootstrapToken()))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&accessv1.BootstrapResponse{Token: value.Reveal(), Expires: timestamppb.New(token.Expires)}), nil
}

// Logout ends what the call carries.
func (s *Service) Logout(ctx context.Context, _ *connect.Request[accessv1.LogoutRequest]) (*connect.Response[accessv1.LogoutResponse], error) {
	who, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	if who.TokenID == "" {
		return nil, errs.New(errs.Precondition, "%s has no session: the token file counts as long as it is there", who.Name)
	}
	audit.From(ctx).Because("logout")
	if _, err := s.cfg.Directory.RevokeToken(ctx, who.TokenID); err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	return connect.NewResponse(&accessv1.LogoutResponse{}), nil
}
