package openaimodel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/agentry/agentry/internal/egress"
)

// Caps on what an endpoint may send, in bytes.
const (
	maxAnswer    = 32 << 20  // one that comes whole
	maxStream    = 256 << 20 // of it maxText may be the answer
	maxEvent     = 8 << 20
	maxErrorBody = 64 << 10
)

var errTooLarge = errors.New("the answer is larger than agentd takes: 16 MiB of text, 8 MiB in one event, 32 MiB in one piece")

// Transports shares HTTP connections between Models of the same base URL, by use count, so that a config swap reconnects nothing.
type Transports struct {
	guard  *egress.Guard
	mu     sync.Mutex // guards byBase
	byBase map[string]*shared
}

type shared struct {
	transport *http.Transport
	echoes    *echoes
	uses      int
}

// NewTransports makes an empty pool whose connections go where guard lets them; nil: to public addresses.
func NewTransports(guard *egress.Guard) *Transports {
	if guard == nil {
		guard = egress.New(egress.Config{})
	}
	return &Transports{guard: guard, byBase: map[string]*shared{}}
}

func (t *Transports) acquire(base string) (*shared, func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byBase[base]
	if s == nil {
		s = &shared{transport: newTransport(t.guard), echoes: newEchoes()}
		t.byBase[base] = s
	}
	s.uses++
	return s, sync.OnceFunc(func() { t.put(base, s) })
}

func (t *Transports) put(base string, s *shared) {
	t.mu.Lock()
	s.uses--
	last := s.uses == 0
	if last {
		delete(t.byBase, base)
	}
	t.mu.Unlock()
	if last {
		s.transport.CloseIdleConnections()
	}
}

// newTransport keeps many connections to one endpoint: a new one costs a handshake in the middle of a turn.
func newTransport(guard *egress.Guard) *http.Transport {
	t := guard.Transport()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 256, 128
	return t
}

// exchange is what is learnt about one attempt.
type exchange struct {
	status       int
	retryAfter   string
	retryAfterMS string
}

// Headers that never change, shared by all requests: nobody writes to them.
var (
	jsonType   = []string{"application/json"}  //nolint:gochecknoglobals // a constant
	eventsType = []string{"text/event-stream"} //nolint:gochecknoglobals // a constant
)

// send posts a body with the key and the headers of this moment. It follows no redirect: what isn't a success is an error, with as much of
// the answer's text as maxErrorBody. The caller closes the body.
func (m *Model) send(ctx context.Context, x *exchange, to *url.URL, accept []string, body []byte) (*http.Response, error) {
	header := make(http.Header, 4+len(m.cfg.Headers))
	header["Content-Type"], header["Accept"] = jsonType, accept
	if m.basic != "" {
		header["Authorization"] = []string{m.basic}
	}
	if m.cfg.APIKey != nil {
		if v := m.cfg.APIKey(); !v.IsZero() {
			header["Authorization"] = []string{"Bearer " + v.Reveal()}
		}
	}
	for name, value := range m.cfg.Headers {
		header.Set(name, value().Reveal())
	}
	req := (&http.Request{
		Method: http.MethodPost, URL: to, Host: to.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header, ContentLength: int64(len(body)),
		Body: io.NopCloser(bytes.NewReader(body)), GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	}).WithContext(ctx)
	resp, err := m.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	x.status = resp.StatusCode
	if resp.StatusCode < 300 {
		return resp, nil
	}
	x.retryAfter, x.retryAfterMS = resp.Header.Get("Retry-After"), resp.Header.Get("Retry-After-Ms")
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	_ = resp.Body.Close()
	if err != nil && len(raw) == 0 {
		return nil, err
	}
	if resp.StatusCode < 400 {
		return nil, &protocolError{fmt.Sprintf("HTTP %d: a redirect, which is not followed: set baseUrl to where the endpoint is", resp.StatusCode)}
	}
	return nil, refusalOf(resp.StatusCode, raw)
}

// protocolError is an answer that is not what the protocol says.
type protocolError struct{ text string }

func (e *protocolError) Error() string { return e.text }

// cappedBody ends a body at a cap with errTooLarge.
type cappedBody struct {
	body io.Reader
	left int
}

// Read implements io.Reader.
func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	if len(p) > b.left {
		p = p[:b.left]
	}
	n, err := b.body.Read(p)
	b.left -= n
	return n, err
}
