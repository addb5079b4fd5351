package world

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/gen/agentry/registry/v1/registryv1connect"
	"github.com/agentry/agentry/gen/agentry/release/v1/releasev1connect"
	"github.com/agentry/agentry/gen/agentry/spec/v1/specv1connect"
)

// Door is one control plane's people door.
type Door struct {
	Node    *Node
	Spec    specv1connect.SpecServiceClient
	Prompts registryv1connect.PromptServiceClient
	MCP     registryv1connect.McpServiceClient
	Status  releasev1connect.StatusServiceClient
	Rollout releasev1connect.RolloutServiceClient
}

// Doors opens a door of every control plane, with connections of their own that are kept. Calls end by their context alone.
func (w *World) Doors() []*Door {
	var out []*Door
	for _, n := range w.Planes {
		client := &http.Client{Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 16, IdleConnTimeout: 10 * time.Second,
		}}
		opts := connect.WithInterceptors(&caller{node: n})
		out = append(out, &Door{
			Node: n, Spec: specv1connect.NewSpecServiceClient(client, n.URL(), opts),
			Prompts: registryv1connect.NewPromptServiceClient(client, n.URL(), opts),
			MCP:     registryv1connect.NewMcpServiceClient(client, n.URL(), opts),
			Status:  releasev1connect.NewStatusServiceClient(client, n.URL(), opts),
			Rollout: releasev1connect.NewRolloutServiceClient(client, n.URL(), opts),
		})
	}
	return out
}

type (
	linearizableKey struct{}
	idempotencyKey  struct{}
)

// Linearizable makes the calls under a context ask for the newest state.
func Linearizable(ctx context.Context) context.Context {
	return context.WithValue(ctx, linearizableKey{}, true)
}

// Once gives the calls under a context an idempotency key.
func Once(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, idempotencyKey{}, key)
}

// caller puts the token and what the context asks for on every call.
type caller struct {
	node *Node

	mu    sync.Mutex // guards token
	token string
}

func (c *caller) headers(ctx context.Context, h http.Header) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == "" {
		token, err := c.node.Token()
		if err != nil {
			return connect.NewError(connect.CodeUnavailable, err)
		}
		c.token = token
	}
	h.Set("Authorization", "Bearer "+c.token)
	if ctx.Value(linearizableKey{}) != nil {
		h.Set("Agentry-Consistency", "linearizable")
	}
	if key, ok := ctx.Value(idempotencyKey{}).(string); ok {
		h.Set("Idempotency-Key", key)
	}
	return nil
}

// WrapUnary implements connect.Interceptor.
func (c *caller) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		if err := c.headers(ctx, r.Header()); err != nil {
			return nil, err
		}
		return next(ctx, r)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (c *caller) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, s connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, s)
		_ = c.headers(ctx, conn.RequestHeader()) // without a token the call is refused
		return conn
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (*caller) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
