package accessapi

import (
	"context"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/directory"
	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/internal/errs"
)

// CreateToken makes an API token of the caller's. It needs no permission: a token holds no more than its owner.
func (s *Service) CreateToken(ctx context.Context, req *connect.Request[accessv1.CreateTokenRequest]) (*connect.Response[accessv1.CreateTokenResponse], error) {
	who, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	n := directory.NewToken{Name: req.Msg.GetName()}
	if ttl := req.Msg.GetTtl(); ttl != nil {
		if err := ttl.CheckValid(); err != nil || ttl.AsDuration() < 0 {
			return nil, errs.New(errs.Invalid, "ttl: not a duration from now on")
		}
		n.TTL = ttl.AsDuration()
	}
	for _, sc := range req.Msg.GetScopes() {
		n.Scopes = append(n.Scopes, access.Scope{Namespace: sc.GetNamespace(), Role: sc.GetRole()})
	}
	token, value, err := s.cfg.Directory.CreateToken(ctx, who, n)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&accessv1.CreateTokenResponse{Token: tokenOut(token), Secret: value.Reveal()}), nil
}

// ListTokens answers the caller's tokens and sessions, or everybody's, newest first.
func (s *Service) ListTokens(ctx context.Context, req *connect.Request[accessv1.ListTokensRequest]) (*connect.Response[accessv1.ListTokensResponse], error) {
	who, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	all := req.Msg.GetAll()
	if all {
		if err := access.Check(ctx, read, access.Object{}); err != nil {
			return nil, err
		}
	}
	resp := &accessv1.ListTokensResponse{}
	for _, t := range s.cfg.Directory.Tokens(func(t directory.Token) bool { return all || s.cfg.Directory.Own(who, t) }) {
		resp.Tokens = append(resp.Tokens, tokenOut(t))
	}
	return connect.NewResponse(resp), nil
}

// RevokeToken ends a token or session, by its id or by the name of one of the caller's. One that isn't the caller's to end looks as
// if it weren't there.
func (s *Service) RevokeToken(ctx context.Context, req *connect.Request[accessv1.RevokeTokenRequest]) (*connect.Response[accessv1.RevokeTokenResponse], error) {
	who, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	given := req.Msg.GetToken()
	anyones := access.Check(ctx, write, access.Object{}) == nil
	var id string
	for _, t := range s.cfg.Directory.Tokens(func(t directory.Token) bool { return t.ID == given || t.Name == given }) {
		own := s.cfg.Directory.Own(who, t)
		if t.ID == given && (own || anyones) {
			id = t.ID
			break
		}
		if own {
			id = t.ID
		}
	}
	if id == "" {
		return nil, errs.New(errs.NotFound, "there is no token %q", given)
	}
	token, err := s.cfg.Directory.RevokeToken(ctx, id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&accessv1.RevokeTokenResponse{Token: tokenOut(token)}), nil
}

func tokenOut(t directory.Token) *accessv1.Token {
	out := &accessv1.Token{
		Id: t.ID, Name: t.Name, Owner: t.Owner, Kind: t.Kind, Created: stamp(t.Created), Expires: stamp(t.Expires), LastUsed: stamp(t.LastUsed),
	}
	for _, s := range t.Scopes {
		out.Scopes = append(out.Scopes, &accessv1.Scope{Namespace: s.Namespace, Role: s.Role})
	}
	return out
}
