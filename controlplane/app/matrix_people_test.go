package app

import (
	"fmt"
	"slices"
	"strings"
)

// holding is what the matrix believes that the built-in roles give. It is written down here once more, not read from the code.
func holding() map[string][]string {
	viewer := []string{"spec.read", "release.read"}
	return map[string][]string{
		"viewer":          viewer,
		"editor":          append(slices.Clone(viewer), "spec.write", "spec.delete", "prompt.label", "mcp.probe"),
		"secret-writer":   {"credential.write", "credential.use", "spec.read@credential"},
		"credential-user": {"credential.use"},
		"approver":        append(slices.Clone(viewer), "mcp.approve", "mcp.switch"),
		"operator": append(slices.Clone(viewer), "release.write", "mcp.switch", "prompt.label", "mcp.probe",
			"identity.read", "identity.join", "identity.revoke", "audit.read", "cluster.read"),
		"admin": {"*"},
	}
}

// everywhere is a grant on all namespaces, and a target that is the installation.
const everywhere = "*"

// grant is a role that a person holds somewhere.
type grant struct {
	role, namespace    string
	kind, object, team string // kind "": everything in the namespace
	scope              bool   // it is a token's scope, not a binding
}

// gives reports whether a role's permission is held on objects of a kind; "any": on some.
func (g grant) gives(permission, kind string) bool {
	return slices.ContainsFunc(holding()[g.role], func(have string) bool {
		name, only, bounded := strings.Cut(have, "@")
		return (name == "*" || name == permission) && (!bounded || only == kind || kind == "any")
	})
}

// person is a caller of the matrix.
type person struct {
	name   string
	grants []grant
	bearer string
	actor  string // its name at the control plane
	// stranger is nobody whom the door knows.
	stranger bool
}

// target is what a request is about.
type target struct {
	namespace  string // everywhere: all of them, or the installation
	kind, name string
	several    bool // objects of the namespace that the handler knows
}

func (t target) String() string {
	return strings.TrimRight(fmt.Sprintf("%s/%s/%s", t.namespace, t.kind, t.name), "/")
}

// team is the label of a stored agent.
func (t target) team() string {
	if t.kind != "agent" || (t.namespace != "mine" && t.namespace != "theirs") {
		return ""
	}
	return map[string]string{"bot": "a", "other": "b"}[t.name]
}

// holds reports whether a person holds a permission on a target: an object, every object of a kind, a namespace, or the installation.
func (p *person) holds(permission string, t target) bool {
	return slices.ContainsFunc(p.grants, func(g grant) bool {
		if !g.gives(permission, t.kind) || (g.namespace != everywhere && g.namespace != t.namespace) {
			return false
		}
		return (g.kind == "" || g.kind == t.kind) && (g.object == "" || g.object == t.name) && (g.team == "" || (t.name != "" && g.team == t.team()))
	})
}

// somewhere reports whether a person holds a permission on anything of a namespace, everywhere: of any.
func (p *person) somewhere(permission, namespace string) bool {
	return slices.ContainsFunc(p.grants, func(g grant) bool {
		return g.gives(permission, "any") && (namespace == everywhere || g.namespace == everywhere || g.namespace == namespace)
	})
}

// matrixPeople are all callers: nobody, each role bound on a namespace and on all of them, tokens that are bounded to it, and bindings
// on single objects.
func matrixPeople() []*person {
	out := []*person{{name: "nobody", stranger: true}, {name: "a stranger", bearer: "agt_no", stranger: true}}
	for role := range holding() {
		out = append(out,
			&person{name: role + " of mine", grants: []grant{{role: role, namespace: "mine"}}},
			&person{name: role + " of all", grants: []grant{{role: role, namespace: everywhere}}},
			&person{name: "token with scope " + role + " in mine", grants: []grant{{role: role, namespace: "mine", scope: true}}},
		)
	}
	return append(out,
		&person{name: "editor of agent bot", grants: []grant{{role: "editor", namespace: "mine", kind: "agent", object: "bot"}}},
		&person{name: "operator of agent bot", grants: []grant{{role: "operator", namespace: "mine", kind: "agent", object: "bot"}}},
		&person{name: "viewer of prompt bot", grants: []grant{{role: "viewer", namespace: "mine", kind: "prompt", object: "bot"}}},
		&person{name: "secret-writer of credential bot", grants: []grant{{role: "secret-writer", namespace: "mine", kind: "credential", object: "bot"}}},
		&person{name: "editor of team a", grants: []grant{{role: "editor", namespace: "mine", kind: "agent", team: "a"}}},
		&person{name: "operator of team b everywhere", grants: []grant{{role: "operator", namespace: everywhere, kind: "agent", team: "b"}}},
		&person{name: "approver of all servers of mine", grants: []grant{{role: "approver", namespace: "mine", kind: "mcp"}}},
	)
}
