package mcptool

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/secret"
)

// Caps on what a server may send, in bytes: an answer, one event of a stream, an error's text.
const (
	maxBody      = 8 << 20
	maxErrorBody = 16 << 10
	goodbye      = 2 * time.Second
)

var (
	errTooLarge  = errors.New("the server's answer is larger than 8 MiB")
	errElsewhere = errors.New("a request to another origin than the endpoint's")
)

// exchange is what is learnt below the library about one request.
type exchange struct {
	status     atomic.Int32 // the newest HTTP status
	record     bool
	raw        json.RawMessage
	rpc        bool // answered with a JSON-RPC error
	rpcCode    int
	rpcMessage string
}

type exchangeKey struct{}

func withExchange(ctx context.Context, x *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// roundTripper adds headers and query parameters with the credentials of this moment, and caps what comes back.
type roundTripper struct {
	next    *http.Transport
	headers map[string]func() secret.Value
	query   map[string]func() secret.Value
	servers []*url.URL // the endpoints: nothing of ours goes to another origin
}

func newRoundTripper(cfg Config) *roundTripper {
	guard := cfg.Egress
	if guard == nil {
		guard = egress.New(egress.Config{})
	}
	t := guard.Transport()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 64, 64
	rt := &roundTripper{headers: cfg.Headers, query: cfg.Query, next: t}
	for _, e := range cfg.Endpoints {
		if u, err := url.Parse(e.URL); err == nil {
			rt.servers = append(rt.servers, u)
		}
	}
	return rt
}

// client gives an HTTP client that follows no redirect: a credential never goes to another origin.
func (t *roundTripper) client() *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// RoundTrip implements http.RoundTripper. The URL in a caller's error has no query parameter of ours.
func (t *roundTripper) RoundTrip(in *http.Request) (*http.Response, error) {
	if !slices.ContainsFunc(t.servers, func(u *url.URL) bool { return in.URL.Scheme == u.Scheme && in.URL.Host == u.Host }) {
		return nil, errElsewhere
	}
	ctx := in.Context()
	cancel := context.CancelFunc(func() {})
	var late *lingering
	switch in.Method {
	case http.MethodDelete:
		ctx, cancel = context.WithTimeout(ctx, goodbye)
	case http.MethodPost:
		ctx, late = newLingering(ctx)
		cancel = late.over
	}
	req := in.Clone(ctx)
	for name, value := range t.headers {
		req.Header.Set(name, value().Reveal())
	}
	if len(t.query) > 0 {
		q := req.URL.Query()
		for name, value := range t.query {
			q.Set(name, value().Reveal())
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
	body := &cappedBody{body: resp.Body, limit: maxBody, cancel: cancel}
	switch {
	case resp.StatusCode >= 300:
		body.limit, body.quiet = maxErrorBody, true
	case strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream"):
		body.events = true
		if late != nil {
			late.attach(resp.Body)
			body.lingering = late
		}
	}
	resp.Body = body
	return resp, nil
}

// cappedBody ends a body at limit; with events the limit is for one event, because a stream may live for ever.
type cappedBody struct {
	body    io.ReadCloser
	limit   int
	used    int
	quiet   bool
	events  bool
	newline bool
	cancel  context.CancelFunc

	lingering *lingering // nil: the caller's Close is the end
}

// Read implements io.Reader.
func (b *cappedBody) Read(p []byte) (int, error) {
	if b.used >= b.limit {
		if b.quiet {
			return 0, io.EOF
		}
		return 0, errTooLarge
	}
	if !b.events && len(p) > b.limit-b.used {
		p = p[:b.limit-b.used]
	}
	n, err := b.body.Read(p)
	if !b.events {
		b.used += n
		return n, err
	}
	b.count(p[:n])
	if b.lingering != nil {
		b.lingering.read(n > 0 && b.used == 0, err)
	}
	return n, err
}

// count counts the bytes of the event under way.
func (b *cappedBody) count(p []byte) {
	for _, c := range p {
		switch {
		case c == '\n' && b.newline:
			b.used = -1
		case c == '\n':
			b.newline = true
		case c != '\r':
			b.newline = false
		}
		b.used++
	}
}

// Close implements io.Closer.
func (b *cappedBody) Close() error {
	if b.lingering != nil {
		b.lingering.leave()
		return nil
	}
	b.cancel()
	return b.body.Close()
}
