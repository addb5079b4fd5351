package mcptool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
)

// Caps on a tool list.
const (
	maxTools = 2048
	maxPages = 128
)

var (
	errTools   = fmt.Errorf("the tool list has more than %d tools or %d pages", maxTools, maxPages)
	errVersion = errors.New("the server does not speak the pinned protocol version")
)

func knownVersion(v string) bool { return mcp.IsValidProtocolVersion(v) }

// conn is one initialized connection.
type conn struct {
	server string
	client *client.Client
	cancel context.CancelFunc

	mu      sync.Mutex // guards calls, retired, quiet
	calls   int
	retired bool
	quiet   chan struct{}
}

// dial connects and initializes. A connection with a session is tried first: the library takes any answer to
// server/discover for a modern server.
func (s *Server) dial(ctx context.Context, e Endpoint) (*conn, error) {
	pinned := s.cfg.ProtocolVersion
	version := pinned
	if version == "" {
		version = mcp.LATEST_LEGACY_PROTOCOL_VERSION
	}
	c, err := s.handshake(ctx, e, version)
	if err == nil || pinned != "" || !modernOnly(err) {
		return c, err
	}
	return s.handshake(ctx, e, mcp.LATEST_PROTOCOL_VERSION)
}

// modernOnly reports whether a server that refused initialize may still speak the stateless protocol.
func modernOnly(err error) bool {
	var f *exchangeError
	if !errors.As(err, &f) {
		return false
	}
	return f.rpc || f.status == http.StatusBadRequest || f.status == http.StatusNotFound || f.status == http.StatusMethodNotAllowed
}

func (s *Server) handshake(ctx context.Context, e Endpoint, version string) (*conn, error) {
	modern := mcp.IsModernProtocol(version)
	opts := []transport.StreamableHTTPCOption{
		transport.WithHTTPBasicClient(s.rt.client()),
		transport.WithHTTPLogger(slog.New(slog.DiscardHandler)),
	}
	if !modern {
		opts = append(opts, transport.WithContinuousListening()) //nolint:staticcheck // deprecated with the protocol versions that need it: list_changed comes no other way there
	}
	inner, err := transport.NewStreamableHTTP(e.URL, opts...)
	if err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	mc := client.NewClient(&recorder{StreamableHTTP: inner}, client.WithProtocolVersion(version), client.WithDiscoverTimeout(-1))
	c := &conn{server: s.cfg.Name, client: mc, cancel: cancel, quiet: make(chan struct{})}
	mc.OnNotification(func(n mcp.JSONRPCNotification) {
		if n.Method == mcp.MethodNotificationToolsListChanged {
			s.look()
		}
	})
	x := &exchange{}
	if err = mc.Start(withExchange(life, &exchange{})); err == nil {
		// InitializeParams.ProtocolVersion stays empty: the pin is the client's option.
		_, err = mc.Initialize(withExchange(ctx, x), mcp.InitializeRequest{Params: mcp.InitializeParams{ClientInfo: mcp.Implementation{Name: "agentd", Version: "1"}}})
	}
	if err == nil {
		err = s.checkVersion(ctx, mc, x, version)
	}
	if err != nil {
		cancel()
		s.closing.Go(c.close)
		return nil, x.wrap("connect", err)
	}
	if modern {
		s.listen(life, mc)
	}
	return c, nil
}

// checkVersion makes sure of what was agreed: the version that was pinned, and for the stateless one that the server lists it.
func (s *Server) checkVersion(ctx context.Context, mc *client.Client, x *exchange, version string) error {
	got := mc.ProtocolVersion()
	if mcp.IsModernProtocol(version) {
		if !mcp.IsModernProtocol(got) {
			return fmt.Errorf("%w: asked for %s, got %s", errVersion, version, got)
		}
		d, err := mc.Discover(withExchange(ctx, x), mcp.DiscoverRequest{})
		if err != nil {
			return err
		}
		if !slices.Contains(d.SupportedVersions, version) {
			return errors.New("server/discover: the answer names no supported version")
		}
		return nil
	}
	if s.cfg.ProtocolVersion != "" && got != version {
		return fmt.Errorf("%w: asked for %s, got %s", errVersion, version, got)
	}
	return nil
}

// listen follows tool changes on a stateless connection; where the server offers no such stream the poll does.
func (s *Server) listen(life context.Context, mc *client.Client) {
	if caps := mc.GetServerCapabilities(); caps.Tools == nil || !caps.Tools.ListChanged {
		return
	}
	s.closing.Go(func() {
		_ = mc.Listen(withExchange(life, &exchange{}), mcp.SubscriptionFilter{ToolsListChanged: true})
	})
}

// list reads the whole tool list as the server wrote it.
func (c *conn) list(ctx context.Context) ([]definition, error) {
	var out []definition
	cursor := mcp.Cursor("")
	seen := map[mcp.Cursor]bool{}
	for range maxPages {
		x := &exchange{record: true}
		req := mcp.ListToolsRequest{}
		req.Params.Cursor = cursor
		page, err := c.client.ListToolsByPage(withExchange(ctx, x), req)
		if err != nil {
			if caps := c.client.GetServerCapabilities(); x.rpcCode == mcp.METHOD_NOT_FOUND && caps.Tools == nil {
				return nil, nil // a server without tools
			}
			return nil, x.wrap("tools/list", err)
		}
		defs, err := definitions(c.server, x.raw)
		if err != nil {
			return nil, x.wrap("tools/list", err)
		}
		out = append(out, defs...)
		seen[cursor] = true
		cursor = page.NextCursor
		if len(out) > maxTools || seen[cursor] && cursor != "" {
			return nil, x.wrap("tools/list", errTools)
		}
		if cursor == "" {
			return unique(out), nil
		}
	}
	return nil, (&exchange{}).wrap("tools/list", errTools)
}

// acquire keeps c open during a call; false: it is being closed.
func (c *conn) acquire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired {
		return false
	}
	c.calls++
	return true
}

func (c *conn) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls--
	if c.retired && c.calls == 0 {
		close(c.quiet)
	}
}

// idle retires c and gives a channel that closes when its last call ended, at the latest after limit.
func (c *conn) idle(limit time.Duration) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.retired {
		c.retired = true
		if c.calls == 0 {
			close(c.quiet)
		}
	}
	out := make(chan struct{})
	timer := time.AfterFunc(limit, sync.OnceFunc(func() { close(out) }))
	go func() {
		<-c.quiet
		if timer.Stop() {
			close(out)
		}
	}()
	return out
}

func (c *conn) close() {
	_ = c.client.Close()
	c.cancel()
}

// recorder keeps the raw answer of a request for whoever put an exchange into its context: the library's own types lose what they do
// not know of a schema.
type recorder struct {
	*transport.StreamableHTTP
}

// SendRequest records and passes on.
func (r *recorder) SendRequest(ctx context.Context, request transport.JSONRPCRequest) (*transport.JSONRPCResponse, error) {
	resp, err := r.StreamableHTTP.SendRequest(ctx, request)
	x := exchangeOf(ctx)
	if err != nil || x == nil {
		return resp, err
	}
	if resp.Error != nil {
		x.rpc, x.rpcCode, x.rpcMessage = true, resp.Error.Code, resp.Error.Message
		return resp, nil
	}
	x.rpc = false
	if x.record {
		x.raw = resp.Result
	}
	return resp, nil
}
