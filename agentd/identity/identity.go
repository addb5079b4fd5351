// Package identity keeps the identity of one instance: it makes the key, gets a certificate for a proof of who the instance is,
// stores both in the state directory, renews in time and gives the TLS settings of every connection to the control plane. app runs
// it beside the config client, which dials through it. It decides nothing about configs, and the key never leaves it except sealed
// into the state directory.
package identity

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// DefaultTrustDomain is the trust domain of a control plane that was given none.
const DefaultTrustDomain = "agentry.local"

// Store keeps the identity between starts; configclient.State does. Both may be called from any goroutine.
type Store interface {
	// LoadIdentity gives what SaveIdentity wrote last; none is errs.NotFound.
	LoadIdentity() (document []byte, key secret.Value, err error)
	SaveIdentity(document []byte, key secret.Value) error
}

// Config is what New needs. Namespace, Agent, Instance, Addresses, Store and Log are required.
type Config struct {
	Namespace string
	Agent     string
	Instance  string
	// TrustDomain is the control plane's; "" means DefaultTrustDomain.
	TrustDomain string
	Addresses   []string // of control planes' runtime doors, tried in turn
	Proof       Proof
	Store       Store
	// CanServe says that there is a config to serve without the control plane: then neither identity nor proof is no start error.
	CanServe  bool
	UserAgent string
	// Redactor learns the proofs' secrets; nil: a private one.
	Redactor *secret.Redactor
	Log      *slog.Logger

	clock func() time.Time // nil: time.Now
	pace  pace
}

// pace is how long things wait; tests go faster. Zero means the default.
type pace struct {
	call     time.Duration // one call to the control plane
	retryMin time.Duration
	retryMax time.Duration // also at most a twentieth of the certificate's life
	look     time.Duration // how often the clocks are looked at, at least
	first    time.Duration // how long Dial waits for a first identity
	doubt    time.Duration // between two renewals because a stream was refused
}

func (p pace) orDefault() pace {
	for into, d := range map[*time.Duration]time.Duration{
		&p.call: 10 * time.Second, &p.retryMin: 500 * time.Millisecond, &p.retryMax: 5 * time.Minute, &p.look: time.Minute,
		&p.first: 3 * time.Second, &p.doubt: 30 * time.Second,
	} {
		if *into == 0 {
			*into = d
		}
	}
	return p
}

// Keeper keeps one instance's identity. Its methods may be called from any goroutine.
type Keeper struct {
	cfg      Config
	domain   spiffeid.TrustDomain
	id       spiffeid.ID
	sessions *sessions
	doubts   chan struct{} // a stream was refused, or the control plane isn't one of ours
	done     chan struct{} // closed when Run has ended

	mu       sync.Mutex    // guards what follows
	now      *held         // nil: none yet
	first    chan struct{} // closed with the first identity
	problem  string        // why there is no newer one
	unstored string        // why the one that is held can't be stored
	unsaved  bool          // it isn't in the state directory
	counts   counts
	conns    map[*Conn]*held
	newKey   *pending // of the call that has not been answered yet
	doubtful bool     // it was refused somewhere: a renewal will tell
	doubted  bool     // so was the one before it
}

// counts are of this process.
type counts struct{ issued, failed uint64 }

// New loads the stored identity and checks the proofs. Neither is an error that says what to do, unless CanServe.
func New(cfg Config) (*Keeper, error) {
	if cfg.Namespace == "" || cfg.Agent == "" || cfg.Instance == "" || len(cfg.Addresses) == 0 || cfg.Store == nil || cfg.Log == nil {
		return nil, errs.New(errs.Invalid, "identity: namespace, agent, instance, addresses, store and log are required")
	}
	if cfg.TrustDomain == "" {
		cfg.TrustDomain = DefaultTrustDomain
	}
	domain, err := spiffeid.TrustDomainFromString(cfg.TrustDomain)
	if err != nil {
		return nil, errs.New(errs.Invalid, "trust domain: %w", err)
	}
	id, err := spiffeid.FromSegments(domain, "ns", cfg.Namespace, "agent", cfg.Agent)
	if err != nil {
		return nil, errs.New(errs.Invalid, "identity: %w", err)
	}
	if cfg.Redactor == nil {
		cfg.Redactor = &secret.Redactor{}
	}
	if cfg.clock == nil {
		cfg.clock = time.Now
	}
	cfg.pace = cfg.pace.orDefault()
	k := &Keeper{
		cfg: cfg, domain: domain, id: id, sessions: newSessions(), doubts: make(chan struct{}, 1), done: make(chan struct{}),
		first: make(chan struct{}), conns: map[*Conn]*held{},
	}
	if err := cfg.Proof.Check(); err != nil {
		return nil, err
	}
	cfg.Redactor.Add(cfg.Proof.JoinToken)
	return k, k.load()
}

