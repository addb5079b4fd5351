package openaimodel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/agentry/agentry/internal/egress"
)

// Caps on what an endpoint may send, in bytes.
const (
	maxAnswer    = 32 << 20
	maxErrorBody = 64 << 10
)

var (
	errTooLarge  = errors.New("the answer is larger than 32 MiB")
	errElsewhere = errors.New("a request to another origin than the endpoint's")
)

// Transports shares HTTP connections between Models of the same base URL, by use count, so that a config swap reconnects nothing.
type Transports struct {
	guard  *egress.Guard
	mu     sync.Mutex // guards byBase
	byBase map[string]*shared
}

type shared struct {
	transport *http.Transport
	uses      int
}

// NewTransports makes an empty pool whose connections go where guard lets them; nil: to public addresses.
func NewTransports(guard *egress.Guard) *Transports {
	if guard == nil {
		guard = egress.New(egress.Config{})
	}
	return &Transports{guard: guard, byBase: map[string]*shared{}}
}

func (t *Transports) acquire(base string) (*http.Transport, func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byBase[base]
	if s == nil {
		s = &shared{transport: newTransport(t.guard)}
		t.byBase[base] = s
	}
	s.uses++
	return s.transport, sync.OnceFunc(func() { t.put(base, s) })
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

// exchange is what one attempt hands to the round tripper and learns from it.
type exchange struct {
	tail       []byte
	stream     bool
	whole      bool // the body is sent as it stands
	status     int
	retryAfter string
	done       bool // the stream said [DONE]
}

type exchangeKey struct{}

// roundTripper finishes requests (real model name, parameters, key, headers), caps answers and maps `reasoning`.
type roundTripper struct {
	next     http.RoundTripper
	model    *Model
	endpoint *url.URL // nothing of ours goes to another origin
}

// RoundTrip is called by the client library only, with the attempt's exchange in the context.
func (t *roundTripper) RoundTrip(in *http.Request) (*http.Response, error) {
	x, ok := in.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errors.New("request without an exchange")
	}
	if in.URL.Scheme != t.endpoint.Scheme || in.URL.Host != t.endpoint.Host {
		return nil, errElsewhere
	}
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	if !x.whole {
		if body, err = t.model.splice(body, x.tail); err != nil {
			return nil, err
		}
	}
	req := in.Clone(in.Context())
	req.Header.Del("Connection")
	req.Body = io.NopCloser(bytes.NewReader(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	req.ContentLength = int64(len(body))
	if key := t.model.cfg.APIKey; key != nil {
		if v := key(); !v.IsZero() {
			req.Header.Set("Authorization", "Bearer "+v.Reveal())
		}
	}
	for name, value := range t.model.cfg.Headers {
		req.Header.Set(name, value().Reveal())
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	x.status = resp.StatusCode
	x.retryAfter = resp.Header.Get("Retry-After")
	return x.shape(resp)
}

func (x *exchange) shape(resp *http.Response) (*http.Response, error) {
	switch {
	case resp.StatusCode >= 300:
		resp.Body = &cappedBody{body: resp.Body, left: maxErrorBody, quiet: true}
		if resp.StatusCode < 400 { // the library takes a redirect for success
			resp.StatusCode = http.StatusBadGateway
		}
	case x.stream:
		if ct := resp.Header.Get("Content-Type"); ct != "" && !strings.HasPrefix(ct, "text/event-stream") {
			head, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
			_ = resp.Body.Close()
			return nil, &protocolError{"asked for a stream, answered " + ct + ": " + oneLine(string(head))}
		}
		resp.Body = &cappedBody{body: resp.Body, left: maxAnswer, exchange: x}
	default:
		body, err := io.ReadAll(&cappedBody{body: resp.Body, left: maxAnswer})
		_ = resp.Body.Close()
		if err != nil {
			return nil, err
		}
		resp.Body = io.NopCloser(bytes.NewReader(mapReasoning(body)))
	}
	return resp, nil
}

// protocolError is an answer that is not what the protocol says.
type protocolError struct{ text string }

func (e *protocolError) Error() string { return e.text }

// mapReasoning renames a message's `reasoning` to the only name that the library knows.
func mapReasoning(body []byte) []byte {
	if !bytes.Contains(body, []byte(`"reasoning"`)) {
		return body
	}
	var top map[string]json.RawMessage
	var choices []map[string]json.RawMessage
	if json.Unmarshal(body, &top) != nil || json.Unmarshal(top["choices"], &choices) != nil {
		return body
	}
	for _, c := range choices {
		var msg map[string]json.RawMessage
		if json.Unmarshal(c["message"], &msg) != nil || msg["reasoning"] == nil {
			continue
		}
		if msg["reasoning_content"] == nil {
			msg["reasoning_content"] = msg["reasoning"]
		}
		delete(msg, "reasoning")
		if b, err := json.Marshal(msg); err == nil {
			c["message"] = b
		}
	}
	b, err := json.Marshal(choices)
	if err != nil {
		return body
	}
	top["choices"] = b
	if b, err = json.Marshal(top); err != nil {
		return body
	}
	return b
}

// cappedBody ends a body at a cap: quietly for an error's text, else with errTooLarge. For a stream it notices [DONE], which the
// library does not tell apart from a connection that ended.
type cappedBody struct {
	body     io.ReadCloser
	left     int
	quiet    bool
	exchange *exchange
	tail     []byte
}

const doneMark = "[DONE]"

// Read implements io.Reader.
func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		if b.quiet {
			return 0, io.EOF
		}
		return 0, errTooLarge
	}
	if len(p) > b.left {
		p = p[:b.left]
	}
	n, err := b.body.Read(p)
	b.left -= n
	if b.exchange != nil && !b.exchange.done && n > 0 {
		b.tail = append(b.tail, p[:n]...)
		b.exchange.done = bytes.Contains(b.tail, []byte("data: "+doneMark)) || bytes.Contains(b.tail, []byte("data:"+doneMark))
		if keep := len(doneMark) + 6; len(b.tail) > keep {
			b.tail = append(b.tail[:0], b.tail[len(b.tail)-keep:]...)
		}
	}
	return n, err
}

// Close implements io.Closer.
func (b *cappedBody) Close() error { return b.body.Close() }

func withExchange(ctx context.Context, x *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}
