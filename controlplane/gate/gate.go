// Package gate is the people door's one guard: it stands in front of every API method (gRPC, gRPC-Web and Connect alike) and of the
// plain pages. In this order it gives a call an id, finds out who calls, holds the caller to its rate, asks the rule of the method's
// proto option, begins the audit entry of a change, bounds the call's time, and has a change carried out once and a read show what it
// asks for. It is the only place that reads a bearer. What only a handler knows (the objects in a set of files, what a list leaves out)
// the handler asks of package access. It stores nothing and decides no binding: package access does.
package gate

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
	"github.com/agentry/agentry/internal/secret"
)

// Authenticator finds out who shows a token. An empty or unknown token is errs.Unauthenticated. It must be safe for concurrent use.
type Authenticator interface {
	Authenticate(ctx context.Context, bearer string) (access.Principal, error)
}

// Changing is an Authenticator that tells when tokens or bindings change. Then the callers of open streams are looked at anew.
type Changing interface {
	// Changed gives a channel that is closed at the next change.
	Changed() <-chan struct{}
}

// Labels tells the labels of agents, which selectors of bindings are matched with. It must be safe for concurrent use.
type Labels interface {
	AgentLabels(namespace, agent string) map[string]string
}

// Config is what a Gate needs.
type Config struct {
	Logger *slog.Logger  // required
	Auth   Authenticator // required
	Labels Labels        // nil: no agent has any
	// Audit hears of failed authentications and denied calls; nil: nobody does.
	Audit audit.Recorder
	// Redact takes secrets out of error messages; nil: none is known.
	Redact *secret.Redactor
	Limits Limits
	// Calls begins calls that write; nil: an idempotency key is passed over.
	Calls Calls
	// Revisions tells which store revision is shown, and Newest which one the store is at, by a linearizable read. Nil: answers don't
	// tell, and nobody can ask for one. Newest is required with Revisions.
	Revisions Revisions
	Newest    func(ctx context.Context) (int64, error)
	// Replica is named in every answer; empty: none is.
	Replica string
	// Now is time.Now outside tests.
	Now func() time.Time
}

// Gate guards a door. It is safe for concurrent use.
type Gate struct {
	log     *slog.Logger
	auth    Authenticator
	changed func() <-chan struct{} // a nil channel where the Authenticator doesn't tell
	labels  Labels
	audit   audit.Recorder
	redact  *secret.Redactor
	limits  Limits
	now     func() time.Time

	calls     Calls
	revisions Revisions
	newest    func(ctx context.Context) (int64, error)
	replica   string

	rules   map[string]*rule // by full method
	callers *buckets         // by principal
	clients *buckets         // by address: public calls and failed authentications
	logins  *buckets         // by address
	denials *buckets         // by principal: what of them is told to the audit log
	streams *slots           // by principal
	refuse  *connect.ErrorWriter
}

// New makes a Gate for all methods of this program's APIs. A method without a rule, or whose rule names a field that its request
// doesn't have, is errs.Internal: the program is wrong.
func New(cfg Config) (*Gate, error) {
	if cfg.Logger == nil || cfg.Auth == nil || (cfg.Revisions != nil && cfg.Newest == nil) {
		return nil, errs.New(errs.Invalid, "gate: logger, authenticator and, with revisions, the newest are required")
	}
	rules, err := rulesOf(registered())
	if err != nil {
		return nil, err
	}
	l := cfg.Limits.filled()
	g := &Gate{
		log: cfg.Logger, auth: cfg.Auth, labels: cfg.Labels, audit: cfg.Audit, redact: cfg.Redact, limits: l, now: cfg.Now, rules: rules,
		callers: newBuckets(l.Principal, l.Keys), clients: newBuckets(l.Address, l.Keys), logins: newBuckets(l.Login, l.Keys),
		denials: newBuckets(l.Denials, l.Keys), streams: newSlots(l.Streams), refuse: connect.NewErrorWriter(),
		changed: func() <-chan struct{} { return nil },
		calls:   cfg.Calls, revisions: cfg.Revisions, newest: cfg.Newest, replica: cfg.Replica,
	}
	if c, ok := cfg.Auth.(Changing); ok {
		g.changed = c.Changed
	}
	if g.labels == nil {
		g.labels = noLabels{}
	}
	if g.audit == nil {
		g.audit = noAudit{}
	}
	if g.redact == nil {
		g.redact = &secret.Redactor{}
	}
	if g.now == nil {
		g.now = time.Now
	}
	return g, nil
}

// Options are what every connect handler behind the gate is made with. A handler that isn't mounted by Wrap too answers nobody.
func (g *Gate) Options() []connect.HandlerOption {
	opts := []connect.HandlerOption{connect.WithInterceptors(&guard{g})}
	opts = append(opts, rpc.HandlerOptions(g.log, rpc.Open)...) // recovery, the mapping of errors, the bound of messages
	return append(opts, connect.WithInterceptors(&bounds{redact: g.redact, unary: g.limits.Unary}, &exactly{g}))
}

// Wrap puts the gate in front of a connect handler made with Options: what can be decided without the request's body is decided
// before a byte of it is read.
func (g *Gate) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.enter(w, r, next) })
}

type noLabels struct{}

// AgentLabels gives none.
func (noLabels) AgentLabels(string, string) map[string]string { return nil }

type noAudit struct{}

// Record drops an event.
func (noAudit) Record(audit.Event) {}