// load takes the stored identity. One that can't be used is told and passed over where a proof can give another.
func (k *Keeper) load() error {
	document, key, err := k.cfg.Store.LoadIdentity()
	if err == nil {
		var h *held
		if h, err = decodeHeld(document, key, k.me(), k.cfg.clock()); err == nil {
			k.take(h, false)
			return nil
		}
	}
	if errs.Is(err, errs.NotFound) {
		err = nil
	}
	if !k.cfg.Proof.set() {
		err = errors.Join(err, errs.New(errs.Unauthenticated, "agent %s/%s has no identity yet, and nothing to get one with: run `%s` and start agentd with AGENTD_JOIN_TOKEN=agj_...",
			k.cfg.Namespace, k.cfg.Agent, k.hint()))
		if !k.cfg.CanServe {
			return err
		}
	}
	if err != nil {
		k.problem = err.Error()
		k.cfg.Log.LogAttrs(context.Background(), slog.LevelWarn, "no usable identity in the state directory", slog.Any("error", err))
	}
	return nil
}

func (k *Keeper) me() who { return who{id: k.id, instance: k.cfg.Instance} }

// hint is the command that gives a join token.
func (k *Keeper) hint() string {
	if k.cfg.Namespace == "default" {
		return "agentctl identity join-token create " + k.cfg.Agent
	}
	return "agentctl identity join-token create " + k.cfg.Agent + " --namespace " + k.cfg.Namespace
}

// Status is where an identity stands, for people and metrics.
type Status struct {
	SPIFFEID string `json:"spiffeId"`
	// Serial is in lower hex; empty: there is no certificate.
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"notAfter"`
	// AgeSeconds is how long ago it was issued, and LifeSeconds how long it was to live, both by the control plane's clock.
	AgeSeconds  float64 `json:"ageSeconds"`
	LifeSeconds float64 `json:"lifeSeconds"`
	// Proof is what the certificate was given for: join_token, kubernetes, x509pop or renewal.
	Proof string `json:"proof"`
	// Problem says why there is no newer one though there should be, and whether it can't be stored; empty when all is well.
	Problem string `json:"problem"`
	// Issued and Failed count this process's calls for a certificate.
	Issued uint64 `json:"issued"`
	Failed uint64 `json:"failed"`
}

// Expired reports whether the certificate's time is over by the control plane's clock.
func (s Status) Expired() bool { return s.Serial != "" && s.AgeSeconds > s.LifeSeconds }

// Status gives where the identity stands.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	problems := slices.DeleteFunc([]string{k.problem, k.unstored}, func(s string) bool { return s == "" })
	st := Status{SPIFFEID: k.id.String(), Problem: strings.Join(problems, "; "), Issued: k.counts.issued, Failed: k.counts.failed}
	if h := k.now; h != nil {
		st.Serial, st.NotAfter, st.Proof = h.serial(), h.doc.NotAfter, h.doc.Proof
		st.AgeSeconds, st.LifeSeconds = h.age(k.cfg.clock()).Seconds(), h.life().Seconds()
	}
	return st
}

// current gives the identity that is held; nil: none yet.
func (k *Keeper) current() *held {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now
}

// take makes h the identity of every connection from now on.
func (k *Keeper) take(h *held, unsaved bool) {
	k.mu.Lock()
	if k.now == nil {
		close(k.first)
	}
	k.doubted, k.doubtful = k.doubtful, false
	k.now, k.unsaved, k.problem = h, unsaved, ""
	k.mu.Unlock()
	k.sessions.reset(h)
}
