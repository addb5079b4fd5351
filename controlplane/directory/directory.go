// Package directory keeps who may do what in the store: API tokens, sessions, roles, bindings and the one-time bootstrap token. It
// holds them in memory by a watch, so that the gate asks it at every call without I/O and a binding or token that is gone doesn't
// count any more on any replica. The gate and the access service use it. It decides by package access and checks no caller's right
// to change something: that its callers do.
package directory

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/records"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// The key space under view.AccessPrefix.
const (
	policyPrefix  = view.AccessPrefix + "policy/" // role/<name>, binding/<namespace>/<name>, bootstrap
	tokenPrefix   = view.AccessPrefix + "token/"  // <id>
	namePrefix    = view.AccessPrefix + "name/"   // <owner's hash>/<token's name>: reserves names; not watched
	proofPrefix   = view.AccessPrefix + "proof/"  // <hash>: what made a session, with the time; not watched
	roleKey       = "role/"
	bindingKey    = "binding/"
	bootstrapName = "bootstrap"
)

const (
	storeWait = 15 * time.Second // of one exchange with the store, elections included
	seenWait  = 5 * time.Second  // until a write shows here; it stands all the same
	attempts  = 5                // of a write that lost a race
)

// Config is what Open needs.
type Config struct {
	Store  store.Store
	Logger *slog.Logger
	Now    func() time.Time
	// Dev is the token of the token file; zero: that door is shut.
	Dev secret.Value
}

// Directory is the records in memory. It is safe for concurrent use; Run must run.
type Directory struct {
	cfg      Config
	compiler *access.Compiler
	policies *records.Table[policyRecord]
	tokens   *records.Table[*token]
	used     *uses

	build  sync.Mutex // one builds a policy, the others wait
	latest atomic.Pointer[built]

	mu      sync.Mutex
	changed chan struct{} // closed at the next change; guarded by mu
}

// policyRecord is one record under policyPrefix: one of its fields is set.
type policyRecord struct {
	role      *access.Role
	grant     *access.Grant
	bootstrap *bootstrap
}

// built is a policy and what it was built from.
type built struct {
	policy *access.Policy
	until  <-chan struct{} // closed once there is something newer
}

