package commandtest

import (
	"context"
	"net/http"

	"connectrpc.com/connect"

	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/gen/agentry/access/v1/accessv1connect"
	auditv1 "github.com/agentry/agentry/gen/agentry/audit/v1"
	"github.com/agentry/agentry/gen/agentry/audit/v1/auditv1connect"
	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	"github.com/agentry/agentry/gen/agentry/identity/v1/identityv1connect"
)

// The services of who may what. As with the registries, files of methods whose names stand alone too often begin with their noun:
// IdentityRevoke.json, AuditList.json.
type (
	accesses   struct{ s *Server }
	identities struct{ s *Server }
	audits     struct{ s *Server }
)

func (s *Server) trust(mux *http.ServeMux) {
	mux.Handle(accessv1connect.NewAccessServiceHandler(accesses{s}))
	mux.Handle(identityv1connect.NewIdentityServiceHandler(identities{s}))
	mux.Handle(auditv1connect.NewAuditServiceHandler(audits{s}))
}

// public says which methods need no token: they carry a proof of their own, or tell no secret.
func public(method string) bool {
	return method == "LoginInfo" || method == "Login" || method == "Bootstrap"
}

// LoginInfo answers from LoginInfo.json.
func (x accesses) LoginInfo(_ context.Context, r *connect.Request[accessv1.LoginInfoRequest]) (*connect.Response[accessv1.LoginInfoResponse], error) {
	return unary[accessv1.LoginInfoRequest, accessv1.LoginInfoResponse](x.s, "LoginInfo", r)
}

// Login answers from Login.json.
func (x accesses) Login(_ context.Context, r *connect.Request[accessv1.LoginRequest]) (*connect.Response[accessv1.LoginResponse], error) {
	return unary[accessv1.LoginRequest, accessv1.LoginResponse](x.s, "Login", r)
}

// Bootstrap answers from Bootstrap.json.
func (x accesses) Bootstrap(_ context.Context, r *connect.Request[accessv1.BootstrapRequest]) (*connect.Response[accessv1.BootstrapResponse], error) {
	return unary[accessv1.BootstrapRequest, accessv1.BootstrapResponse](x.s, "Bootstrap", r)
}

// Logout answers from Logout.json.
func (x accesses) Logout(_ context.Context, r *connect.Request[accessv1.LogoutRequest]) (*connect.Response[accessv1.LogoutResponse], error) {
	return unary[accessv1.LogoutRequest, accessv1.LogoutResponse](x.s, "Logout", r)
}

// WhoAmI answers from WhoAmI.json.
func (x accesses) WhoAmI(_ context.Context, r *connect.Request[accessv1.WhoAmIRequest]) (*connect.Response[accessv1.WhoAmIResponse], error) {
	return unary[accessv1.WhoAmIRequest, accessv1.WhoAmIResponse](x.s, "WhoAmI", r)
}

// CanI answers from CanI.json.
func (x accesses) CanI(_ context.Context, r *connect.Request[accessv1.CanIRequest]) (*connect.Response[accessv1.CanIResponse], error) {
	return unary[accessv1.CanIRequest, accessv1.CanIResponse](x.s, "CanI", r)
}

// ListPermissions answers from ListPermissions.json.
func (x accesses) ListPermissions(_ context.Context, r *connect.Request[accessv1.ListPermissionsRequest]) (*connect.Response[accessv1.ListPermissionsResponse], error) {
	return unary[accessv1.ListPermissionsRequest, accessv1.ListPermissionsResponse](x.s, "ListPermissions", r)
}

// CreateToken answers from CreateToken.json.
func (x accesses) CreateToken(_ context.Context, r *connect.Request[accessv1.CreateTokenRequest]) (*connect.Response[accessv1.CreateTokenResponse], error) {
	return unary[accessv1.CreateTokenRequest, accessv1.CreateTokenResponse](x.s, "CreateToken", r)
}

// ListTokens answers from ListTokens.json.
func (x accesses) ListTokens(_ context.Context, r *connect.Request[accessv1.ListTokensRequest]) (*connect.Response[accessv1.ListTokensResponse], error) {
	return unary[accessv1.ListTokensRequest, accessv1.ListTokensResponse](x.s, "ListTokens", r)
}

// RevokeToken answers from RevokeToken.json.
func (x accesses) RevokeToken(_ context.Context, r *connect.Request[accessv1.RevokeTokenRequest]) (*connect.Response[accessv1.RevokeTokenResponse], error) {
	return unary[accessv1.RevokeTokenRequest, accessv1.RevokeTokenResponse](x.s, "RevokeToken", r)
}

// ListRoles answers from ListRoles.json.
func (x accesses) ListRoles(_ context.Context, r *connect.Request[accessv1.ListRolesRequest]) (*connect.Response[accessv1.ListRolesResponse], error) {
	return unary[accessv1.ListRolesRequest, accessv1.ListRolesResponse](x.s, "ListRoles", r)
}

// SetRole answers from SetRole.json.
func (x accesses) SetRole(_ context.Context, r *connect.Request[accessv1.SetRoleRequest]) (*connect.Response[accessv1.SetRoleResponse], error) {
	return unary[accessv1.SetRoleRequest, accessv1.SetRoleResponse](x.s, "SetRole", r)
}

