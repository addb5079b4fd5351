// Package accessapi is the service by which people log in, ask what they may, and keep API tokens, roles and bindings. The people
// door mounts it. It checks who may change what, also that nobody gives away more than they hold; package directory keeps the
// records, and package access decides.
package accessapi

import (
	"context"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/directory"
	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/gen/agentry/access/v1/accessv1connect"
	"github.com/agentry/agentry/internal/errs"
)

const (
	read  = "access.read"
	write = "access.write"
)

// Verifier verifies the ID tokens of the OIDC provider. nonce is empty where the login had none. A token that doesn't hold is
// errs.Unauthenticated, a provider that doesn't answer errs.Unavailable. It must be safe for concurrent use.
type Verifier interface {
	Verify(ctx context.Context, idToken, nonce string) (user string, groups []string, err error)
}

// Labels tells the labels of agents, which selectors of bindings are matched with. It must be safe for concurrent use.
type Labels interface {
	AgentLabels(namespace, agent string) map[string]string
}

// Provider is what clients must know of the OIDC provider.
type Provider struct {
	Issuer, ClientID string
	Scopes           []string
}

// Config is what New needs.
type Config struct {
	Directory *directory.Directory // required
	Labels    Labels               // required
	// Verifier is nil where there is no OIDC provider; people then use API tokens.
	Verifier Verifier
	Provider Provider
}

// Service implements agentry.access.v1.AccessService. It is safe for concurrent use.
type Service struct {
	cfg         Config
	permissions []access.Permission
}

// New makes a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Directory == nil || cfg.Labels == nil || (cfg.Verifier != nil) != (cfg.Provider.Issuer != "") {
		return nil, errs.New(errs.Invalid, "accessapi: something required is missing")
	}
	return &Service{cfg: cfg, permissions: access.Permissions()}, nil
}

// caller gives who calls a method that only the authenticated reach.
func caller(ctx context.Context) (access.Principal, error) {
	who, ok := access.From(ctx)
	if !ok {
		return who, errs.New(errs.Unauthenticated, "nobody is logged in")
	}
	return who, nil
}

// place gives the namespace of a request and what a permission on all of it is asked on. An empty one is the default namespace.
func place(namespace string) (name string, on access.Object) {
	switch namespace {
	case "":
		return "default", access.Object{Namespace: "default"}
	case access.AllNamespaces:
		return namespace, access.Object{}
	}
	return namespace, access.Object{Namespace: namespace}
}

// WhoAmI answers the caller and the bindings that count for it.
func (s *Service) WhoAmI(ctx context.Context, _ *connect.Request[accessv1.WhoAmIRequest]) (*connect.Response[accessv1.WhoAmIResponse], error) {
	who, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	resp := &accessv1.WhoAmIResponse{Caller: s.caller(who)}
	for _, b := range s.cfg.Directory.BindingsOf(who) {
		resp.Bindings = append(resp.Bindings, bindingOut(b))
	}
	return connect.NewResponse(resp), nil
}

// caller gives a principal as clients see it.
func (s *Service) caller(who access.Principal) *accessv1.Caller {
	everything := access.Role{Permissions: []string{"*"}}
	return &accessv1.Caller{
		Name: who.Name, Kind: string(who.Kind), Groups: who.Groups, Expires: stamp(who.Expires),
		Admin: who.Admin || len(s.cfg.Directory.Lacks(who, everything, access.Region{Namespace: access.AllNamespaces})) == 0,
	}
}

// ListPermissions answers every permission with the methods that ask for it and the built-in roles that hold it.
func (s *Service) ListPermissions(context.Context, *connect.Request[accessv1.ListPermissionsRequest]) (*connect.Response[accessv1.ListPermissionsResponse], error) {
	resp := &accessv1.ListPermissionsResponse{}
	for _, p := range s.permissions {
		out := &accessv1.Permission{Name: p.Name, Methods: p.Methods}
		for _, r := range access.BuiltIn() {
			if !p.Instance && r.HoldsSome(p.Name) {
				out.Roles = append(out.Roles, r.Name)
			}
		}
		resp.Permissions = append(resp.Permissions, out)
	}
	return connect.NewResponse(resp), nil
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func bindingOut(b access.Binding) *accessv1.Binding {
	return &accessv1.Binding{
		Name: b.Name, Namespace: b.Namespace, Role: b.Role, Subjects: slices.Clone(b.Subjects), Kind: b.Kind, Object: b.Object,
		Selector: slices.Clone(b.Selector), Condition: b.Condition,
	}
}

var _ accessv1connect.AccessServiceHandler = (*Service)(nil)
