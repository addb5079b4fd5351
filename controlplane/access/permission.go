package access

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	_ "github.com/agentry/agentry/gen/agentry/audit/v1"    // the permissions that its methods ask for
	_ "github.com/agentry/agentry/gen/agentry/cluster/v1"  // the permissions that its methods ask for
	_ "github.com/agentry/agentry/gen/agentry/identity/v1" // the permissions that its methods ask for
	_ "github.com/agentry/agentry/gen/agentry/peer/v1"     // the permissions that its methods ask for
	_ "github.com/agentry/agentry/gen/agentry/push/v1"     // the permissions that its methods ask for
	_ "github.com/agentry/agentry/gen/agentry/registry/v1" // the permissions that its methods ask for
	_ "github.com/agentry/agentry/gen/agentry/release/v1"  // the permissions that its methods ask for
	_ "github.com/agentry/agentry/gen/agentry/spec/v1"     // the permissions that its methods ask for
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
)

// CredentialUse is the permission to name a credential in a spec. No method asks for it as a whole: the handlers that write specs do.
const CredentialUse = "credential.use" //nolint:gosec // a permission, no credential

// Permission is one thing that a caller may hold.
type Permission struct {
	Name string
	// Methods ask for it before their handler runs, as "agentry.spec.v1.SpecService/Apply".
	Methods []string
	// Instance is true where only the certificate of an agent, or of a replica, holds it, never a role.
	Instance bool
}

// Permissions gives every permission that exists, by name: those of the methods' rules, and those that only handlers ask for.
func Permissions() []Permission {
	found := map[string]*Permission{CredentialUse: {Name: CredentialUse}}
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(f.Package()), "agentry.") {
			methodsOf(f, found)
		}
		return true
	})
	out := make([]Permission, 0, len(found))
	for _, p := range found {
		slices.Sort(p.Methods)
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Permission) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func methodsOf(f protoreflect.FileDescriptor, into map[string]*Permission) {
	for i := range f.Services().Len() {
		s := f.Services().Get(i)
		for j := range s.Methods().Len() {
			method := string(s.FullName()) + "/" + string(s.Methods().Get(j).Name())
			rule, ok := rpc.Rule("/" + method)
			if !ok || rule.GetPermission() == "" {
				continue
			}
			p := into[rule.GetPermission()]
			if p == nil {
				p = &Permission{Name: rule.GetPermission()}
				into[p.Name] = p
			}
			p.Methods = append(p.Methods, method)
			p.Instance = p.Instance || rule.GetOn() == accessv1.On_ON_INSTANCE || rule.GetOn() == accessv1.On_ON_REPLICA
		}
	}
}

// kinds are the kinds of objects that bindings and permissions may be bounded to.
func kinds() []string { return []string{"agent", "prompt", "mcp", "credential"} }

// CheckPattern answers errs.Invalid for what can't stand in a role: a permission, "spec.*" or "*", each of them bounded to a kind
// of objects by "@credential".
func CheckPattern(pattern string, known []Permission) error {
	name, kind, bounded := strings.Cut(pattern, "@")
	if bounded && !slices.Contains(kinds(), kind) {
		return errs.New(errs.Invalid, "permission %q: the kind %q isn't one of %s", pattern, kind, strings.Join(kinds(), ", "))
	}
	prefix, isPrefix := strings.CutSuffix(name, "*")
	if isPrefix && prefix != "" && !strings.HasSuffix(prefix, ".") {
		return errs.New(errs.Invalid, "permission %q: a star stands alone or after a point", pattern)
	}
	for _, p := range known {
		if p.Name == name || (isPrefix && strings.HasPrefix(p.Name, prefix)) {
			return nil
		}
	}
	return errs.New(errs.Invalid, "permission %q: there is none of this name", pattern)
}
