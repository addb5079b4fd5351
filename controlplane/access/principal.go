// Package access decides who may do what: principals, roles, bindings with conditions, and what a token leaves of its owner's
// permissions. Everything is denied that no binding allows. The gate and the handlers of the people door ask it, by the Rules that a
// Principal carries; package directory keeps the records that it decides by. But for the token file it does no I/O.
package access

import (
	"context"
	"time"

	"github.com/agentry/agentry/internal/errs"
)

// Kind is what sort of caller a Principal is.
type Kind string

// The kinds.
const (
	User  Kind = "user"  // a person who logged in by OIDC
	Token Kind = "token" // an API token
	Dev   Kind = "dev"   // the token file of a control plane on the loopback
	Agent Kind = "agent" // an instance, by its certificate
)

// Principal is an authenticated caller.
type Principal struct {
	// Name is what history and audit keep as actor, such as "user:ada@example.org", "token:ci of user:ada@example.org",
	// "dev" or "agent:default/helper".
	Name string
	Kind Kind
	// Groups are the OIDC provider's, without prefix.
	Groups []string
	// TokenID is the id of the API token or session that was shown; empty: none.
	TokenID string
	// Expires is when what was shown ends; zero: never.
	Expires time.Time
	// Admin holds every permission everywhere.
	Admin bool
	// Rules decide for all others; nil: nothing is allowed.
	Rules Rules
}

// Rules say what principals may. They are asked at every check, so that a binding that is gone doesn't count any more in a running
// stream. Safe for concurrent use, without I/O.
type Rules interface {
	// Allowed says whether p holds a permission on an object.
	Allowed(p Principal, permission string, o Object) bool
	// Somewhere says whether p holds it on anything of a namespace; "": of any.
	Somewhere(p Principal, permission, namespace string) bool
}

// Object is what a permission is asked on. An empty Name is every object of the kind, an empty Kind the whole namespace, an empty
// Namespace the whole installation.
type Object struct {
	Namespace, Kind, Name string
	// Labels of an agent; selectors of bindings are matched with them.
	Labels map[string]string
}

// String gives "agent default/helper", "namespace default" or "the installation".
func (o Object) String() string {
	switch {
	case o.Namespace == "":
		return "the installation"
	case o.Kind == "":
		return "namespace " + o.Namespace
	case o.Name == "":
		return "every " + o.Kind + " of " + o.Namespace
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// Allowed says whether the principal holds a permission on an object.
func (p Principal) Allowed(permission string, o Object) bool {
	return p.Admin || (p.Rules != nil && p.Rules.Allowed(p, permission, o))
}

// Somewhere says whether the principal holds a permission on anything of a namespace; "": of any.
func (p Principal) Somewhere(permission, namespace string) bool {
	return p.Admin || (p.Rules != nil && p.Rules.Somewhere(p, permission, namespace))
}

// Visible says whether the caller holds a permission on an object: what a list leaves out.
func Visible(ctx context.Context, permission string, o Object) bool {
	p, ok := From(ctx)
	return ok && p.Allowed(permission, o)
}

// Check answers nil where the caller holds a permission on an object. Else it is errs.Denied where the caller may at least read
// the object, and errs.NotFound, in the words of Missing, where it may not: what isn't yours looks as if it weren't there.
func Check(ctx context.Context, permission string, o Object) error {
	p, ok := From(ctx)
	switch {
	case !ok:
		return errs.New(errs.Unauthenticated, "nobody is logged in")
	case p.Allowed(permission, o):
		return nil
	}
	if f, ok := ctx.Value(deniedKey{}).(func(string, Object)); ok {
		f(permission, o)
	}
	if o.Name != "" && !p.Allowed("spec.read", o) {
		return Missing(o)
	}
	return errs.New(errs.Denied, "%s needs %s on %s", p.Name, permission, o)
}

// Missing is what everybody answers for an object that isn't there, or that the caller may not see.
func Missing(o Object) error { return errs.New(errs.NotFound, "%s doesn't exist", o) }

type (
	principalKey struct{}
	deniedKey    struct{}
)

// OnDenied gives a context in which Check tells f of every denial, also of one that the caller hears as something that isn't there.
// f must be safe for concurrent use.
func OnDenied(ctx context.Context, f func(permission string, o Object)) context.Context {
	return context.WithValue(ctx, deniedKey{}, f)
}

// With gives a context that carries the caller.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From gives the caller, or false on a path that asked no guard.
func From(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}
