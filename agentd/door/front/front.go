// Package front stands before the doors through which others call the agent (not the admin door): it says who calls, refuses who may not,
// who comes too often, what is too large, and pages of other origins, all by the config that serves now, so that a changed key or limit
// counts for the next request. app puts it around each door, which gives the shape of its refusals; the door asks CallerOf who calls.
//
// What a caller shows is taken off the request: no code behind the front can send it on.
package front

import (
	"net/http"
	"time"

	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/errs"
)

// DefaultMaxBody bounds a request's body in bytes where the spec doesn't.
const DefaultMaxBody = 4 << 20

// refusedBody is how long the body of a refused request may still take to come, before the connection is cut.
const refusedBody = 5 * time.Second

// source gives what the config that serves now says of callers. Its error says why nothing serves. It is called for every request.
type source interface {
	Inbound() (run.Inbound, error)
}

// Config is what a Front needs. Source is required.
type Config struct {
	Source source
	Now    func() time.Time // nil: time.Now
}

// Front is safe for concurrent use.
type Front struct {
	source source
	now    func() time.Time
	limits *buckets
}

// New makes a Front. One is enough for all doors: a caller's rate counts over all of them.
func New(cfg Config) (*Front, error) {
	if cfg.Source == nil {
		return nil, errs.New(errs.Invalid, "front: no source")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Front{source: cfg.Source, now: cfg.Now, limits: newBuckets(maxCallers)}, nil
}

// The codes of a Refusal.
const (
	CodeUnauthenticated = "unauthenticated"
	CodeForbidden       = "forbidden"
	CodeRateLimited     = "rate_limited"
	CodeTooLarge        = "too_large"
)

// Refusal is a request that doesn't get to its door.
type Refusal struct {
	Status  int
	Code    string // one of this package, or why nothing serves (run.CodeNotServing)
	Message string
}

// Refuse answers a refused request in a door's own shape. Headers that go with the status (WWW-Authenticate, Retry-After) are set already.
type Refuse func(http.ResponseWriter, *http.Request, Refusal)

// Guard lets to next what may pass, with the caller in its context and the size of its body bounded.
func (f *Front) Guard(next http.Handler, refuse Refuse) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		passed, refusal := f.admit(w, r)
		switch {
		case refusal != nil:
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(refusedBody)) // not every writer has one
			refuse(w, r, *refusal)
		case passed != nil:
			next.ServeHTTP(w, passed)
		}
	})
}

// admit gives the request as its door may see it, or why it may not. Both are nil where the request, a page's question, is answered.
func (f *Front) admit(w http.ResponseWriter, r *http.Request) (*http.Request, *Refusal) {
	in, err := f.source.Inbound()
	if err != nil {
		return nil, notServing(w, r, err)
	}
	if refusal := cross(w, r, in.Origins); refusal != nil {
		return nil, refusal
	}
	if preflight(w, r) {
		return nil, nil
	}
	c, peer, refusal := identify(w, r, in.Keys)
	if refusal != nil {
		return nil, refusal
	}
	if refusal := f.limit(w, c, peer, in); refusal != nil {
		return nil, refusal
	}
	limit := in.MaxBody
	if limit <= 0 {
		limit = DefaultMaxBody
	}
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close") // what comes isn't read
		return nil, tooLarge(limit)
	}
	r = r.WithContext(withCaller(r.Context(), c))
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	return r, nil
}
