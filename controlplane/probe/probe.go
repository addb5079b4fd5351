// Package probe looks at an MCP server once, from the control plane: connect, initialize, list the tools, say goodbye.
// The registry's service calls it. What it finds is status for people: it stores nothing, keeps no connection, calls no
// tool, and never decides what an agent may use.
package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/tooldigest"
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

// Target is what to look at. Name and one endpoint are required.
type Target struct {
	Name string
	// Namespace is whose probe it is; the caller chooses Egress by it.
	Namespace string
	// Endpoints are http or https URLs, tried in order until one answers.
	Endpoints []string
	// ProtocolVersion pins the protocol; empty: the newest with sessions that the server speaks, else the stateless one.
	ProtocolVersion string
	Headers         map[string]secret.Value
	Query           map[string]secret.Value
	// Egress makes the connections; nil: to public addresses only.
	Egress *egress.Guard
}

// Result is what was found. Code and Message are empty when the server can be used.
type Result struct {
	Code            phase.Code
	Message         string // without secrets
	Endpoint        string // that answered, or was tried last
	ProtocolVersion string
	ServerName      string
	ServerVersion   string
	Tools           []Tool // in name order, each name once
	Took            time.Duration
}

// Tool is one tool as the server defines it. Digest is tooldigest's.
type Tool struct {
	Name        string
	Description string
	Digest      string
}

// Run looks at a target until ctx ends, which it should do soon. That the server can't be used is a Result.
func Run(ctx context.Context, t Target) Result {
	began := time.Now()
	out := Result{Code: phase.Invalid, Message: "the entry has no endpoint"}
	for _, endpoint := range t.Endpoints {
		out = t.look(ctx, endpoint)
		out.Endpoint = endpoint
		if out.Code == "" || ctx.Err() != nil {
			break
		}
	}
	out.Took = time.Since(began)
	return out
}

// look tries one endpoint. A connection with a session is tried first: the library takes any answer to server/discover
// for a modern server.
func (t Target) look(ctx context.Context, endpoint string) Result {
	rt := newRoundTripper(t)
	defer rt.next.CloseIdleConnections()
	version := t.ProtocolVersion
	if version == "" {
		version = mcp.LATEST_LEGACY_PROTOCOL_VERSION
	}
	out, err := t.talk(ctx, rt, endpoint, version)
	if err != nil && t.ProtocolVersion == "" && modernOnly(err) {
		out, err = t.talk(ctx, rt, endpoint, mcp.LATEST_PROTOCOL_VERSION)
	}
	if err != nil {
		out.Tools = nil
		out.Code, out.Message = t.classify(ctx, err)
	}
	return out
}

// modernOnly reports whether a server that refused initialize may still speak the stateless protocol.
func modernOnly(err error) bool {
	var f *exchangeError
	if !errors.As(err, &f) {
		return false
	}
	return f.rpc != "" || f.status == http.StatusBadRequest || f.status == http.StatusNotFound || f.status == http.StatusMethodNotAllowed
}

func (t Target) talk(ctx context.Context, rt *roundTripper, endpoint, version string) (Result, error) {
	if !mcp.IsValidProtocolVersion(version) {
		return Result{}, &exchangeError{stage: "connect", err: fmt.Errorf("%w: %q is not known", errVersion, version)}
	}
	inner, err := transport.NewStreamableHTTP(endpoint, transport.WithHTTPBasicClient(rt.client()),
		transport.WithHTTPLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return Result{}, &exchangeError{stage: "connect", err: err}
	}
	mc := client.NewClient(&recorder{StreamableHTTP: inner}, client.WithProtocolVersion(version), client.WithDiscoverTimeout(-1))
	defer func() { _ = mc.Close() }() // says goodbye; its round trip has a deadline of its own
	x := &exchange{}
	if err := mc.Start(withExchange(ctx, x)); err != nil {
		return Result{}, x.wrap("connect", err)
	}
	// InitializeParams.ProtocolVersion stays empty: the pin is the client's option.
	hello, err := mc.Initialize(withExchange(ctx, x), mcp.InitializeRequest{Params: mcp.InitializeParams{ClientInfo: mcp.Implementation{Name: "agentry-controlplane", Version: "1"}}})
	if err != nil {
		return Result{}, x.wrap("initialize", err)
	}
	out := Result{ProtocolVersion: mc.ProtocolVersion(), ServerName: hello.ServerInfo.Name, ServerVersion: hello.ServerInfo.Version}
	if err := t.checkVersion(ctx, mc, x, version); err != nil {
		return out, x.wrap("initialize", err)
	}
	out.Tools, err = t.list(ctx, mc)
	return out, err
}

// checkVersion makes sure of what was agreed: the version that was pinned, and for the stateless one that the server
// lists it.
func (t Target) checkVersion(ctx context.Context, mc *client.Client, x *exchange, version string) error {
	got := mc.ProtocolVersion()
	if !mcp.IsModernProtocol(version) {
		if t.ProtocolVersion != "" && got != version {
			return fmt.Errorf("%w: asked for %s, got %s", errVersion, version, got)
		}
		return nil
	}
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

// list reads the whole tool list as the server wrote it.
func (t Target) list(ctx context.Context, mc *client.Client) ([]Tool, error) {
	tools := map[string]Tool{}
	cursor := mcp.Cursor("")
	seen := map[mcp.Cursor]bool{}
	for range maxPages {
		next, err := t.page(ctx, mc, cursor, tools)
		if err != nil {
			return nil, err
		}
		seen[cursor] = true
		cursor = next
		if len(tools) > maxTools || cursor != "" && seen[cursor] {
			return nil, (&exchange{}).wrap("tools/list", errTools)
		}
		if cursor == "" {
			out := slices.Collect(maps.Values(tools))
			slices.SortFunc(out, func(a, b Tool) int { return strings.Compare(a.Name, b.Name) })
			return out, nil
		}
	}
	return nil, (&exchange{}).wrap("tools/list", errTools)
}

// page reads one page into tools and gives the next one's cursor. The first of two tools of one name counts.
func (t Target) page(ctx context.Context, mc *client.Client, cursor mcp.Cursor, tools map[string]Tool) (mcp.Cursor, error) {
	x := &exchange{record: true}
	req := mcp.ListToolsRequest{}
	req.Params.Cursor = cursor
	page, err := mc.ListToolsByPage(withExchange(ctx, x), req)
	if err != nil {
		if x.rpcCode == mcp.METHOD_NOT_FOUND && mc.GetServerCapabilities().Tools == nil {
			return "", nil // a server without tools
		}
		return "", x.wrap("tools/list", err)
	}
	defs, err := tooldigest.Page(t.Name, x.raw)
	if err != nil {
		return "", x.wrap("tools/list", err)
	}
	for _, d := range defs {
		if _, twice := tools[d.Name]; twice {
			continue
		}
		digest, err := d.Digest()
		if err != nil {
			return "", x.wrap("tools/list", fmt.Errorf("tool %s: %w", d.Name, err))
		}
		tools[d.Name] = Tool{Name: d.Name, Description: d.Text(), Digest: digest}
	}
	return page.NextCursor, nil
}