// DeleteRole answers from DeleteRole.json.
func (x accesses) DeleteRole(_ context.Context, r *connect.Request[accessv1.DeleteRoleRequest]) (*connect.Response[accessv1.DeleteRoleResponse], error) {
	return unary[accessv1.DeleteRoleRequest, accessv1.DeleteRoleResponse](x.s, "DeleteRole", r)
}

// ListBindings answers from ListBindings.json.
func (x accesses) ListBindings(_ context.Context, r *connect.Request[accessv1.ListBindingsRequest]) (*connect.Response[accessv1.ListBindingsResponse], error) {
	return unary[accessv1.ListBindingsRequest, accessv1.ListBindingsResponse](x.s, "ListBindings", r)
}

// SetBinding answers from SetBinding.json.
func (x accesses) SetBinding(_ context.Context, r *connect.Request[accessv1.SetBindingRequest]) (*connect.Response[accessv1.SetBindingResponse], error) {
	return unary[accessv1.SetBindingRequest, accessv1.SetBindingResponse](x.s, "SetBinding", r)
}

// DeleteBinding answers from DeleteBinding.json.
func (x accesses) DeleteBinding(_ context.Context, r *connect.Request[accessv1.DeleteBindingRequest]) (*connect.Response[accessv1.DeleteBindingResponse], error) {
	return unary[accessv1.DeleteBindingRequest, accessv1.DeleteBindingResponse](x.s, "DeleteBinding", r)
}

// CreateJoinToken answers from CreateJoinToken.json.
func (x identities) CreateJoinToken(_ context.Context, r *connect.Request[identityv1.CreateJoinTokenRequest]) (*connect.Response[identityv1.CreateJoinTokenResponse], error) {
	return unary[identityv1.CreateJoinTokenRequest, identityv1.CreateJoinTokenResponse](x.s, "CreateJoinToken", r)
}

// ListJoinTokens answers from ListJoinTokens.json.
func (x identities) ListJoinTokens(_ context.Context, r *connect.Request[identityv1.ListJoinTokensRequest]) (*connect.Response[identityv1.ListJoinTokensResponse], error) {
	return unary[identityv1.ListJoinTokensRequest, identityv1.ListJoinTokensResponse](x.s, "ListJoinTokens", r)
}

// DeleteJoinToken answers from DeleteJoinToken.json.
func (x identities) DeleteJoinToken(_ context.Context, r *connect.Request[identityv1.DeleteJoinTokenRequest]) (*connect.Response[identityv1.DeleteJoinTokenResponse], error) {
	return unary[identityv1.DeleteJoinTokenRequest, identityv1.DeleteJoinTokenResponse](x.s, "DeleteJoinToken", r)
}

// ListIdentities answers from ListIdentities.json.
func (x identities) ListIdentities(_ context.Context, r *connect.Request[identityv1.ListIdentitiesRequest]) (*connect.Response[identityv1.ListIdentitiesResponse], error) {
	return unary[identityv1.ListIdentitiesRequest, identityv1.ListIdentitiesResponse](x.s, "ListIdentities", r)
}

// Revoke answers from IdentityRevoke.json.
func (x identities) Revoke(_ context.Context, r *connect.Request[identityv1.RevokeRequest]) (*connect.Response[identityv1.RevokeResponse], error) {
	return unary[identityv1.RevokeRequest, identityv1.RevokeResponse](x.s, "IdentityRevoke", r)
}

// GetAuthority answers from GetAuthority.json.
func (x identities) GetAuthority(_ context.Context, r *connect.Request[identityv1.GetAuthorityRequest]) (*connect.Response[identityv1.GetAuthorityResponse], error) {
	return unary[identityv1.GetAuthorityRequest, identityv1.GetAuthorityResponse](x.s, "GetAuthority", r)
}

// RotateAuthority answers from RotateAuthority.json.
func (x identities) RotateAuthority(_ context.Context, r *connect.Request[identityv1.RotateAuthorityRequest]) (*connect.Response[identityv1.RotateAuthorityResponse], error) {
	return unary[identityv1.RotateAuthorityRequest, identityv1.RotateAuthorityResponse](x.s, "RotateAuthority", r)
}

// List answers from AuditList.json.
func (x audits) List(_ context.Context, r *connect.Request[auditv1.ListRequest]) (*connect.Response[auditv1.ListResponse], error) {
	return unary[auditv1.ListRequest, auditv1.ListResponse](x.s, "AuditList", r)
}

// Watch answers from AuditWatch.json.
func (x audits) Watch(ctx context.Context, r *connect.Request[auditv1.WatchRequest], to *connect.ServerStream[auditv1.WatchResponse]) error {
	return stream(ctx, x.s, "AuditWatch", r, to)
}

// Chain answers from AuditChain.json.
func (x audits) Chain(ctx context.Context, r *connect.Request[auditv1.ChainRequest], to *connect.ServerStream[auditv1.ChainResponse]) error {
	return stream(ctx, x.s, "AuditChain", r, to)
}
