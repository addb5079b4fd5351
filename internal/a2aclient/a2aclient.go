// Package a2aclient calls agents of the A2A protocol, whoever runs them. It fetches an agent's card, judges its signature, picks an interface that
// both sides speak, and calls operations there; Follow stays with a task through dropped connections until it ends or asks for something. agentctl
// calls it, and so may whoever has another agent as a partner. Everything that comes from the other side is bounded, every address goes through
// internal/egress, and the credential leaves for the card's own origin only. It keeps nothing on disk and never sends a message twice.
package a2aclient

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"sync"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// The defaults of a Config.
const (
	DefaultCardTimeout = 15 * time.Second
	DefaultSilence     = 2 * time.Minute
	DefaultTries       = 5
	DefaultMaxTask     = 32 << 20 // bytes
)

// Config is how agents are called. The zero Config reaches public addresses without a credential, and takes cards that aren't signed.
type Config struct {
	// Egress says which addresses may be reached and whose certificates count; its caps of size and time are not used.
	Egress egress.Config
	// Credential is shown as the card's security schemes ask for it: bearer token, API key, or USER:PASSWORD of basic.
	Credential secret.Value
	// CredentialOrigins are origins (https://api.example.com) beyond the card's own that the credential may go to. A card that a redirect to another host led to has none of its own.
	CredentialOrigins []string
	// Trust says what a card's signature has to be; the zero Trust is Verify without keys.
	Trust Trust
	// Bindings, if any, are the only ones that are used (a2a.BindingJSONRPC, ...). The order stays the card's.
	Bindings []string
	// Tenant goes with every request that names none; default: the tenant of the interface.
	Tenant string
	// Extensions are the URIs of extensions that the caller understands. A card that requires another one is refused.
	Extensions []string
	// CardTimeout bounds the fetching of a card with its keys, and the wait for a connection.
	CardTimeout time.Duration
	// Silence is after how long without a byte a stream counts as dropped.
	Silence time.Duration
	// Tries is how many times in a row Follow subscribes in vain before it polls, and how many times it polls in vain before it gives up.
	Tries int
	// MaxTask bounds an answer, an event, and a task that Follow holds, in bytes.
	MaxTask int64
}

// withDefaults fills in what is not set.
func (c Config) withDefaults() Config {
	if c.CardTimeout <= 0 {
		c.CardTimeout = DefaultCardTimeout
	}
	if c.Silence <= 0 {
		c.Silence = DefaultSilence
	}
	if c.Tries <= 0 {
		c.Tries = DefaultTries
	}
	if c.MaxTask <= 0 {
		c.MaxTask = DefaultMaxTask
	}
	return c
}

// Agent is an agent behind its card. Card and interfaces never change: Refresh gives another Agent when they did. It may be used from many goroutines.
type Agent struct {
	cfg     Config
	card    *pb.AgentCard
	raw     json.RawMessage
	asked   *url.URL // where the card was looked for
	etag    string
	maxAge  time.Duration
	verdict Verdict
	web     *web

	mu        sync.Mutex  // guards the two below, and is never held over I/O
	endpoints []*endpoint // in the card's order
	current   int         // the one that answered last
}

// Open fetches the card of the agent at address, judges it, and picks the interfaces that can be used. address is the card's own URL or one that the agent is
// served at; without a scheme it is https, on this machine http. No interface is connected to yet. Close what it gives.
// Kinds: Invalid (the address, or what is there is no card), NotFound, Denied (the signature, the egress policy), Unsupported (nothing that both speak), Unavailable, Timeout.
func Open(ctx context.Context, address string, cfg Config) (*Agent, error) {
	cfg = cfg.withDefaults()
	w := newWeb(cfg)
	got, err := w.findCard(ctx, address)
	if err != nil {
		w.close()
		return nil, err
	}
	a, err := newAgent(ctx, cfg, w, got)
	if err != nil {
		w.close()
		return nil, err
	}
	return a, nil
}

func newAgent(ctx context.Context, cfg Config, w *web, got fetched) (*Agent, error) {
	verdict, err := cfg.Trust.judge(ctx, w, got)
	if err != nil {
		return nil, err
	}
	card, err := parseCard(got.body)
	if err != nil {
		return nil, err
	}
	for _, x := range card.GetCapabilities().GetExtensions() {
		if x.GetRequired() && !slices.Contains(cfg.Extensions, x.GetUri()) {
			return nil, errs.New(errs.Unsupported, "the agent requires the extension %q, which this caller doesn't know", x.GetUri())
		}
	}
	a := &Agent{cfg: cfg, card: card, raw: got.body, asked: got.asked, etag: got.etag, maxAge: got.maxAge, verdict: verdict, web: w}
	if a.endpoints, err = pick(cfg, card, got); err != nil {
		return nil, err
	}
	return a, nil
}

// Card gives a copy of the agent's card.
func (a *Agent) Card() *pb.AgentCard { return proto.CloneOf(a.card) }

// RawCard gives the card's JSON as it came.
func (a *Agent) RawCard() json.RawMessage { return slices.Clone(a.raw) }

// Signature says what is known of the card's signature.
func (a *Agent) Signature() Verdict { return a.verdict }

// MaxAge is how long the agent lets its card be kept (Cache-Control); 0: it doesn't say.
func (a *Agent) MaxAge() time.Duration { return a.maxAge }

// Interface gives the interface that calls go to now.
func (a *Agent) Interface() *pb.AgentInterface {
	a.mu.Lock()
	defer a.mu.Unlock()
	return proto.CloneOf(a.endpoints[a.current].face)
}

// Streams reports whether the card says that the agent streams.
func (a *Agent) Streams() bool { return a.card.GetCapabilities().GetStreaming() }

// Refresh asks whether the card is still the same, by its ETag where it has one. It gives the Agent itself if so, else a new one; the caller closes the old one
// when its calls have ended.
func (a *Agent) Refresh(ctx context.Context) (*Agent, error) {
	w := newWeb(a.cfg)
	ctx, cancel := context.WithTimeout(ctx, a.cfg.CardTimeout)
	defer cancel()
	got, err := w.fetchCard(ctx, a.asked, a.etag)
	if err != nil || got.same || string(got.body) == string(a.raw) {
		w.close()
		if err != nil {
			return nil, err
		}
		return a, nil
	}
	next, err := newAgent(ctx, a.cfg, w, got)
	if err != nil {
		w.close()
		return nil, err
	}
	return next, nil
}

// Close lets connections go. Calls that are under way may fail by it. It is safe twice.
func (a *Agent) Close() {
	a.mu.Lock()
	open := make([]transport, 0, len(a.endpoints))
	for _, e := range a.endpoints {
		if e.open != nil {
			open = append(open, e.open)
		}
		e.open, e.closed = nil, true
	}
	a.mu.Unlock()
	for _, t := range open {
		t.close()
	}
	a.web.close()
}

// Terminal reports whether a task in this state has ended.
func Terminal(s pb.TaskState) bool {
	switch s {
	case pb.TaskState_TASK_STATE_COMPLETED, pb.TaskState_TASK_STATE_FAILED, pb.TaskState_TASK_STATE_CANCELED, pb.TaskState_TASK_STATE_REJECTED:
		return true
	default:
		return false
	}
}

// Interrupted reports whether a task in this state waits for its caller.
func Interrupted(s pb.TaskState) bool {
	return s == pb.TaskState_TASK_STATE_INPUT_REQUIRED || s == pb.TaskState_TASK_STATE_AUTH_REQUIRED
}
