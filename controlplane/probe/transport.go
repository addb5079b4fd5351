package probe

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/client/transport"

	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/secret"
)

const (
	maxBody = 8 << 20 // bytes of one answer, a stream's too: a probe is short
	goodbye = 2 * time.Second
)

var errTooLarge = errors.New("the server's answer is larger than 8 MiB")

// exchange is what is learnt below the library about one request.
type exchange struct {
	status  atomic.Int32 // the newest HTTP status
	record  bool
	raw     json.RawMessage
	rpc     string // the JSON-RPC error's message
	rpcCode int
}

type exchangeKey struct{}

func withExchange(ctx context.Context, x *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// recorder keeps the raw answer of a request for whoever put an exchange into its context: the library's own types lose
// what they do not know of a schema.
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
	x.rpc, x.rpcCode = "", 0
	switch {
	case resp.Error != nil:
		x.rpc, x.rpcCode = "the server refuses: "+resp.Error.Message, resp.Error.Code
	case x.record:
		x.raw = resp.Result
	}
	return resp, nil
}

// roundTripper adds headers and query parameters, and caps what comes back.
type roundTripper struct {
	next           *http.Transport
	headers, query map[string]secret.Value
}

func newRoundTripper(t Target) *roundTripper {
	guard := t.Egress
	if guard == nil {
		guard = egress.New(egress.Config{})
	}
	next := guard.Transport()
	next.TLSHandshakeTimeout, next.ResponseHeaderTimeout = 5*time.Second, 15*time.Second
	return &roundTripper{headers: t.Headers, query: t.Query, next: next}
}

// client gives an HTTP client that follows no redirect: a credential never goes to another origin.
func (t *roundTripper) client() *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// RoundTrip implements http.RoundTripper. The URL in a caller's error has no query parameter of ours.
func (t *roundTripper) RoundTrip(in *http.Request) (*http.Response, error) {
	ctx, cancel := in.Context(), context.CancelFunc(func() {})
	if in.Method == http.MethodDelete { // the goodbye must not outlive a probe that timed out by much, nor end before it began
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	}
	req := in.Clone(ctx)
	for name, value := range t.headers {
		req.Header.Set(name, value.Reveal())
	}
	if len(t.query) > 0 {
		q := req.URL.Query()
		for name, value := range t.query {
			q.Set(name, value.Reveal())
		}
		req.URL.RawQuery = q.Encode()
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		cancel()
		return nil, err
	}
	if x := exchangeOf(in.Context()); x != nil {
		x.status.Store(int32(resp.StatusCode)) // #nosec G115 -- three digits
	}
	resp.Body = &cappedBody{body: resp.Body, left: maxBody, cancel: cancel}
	return resp, nil
}

// cappedBody ends a body with an error at its limit.
type cappedBody struct {
	body   io.ReadCloser
	left   int
	cancel context.CancelFunc
}

// Read implements io.Reader.
func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.body.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// Close implements io.Closer.
func (b *cappedBody) Close() error {
	b.cancel()
	return b.body.Close()
}
