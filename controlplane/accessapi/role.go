package accessapi

import (
	"context"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/internal/errs"
)

// ListRoles answers every role. What a role holds is no secret.
func (s *Service) ListRoles(context.Context, *connect.Request[accessv1.ListRolesRequest]) (*connect.Response[accessv1.ListRolesResponse], error) {
	resp := &accessv1.ListRolesResponse{}
	for _, r := range s.cfg.Directory.Roles() {
		resp.Roles = append(resp.Roles, roleOut(r))
	}
	return connect.NewResponse(resp), nil
}

// SetRole makes or changes a role. As it may be bound anywhere, its maker must hold all of it everywhere.
func (s *Service) SetRole(ctx context.Context, req *connect.Request[accessv1.SetRoleRequest]) (*connect.Response[accessv1.SetRoleResponse], error) {
	if err := access.Check(ctx, write, access.Object{}); err != nil {
		return nil, err
	}
	in := req.Msg.GetRole()
	role := access.Role{Name: in.GetName(), Permissions: slices.Clone(in.GetPermissions()), Description: in.GetDescription()}
	if err := s.holdsAll(ctx, role, access.Region{Namespace: access.AllNamespaces}); err != nil {
		return nil, err
	}
	audit.From(ctx).Because(req.Msg.GetMessage())
	if err := s.cfg.Directory.SetRole(ctx, role); err != nil {
		return nil, err
	}
	return connect.NewResponse(&accessv1.SetRoleResponse{Role: roleOut(role)}), nil
}

// holdsAll answers errs.Denied where the caller would give away more than it has.
func (s *Service) holdsAll(ctx context.Context, role access.Role, in access.Region) error {
	who, err := caller(ctx)
	if err != nil || who.Admin {
		return err
	}
	if lacks := s.cfg.Directory.Lacks(who, role, in); len(lacks) > 0 {
		return errs.New(errs.Denied, "role %s gives %s, which %s doesn't hold there itself", role.Name, strings.Join(lacks, ", "), who.Name)
	}
	return nil
}

// DeleteRole removes a role that no binding names.
func (s *Service) DeleteRole(ctx context.Context, req *connect.Request[accessv1.DeleteRoleRequest]) (*connect.Response[accessv1.DeleteRoleResponse], error) {
	if err := access.Check(ctx, write, access.Object{}); err != nil {
		return nil, err
	}
	audit.From(ctx).Because(req.Msg.GetMessage())
	if err := s.cfg.Directory.DeleteRole(ctx, req.Msg.GetName()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&accessv1.DeleteRoleResponse{}), nil
}

func roleOut(r access.Role) *accessv1.Role {
	return &accessv1.Role{Name: r.Name, Permissions: r.Permissions, BuiltIn: r.BuiltIn, Description: r.Description}
}

// ListBindings answers the bindings that the caller may read. Those of all namespaces are listed with all namespaces, or as "*".
func (s *Service) ListBindings(ctx context.Context, req *connect.Request[accessv1.ListBindingsRequest]) (*connect.Response[accessv1.ListBindingsResponse], error) {
	if _, err := caller(ctx); err != nil {
		return nil, err
	}
	namespace, _ := place(req.Msg.GetNamespace())
	resp := &accessv1.ListBindingsResponse{}
	for _, b := range s.cfg.Directory.Bindings() {
		if !req.Msg.GetAllNamespaces() && b.Namespace != namespace {
			continue
		}
		if _, on := place(b.Namespace); access.Visible(ctx, read, on) {
			resp.Bindings = append(resp.Bindings, bindingOut(b))
		}
	}
	return connect.NewResponse(resp), nil
}

// SetBinding makes or changes a binding. Its maker must hold all that it gives, where it gives it.
func (s *Service) SetBinding(ctx context.Context, req *connect.Request[accessv1.SetBindingRequest]) (*connect.Response[accessv1.SetBindingResponse], error) {
	namespace, on := place(req.Msg.GetNamespace())
	if err := access.Check(ctx, write, on); err != nil {
		return nil, err
	}
	in := req.Msg.GetBinding()
	if in.GetNamespace() != "" && in.GetNamespace() != namespace {
		return nil, errs.New(errs.Invalid, "the request is about namespace %s, the binding about %s", namespace, in.GetNamespace())
	}
	b := access.Binding{
		Name: in.GetName(), Namespace: namespace, Role: in.GetRole(), Subjects: slices.Clone(in.GetSubjects()), Kind: in.GetKind(),
		Object: in.GetObject(), Selector: slices.Clone(in.GetSelector()), Condition: in.GetCondition(),
	}
	role, ok := s.cfg.Directory.Policy().Role(b.Role)
	if !ok {
		return nil, errs.New(errs.Invalid, "binding %s: there is no role %q", b, b.Role)
	}
	if err := s.holdsAll(ctx, role, b.Region()); err != nil {
		return nil, err
	}
	audit.From(ctx).Because(req.Msg.GetMessage())
	if err := s.cfg.Directory.SetBinding(ctx, b); err != nil {
		return nil, err
	}
	return connect.NewResponse(&accessv1.SetBindingResponse{Binding: bindingOut(b)}), nil
}

// DeleteBinding removes a binding.
func (s *Service) DeleteBinding(ctx context.Context, req *connect.Request[accessv1.DeleteBindingRequest]) (*connect.Response[accessv1.DeleteBindingResponse], error) {
	namespace, on := place(req.Msg.GetNamespace())
	if err := access.Check(ctx, write, on); err != nil {
		return nil, err
	}
	audit.From(ctx).Because(req.Msg.GetMessage())
	if err := s.cfg.Directory.DeleteBinding(ctx, namespace, req.Msg.GetName()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&accessv1.DeleteBindingResponse{}), nil
}
