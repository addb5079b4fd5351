package directory

import (
	"context"
	"encoding/json"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/spec"
)

const (
	maxPermissions = 200
	maxDescription = 500
)

// Roles gives the built-in roles and then the others by name.
func (d *Directory) Roles() []access.Role { return d.Policy().Roles() }

// SetRole makes or changes a role. A built-in one is errs.Precondition.
func (d *Directory) SetRole(ctx context.Context, r access.Role) error {
	if err := checkRole(r); err != nil {
		return err
	}
	return retrying(func() error {
		key := policyPrefix + roleKey + r.Name
		kv, err := d.get(ctx, key)
		if err != nil {
			return err
		}
		var before any
		if kv.ModRevision != 0 {
			before = json.RawMessage(kv.Value)
		}
		note(ctx, "role/"+r.Name, before, r)
		return d.commit(ctx, store.Txn{
			If: []store.Cond{{Key: key, ModRevision: kv.ModRevision}}, Puts: []store.KV{{Key: key, Value: encode(r)}},
		}, d.policies)
	})
}

func checkRole(r access.Role) error {
	if !spec.ValidName(r.Name) {
		return errs.New(errs.Invalid, "role %q: not a name", r.Name)
	}
	if builtIn(r.Name) {
		return errs.New(errs.Precondition, "role %s is built in: it can't be changed", r.Name)
	}
	if len(r.Permissions) == 0 || len(r.Permissions) > maxPermissions || len(r.Description) > maxDescription {
		return errs.New(errs.Invalid, "role %s: one permission at least, %d at most, and a description of at most %d bytes", r.Name, maxPermissions, maxDescription)
	}
	known := access.Permissions()
	for _, p := range r.Permissions {
		if err := access.CheckPattern(p, known); err != nil {
			return err
		}
	}
	return nil
}

func builtIn(role string) bool {
	for _, r := range access.BuiltIn() {
		if r.Name == role {
			return true
		}
	}
	return false
}

// DeleteRole removes a role. One that a binding names is errs.Precondition, one that isn't there errs.NotFound.
func (d *Directory) DeleteRole(ctx context.Context, name string) error {
	if builtIn(name) {
		return errs.New(errs.Precondition, "role %s is built in: it can't be removed", name)
	}
	row, ok := d.policies.Get(roleKey + name)
	if !ok || row.Value.role == nil {
		return errs.New(errs.NotFound, "there is no role %q", name)
	}
	for _, b := range d.Policy().Bindings() {
		if b.Role == name {
			return errs.New(errs.Precondition, "binding %s gives role %s: remove it first", b, name)
		}
	}
	note(ctx, "role/"+name, *row.Value.role, nil)
	key := policyPrefix + roleKey + name
	// Who makes a binding of the role writes its record again, so that the condition sees bindings that don't show here yet.
	return d.commit(ctx, store.Txn{If: []store.Cond{{Key: key, ModRevision: row.ModRevision}}, Deletes: []string{key}}, d.policies)
}

// Bindings gives every binding, by namespace and name.
func (d *Directory) Bindings() []access.Binding { return d.Policy().Bindings() }

// SetBinding makes or changes a binding. errs.Invalid says what is wrong with it; a role that doesn't exist is that, too.
func (d *Directory) SetBinding(ctx context.Context, b access.Binding) error {
	if _, err := d.compiler.Grant(b); err != nil {
		return err
	}
	return retrying(func() error {
		txn, err := d.binding(ctx, b)
		if err != nil {
			return err
		}
		return d.commit(ctx, txn, d.policies)
	})
}

// binding gives the write of a binding, and notes it.
func (d *Directory) binding(ctx context.Context, b access.Binding) (store.Txn, error) {
	var txn store.Txn
	if !builtIn(b.Role) {
		key := policyPrefix + roleKey + b.Role
		role, err := d.get(ctx, key)
		if err != nil {
			return txn, err
		}
		if role.ModRevision == 0 {
			return txn, errs.New(errs.Invalid, "binding %s: there is no role %q", b, b.Role)
		}
		txn.If = append(txn.If, store.Cond{Key: key, ModRevision: role.ModRevision})
		txn.Puts = append(txn.Puts, store.KV{Key: key, Value: role.Value}) // see DeleteRole
	}
	key := bindingAt(b.Namespace, b.Name)
	kv, err := d.get(ctx, key)
	if err != nil {
		return txn, err
	}
	var before any
	if kv.ModRevision != 0 {
		before = json.RawMessage(kv.Value)
	}
	note(ctx, "binding/"+b.Name, before, b)
	txn.If = append(txn.If, store.Cond{Key: key, ModRevision: kv.ModRevision})
	txn.Puts = append(txn.Puts, store.KV{Key: key, Value: encode(b)})
	return txn, nil
}

func bindingAt(namespace, name string) string {
	return policyPrefix + bindingKey + namespace + "/" + name
}

// Binding gives one binding.
func (d *Directory) Binding(namespace, name string) (access.Binding, bool) {
	row, ok := d.policies.Get(bindingKey + namespace + "/" + name)
	if !ok || row.Value.grant == nil {
		return access.Binding{}, false
	}
	return row.Value.grant.Binding, true
}

// DeleteBinding removes a binding; errs.NotFound where there is none.
func (d *Directory) DeleteBinding(ctx context.Context, namespace, name string) error {
	return retrying(func() error {
		key := bindingAt(namespace, name)
		kv, err := d.get(ctx, key)
		if err != nil {
			return err
		}
		if kv.ModRevision == 0 {
			return errs.New(errs.NotFound, "there is no binding %s in namespace %s", name, namespace)
		}
		note(ctx, "binding/"+name, json.RawMessage(kv.Value), nil)
		return d.commit(ctx, store.Txn{If: []store.Cond{{Key: key, ModRevision: kv.ModRevision}}, Deletes: []string{key}}, d.policies)
	})
}