// Open reads the records.
func Open(ctx context.Context, cfg Config) (*Directory, error) {
	if cfg.Store == nil || cfg.Logger == nil || cfg.Now == nil {
		return nil, errs.New(errs.Invalid, "directory: something required is missing")
	}
	compiler, err := access.NewCompiler()
	if err != nil {
		return nil, err
	}
	d := &Directory{cfg: cfg, compiler: compiler, used: newUses(), changed: make(chan struct{})}
	d.policies, err = records.Open(ctx, records.Config[policyRecord]{Store: cfg.Store, Prefix: policyPrefix, Logger: cfg.Logger, Decode: d.decodePolicy})
	if err != nil {
		return nil, err
	}
	d.tokens, err = records.Open(ctx, records.Config[*token]{Store: cfg.Store, Prefix: tokenPrefix, Logger: cfg.Logger, Decode: d.decodeToken})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// decodePolicy reads a record. Conditions are compiled here, once.
func (d *Directory) decodePolicy(key string, value []byte) (policyRecord, error) {
	switch {
	case strings.HasPrefix(key, roleKey):
		r := &access.Role{}
		return policyRecord{role: r}, json.Unmarshal(value, r)
	case strings.HasPrefix(key, bindingKey):
		var b access.Binding
		if err := json.Unmarshal(value, &b); err != nil {
			return policyRecord{}, err
		}
		g, err := d.compiler.Grant(b)
		return policyRecord{grant: g}, err
	case key == bootstrapName:
		b := &bootstrap{}
		return policyRecord{bootstrap: b}, json.Unmarshal(value, b)
	}
	return policyRecord{}, errs.New(errs.Unsupported, "a newer replica's kind of record")
}

// Run follows the store, keeps when tokens were used, and removes those that have ended, until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.policies.Run(ctx) })
	group.Go(func() error { return d.tokens.Run(ctx) })
	group.Go(func() error { return d.announce(ctx) })
	group.Go(func() error { return d.keep(ctx) })
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// announce tells those who wait on Changed.
func (d *Directory) announce(ctx context.Context) error {
	for {
		policies, tokens := d.policies.Changed(), d.tokens.Changed()
		d.mu.Lock()
		close(d.changed)
		d.changed = make(chan struct{})
		d.mu.Unlock()
		select {
		case <-policies:
		case <-tokens:
		case <-ctx.Done():
			return nil
		}
	}
}

// Changed gives a channel that is closed once something may have changed that was decided before now.
func (d *Directory) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// Policy gives the roles and bindings of now.
func (d *Directory) Policy() *access.Policy {
	if b, ok := d.fresh(); ok {
		return b.policy
	}
	d.build.Lock()
	defer d.build.Unlock()
	if b, ok := d.fresh(); ok {
		return b.policy
	}
	b := &built{until: d.policies.Changed()}
	rows, _ := d.policies.All()
	var roles []access.Role
	var grants []*access.Grant
	for _, r := range rows {
		switch {
		case r.Value.role != nil:
			roles = append(roles, *r.Value.role)
		case r.Value.grant != nil:
			grants = append(grants, r.Value.grant)
		}
	}
	b.policy = access.NewPolicy(roles, grants)
	d.latest.Store(b)
	return b.policy
}

func (d *Directory) fresh() (*built, bool) {
	b := d.latest.Load()
	if b == nil {
		return nil, false
	}
	select {
	case <-b.until:
		return nil, false
	default:
		return b, true
	}
}

// Allowed says whether a principal holds a permission on an object now.
func (d *Directory) Allowed(who access.Principal, permission string, o access.Object) bool {
	return d.Decide(who, permission, o).Allowed
}

// Decide is Allowed with the binding that allows it.
func (d *Directory) Decide(who access.Principal, permission string, o access.Object) access.Decision {
	h, ok := d.holder(who)
	if !ok {
		return access.Decision{}
	}
	return d.Policy().Decide(h, permission, o)
}

// Somewhere says whether a principal holds a permission on anything of a namespace; "": of any.
func (d *Directory) Somewhere(who access.Principal, permission, namespace string) bool {
	h, ok := d.holder(who)
	return ok && d.Policy().HoldsSomewhere(h, permission, namespace)
}

// Lacks gives those of a role's permissions that a principal doesn't have on the whole of a region.
func (d *Directory) Lacks(who access.Principal, role access.Role, in access.Region) []string {
	h, ok := d.holder(who)
	if !ok {
		return role.Permissions
	}
	return d.Policy().Lacks(h, role, in)
}

// BindingsOf gives the bindings that count for a principal: its own, its groups' and, for a token, its owner's.
func (d *Directory) BindingsOf(who access.Principal) []access.Binding {
	h, ok := d.holder(who)
	if !ok {
		return nil
	}
	out := d.Policy().Of(h.Owner)
	if h.Caller != nil && h.Owner.Kind != access.Token {
		out = append(out, d.Policy().Of(*h.Caller)...)
	}
	return out
}

// holder gives whom to decide for. Who came with a token or session that has ended holds nothing.
func (d *Directory) holder(who access.Principal) (access.Holder, bool) {
	if who.TokenID == "" {
		return access.Holder{Owner: who}, true
	}
	t, err := d.counting(who.TokenID)
	if err != nil {
		return access.Holder{}, false
	}
	return t.holder, true
}

// commit writes within a deadline and waits until the write shows here. A store that doesn't answer is errs.Unavailable.
func (d *Directory) commit(ctx context.Context, t store.Txn, shows interface {
	WaitFor(ctx context.Context, revision int64) error
},
) error {
	wait, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	rev, err := d.cfg.Store.Commit(wait, t)
	if err != nil {
		return err
	}
	seen, stop := context.WithTimeout(ctx, seenWait)
	defer stop()
	if err := shows.WaitFor(seen, rev); err != nil {
		d.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "written, but it doesn't show yet", slog.Int64("revision", rev), slog.Any("error", err))
	}
	return nil
}

// get reads one key within a deadline. A key that isn't there is a zero KV.
func (d *Directory) get(ctx context.Context, key string) (store.KV, error) {
	wait, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	kv, err := d.cfg.Store.Get(wait, key)
	if errs.Is(err, errs.NotFound) {
		return store.KV{}, nil
	}
	return kv, err
}

// retrying writes anew while others win.
func retrying(write func() error) error {
	var err error
	for range attempts {
		if err = write(); !errs.Is(err, errs.Conflict) {
			return err
		}
	}
	return errs.New(errs.Conflict, "others keep writing the same, try again: %w", err)
}

var _ access.Rules = (*Directory)(nil)
