package harness

import (
	"context"
	"net/http"
	"os"
	"strings"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/gen/agentry/release/v1/releasev1connect"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/gen/agentry/spec/v1/specv1connect"
)

// API is the people door's services with the dev token.
type API struct {
	Spec   specv1connect.SpecServiceClient
	Status releasev1connect.StatusServiceClient
}

// API connects to the people door.
func (c *ControlPlane) API() (API, error) {
	token, err := c.Token()
	if err != nil {
		return API{}, err
	}
	auth := connect.WithInterceptors(bearer(token))
	base := "http://" + c.People
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	return API{
		Spec:   specv1connect.NewSpecServiceClient(client, base, auth),
		Status: releasev1connect.NewStatusServiceClient(client, base, auth),
	}, nil
}

// Token reads the dev token.
func (c *ControlPlane) Token() (string, error) {
	b, err := os.ReadFile(c.TokenFile())
	return strings.TrimSpace(string(b)), err
}

// bearer puts the token on every call.
type bearer string

// WrapUnary implements connect.Interceptor.
func (b bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		r.Header().Set("Authorization", "Bearer "+string(b))
		return next(ctx, r)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (b bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, s connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, s)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(b))
		return conn
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// Files is a set of spec files by path.
type Files map[string]string

// Apply applies a set and answers the results.
func (a API) Apply(ctx context.Context, files Files) (*specv1.ApplyResponse, error) {
	req := &specv1.ApplyRequest{}
	for path, content := range files {
		req.Files = append(req.Files, &specv1.File{Path: path, Content: []byte(content)})
	}
	resp, err := a.Spec.Apply(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return resp.Msg, nil
}

// WriteTo writes the set below dir, for agentctl.
func (f Files) WriteTo(dir string) error {
	for path, content := range f {
		full := dir + "/" + path
		if err := os.MkdirAll(full[:strings.LastIndex(full, "/")], 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}
