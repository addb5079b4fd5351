// Package mcptool brings the tools of an MCP server over streamable HTTP. The assembler makes one Server per entry and configuration and
// shares it between configs; package run calls its tools through the port agentd/tool. It decides nothing about which tools an
// agent may use: filters, approvals and switches are the assembler's.
package mcptool

import (
	"context"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

// The defaults of a Config.
const (
	DefaultTimeout        = time.Minute
	DefaultConnectTimeout = 10 * time.Second
	DefaultPoll           = 30 * time.Second
	DefaultMinBackoff     = 500 * time.Millisecond
	DefaultMaxBackoff     = 30 * time.Second
	DefaultMaxResult      = 256 << 10
)

// Config is one MCP entry as one agent uses it. Name and one endpoint are required.
type Config struct {
	Name      string
	Endpoints []Endpoint
	// ProtocolVersion pins the protocol; empty: the newest with sessions that the server speaks, else the stateless one.
	ProtocolVersion string
	// Headers and Query are asked at every HTTP request, so that a rotated credential counts at once.
	Headers map[string]func() secret.Value
	Query   map[string]func() secret.Value
	// Egress makes the connections; nil: to public addresses only.
	Egress *egress.Guard
	// Timeout bounds one tool call.
	Timeout        time.Duration
	ConnectTimeout time.Duration // of connect + initialize + tools/list
	Poll           time.Duration // between two looks at the tool list
	MinBackoff     time.Duration // between two attempts to reconnect, doubled up to MaxBackoff
	MaxBackoff     time.Duration
	MaxResult      int // bytes of a result that reach the model
	// OnChange is called after tools or health changed, from the supervisor's goroutine: it must not block or call Close.
	OnChange   func()
	Propagator propagation.TextMapPropagator // nil: W3C trace context
	Log        *slog.Logger                  // nil: none
}

// Endpoint is one address of the server. One of weight 0 is tried after every other.
type Endpoint struct {
	URL    string
	Weight int
}

// Health is how a server is. While it is not healthy its tools are withdrawn.
type Health struct {
	Healthy bool
	// Tried is false until the first attempt ended.
	Tried bool
	Code  phase.Code // of the last failed attempt
	Err   string
}

// Server supervises one MCP server: it connects, lists the tools, keeps the list fresh, reconnects with backoff. All methods may
// be called from many goroutines.
type Server struct {
	cfg    Config
	rt     *roundTripper
	stop   context.CancelFunc
	quit   chan struct{} // closed by Close
	done   chan struct{} // closed when the supervisor ended
	probes chan probe
	kick   chan struct{} // one slot: look at the server now

	conn   atomic.Pointer[conn]
	tools  atomic.Pointer[[]tool.Tool]
	health atomic.Pointer[Health]

	closing sync.WaitGroup // connections that say goodbye
	start   sync.Once
	closed  sync.Once
}

// probe asks the supervisor for a connection other than stale.
type probe struct {
	stale *conn
	asked time.Time
	reply chan error // one slot
}

// New checks cfg; nothing is connected before Start. Errors are of kind Invalid.
func New(cfg Config) (*Server, error) {
	if cfg.Name == "" {
		return nil, errs.New(errs.Invalid, "mcp server: no name")
	}
	if len(cfg.Endpoints) == 0 {
		return nil, errs.New(errs.Invalid, "mcp server %s: no endpoint", cfg.Name)
	}
	for _, e := range cfg.Endpoints {
		u, err := url.Parse(e.URL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, errs.New(errs.Invalid, "mcp server %s: endpoint: want an http or https URL", cfg.Name)
		}
	}
	if v := cfg.ProtocolVersion; v != "" && !knownVersion(v) {
		return nil, errs.New(errs.Invalid, "mcp server %s: protocolVersion %q is not known", cfg.Name, v)
	}
	cfg.Timeout = orDefault(cfg.Timeout, DefaultTimeout)
	cfg.ConnectTimeout = orDefault(cfg.ConnectTimeout, DefaultConnectTimeout)
	cfg.Poll = orDefault(cfg.Poll, DefaultPoll)
	cfg.MinBackoff = orDefault(cfg.MinBackoff, DefaultMinBackoff)
	cfg.MaxBackoff = max(orDefault(cfg.MaxBackoff, DefaultMaxBackoff), cfg.MinBackoff)
	if cfg.MaxResult <= 0 {
		cfg.MaxResult = DefaultMaxResult
	}
	if cfg.Propagator == nil {
		cfg.Propagator = propagation.TraceContext{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func() {}
	}
	s := &Server{cfg: cfg, rt: newRoundTripper(cfg), stop: func() {}, quit: make(chan struct{}), done: make(chan struct{}), probes: make(chan probe), kick: make(chan struct{}, 1)}
	s.tools.Store(&[]tool.Tool{})
	s.health.Store(&Health{})
	return s, nil
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

// Start begins to supervise; the first attempt is made at once. A second call does nothing.
func (s *Server) Start() {
	s.start.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		s.stop = cancel
		go s.supervise(ctx)
	})
}

// Probe gives nil while connected; else it makes an attempt now, or joins the one under way, and gives its *Error. When ctx ends first the
// attempt goes on without the caller, and the *Error has code timeout.
func (s *Server) Probe(ctx context.Context) error { return s.reconnect(ctx, nil) }

// reconnect asks for a connection that isn't stale (nil: any).
func (s *Server) reconnect(ctx context.Context, stale *conn) error {
	p := probe{stale: stale, asked: time.Now(), reply: make(chan error, 1)}
	select {
	case s.probes <- p:
	case <-s.done:
		return errClosed
	case <-ctx.Done():
		return s.late(ctx)
	}
	select {
	case err := <-p.reply:
		return err
	case <-s.done:
		return errClosed
	case <-ctx.Done():
		return s.late(ctx)
	}
}

// late names what is known when a caller stops waiting.
func (s *Server) late(ctx context.Context) error {
	if h := s.Health(); h.Tried && !h.Healthy {
		return &Error{Code: h.Code, Err: textError(h.Err)}
	}
	return &Error{Code: phase.Timeout, Err: context.Cause(ctx)}
}

// Tools gives the tools as they are now, in name order, each a *Tool; empty while the server is lost. The slice is the caller's.
func (s *Server) Tools() []tool.Tool { return slices.Clone(*s.tools.Load()) }

// Health says how the server is now.
func (s *Server) Health() Health { return *s.health.Load() }

// Close ends supervision and running calls, says goodbye to the server (at most 2 s) and waits for all of it. Calling it twice, or
// without Start, is fine.
func (s *Server) Close() {
	s.closed.Do(func() {
		s.start.Do(func() { close(s.done) })
		close(s.quit)
		s.stop()
		<-s.done
		s.closing.Wait()
		s.rt.next.CloseIdleConnections()
	})
}
