package access

import (
	"slices"
	"strings"
)

// RoleAdmin is the role that holds everything.
const RoleAdmin = "admin"

// Role is a set of permissions. A permission is a name, "spec.*" for all that begin so, or "*" for all; "spec.read@credential" is
// held on objects of that kind only.
type Role struct {
	Name        string   `json:"name"`
	Permissions []string `json:"permissions"`
	Description string   `json:"description,omitempty"`
	BuiltIn     bool     `json:"-"`
}

// BuiltIn gives the roles that are always there, in the order in which people should read them.
func BuiltIn() []Role {
	viewer := []string{"spec.read", "release.read"}
	with := func(base []string, more ...string) []string { return slices.Concat(base, more) }
	return []Role{
		{Name: "viewer", Description: "reads agents, prompts, servers and releases", Permissions: viewer, BuiltIn: true},
		{
			Name: "editor", Description: "viewer, and writes agents, prompts and servers", BuiltIn: true,
			Permissions: with(viewer, "spec.write", "spec.delete", "prompt.label", "mcp.probe"),
		},
		{
			Name: "credential-user", Description: "names credentials in specs, so that their agents use them", BuiltIn: true,
			Permissions: []string{CredentialUse},
		},
		{
			Name: "secret-writer", Description: "writes and uses credentials", BuiltIn: true,
			Permissions: []string{"credential.write", CredentialUse, "spec.read@credential"},
		},
		{
			Name: "approver", Description: "viewer, and approves and switches tools", BuiltIn: true,
			Permissions: with(viewer, "mcp.approve", "mcp.switch"),
		},
		{
			Name: "operator", Description: "viewer, and steers releases, labels, switches and identities, and reads the audit log", BuiltIn: true,
			Permissions: with(viewer, "release.write", "mcp.switch", "prompt.label", "mcp.probe",
				"identity.read", "identity.join", "identity.revoke", "audit.read", "cluster.read"),
		},
		{Name: RoleAdmin, Description: "everything", Permissions: []string{"*"}, BuiltIn: true},
	}
}

// Holds says whether the role gives a permission on objects of a kind; "": on all kinds.
func (r Role) Holds(permission, kind string) bool { return permissionsOf(r).holds(permission, kind) }

// HoldsSome says whether the role gives a permission on objects of some kind.
func (r Role) HoldsSome(permission string) bool { return permissionsOf(r).any(permission) }

// permissions is a role's set made for asking. The inner key is the kind that a permission is bounded to; "": unbounded.
type permissions struct {
	exact    map[string][]string // permission -> kinds
	prefixes []prefix
}

// prefix is "spec." with the kind that it is bounded to, and "" for the star alone.
type prefix struct{ text, kind string }

func permissionsOf(r Role) *permissions {
	p := &permissions{exact: make(map[string][]string, len(r.Permissions))}
	for _, pattern := range r.Permissions {
		name, kind, _ := strings.Cut(pattern, "@")
		if text, ok := strings.CutSuffix(name, "*"); ok {
			p.prefixes = append(p.prefixes, prefix{text: text, kind: kind})
			continue
		}
		p.exact[name] = append(p.exact[name], kind)
	}
	return p
}

// holds says whether the set has a permission for objects of a kind; an empty kind asks for all kinds.
func (p *permissions) holds(permission, kind string) bool {
	for _, k := range p.exact[permission] {
		if k == "" || k == kind {
			return true
		}
	}
	for _, x := range p.prefixes {
		if (x.kind == "" || x.kind == kind) && strings.HasPrefix(permission, x.text) {
			return true
		}
	}
	return false
}

// any says whether the set has a permission for objects of some kind.
func (p *permissions) any(permission string) bool {
	if len(p.exact[permission]) > 0 {
		return true
	}
	return slices.ContainsFunc(p.prefixes, func(x prefix) bool { return strings.HasPrefix(permission, x.text) })
}

// covers says whether the set has all that a pattern such as "spec.*@agent" stands for, now and with permissions to come.
func (p *permissions) covers(pattern string) bool {
	name, kind, _ := strings.Cut(pattern, "@")
	text, isPrefix := strings.CutSuffix(name, "*")
	if !isPrefix {
		return p.holds(name, kind)
	}
	return slices.ContainsFunc(p.prefixes, func(x prefix) bool {
		return (x.kind == "" || x.kind == kind) && strings.HasPrefix(text, x.text)
	})
}
