// Package openaimodel calls any OpenAI-compatible endpoint, by chat completions or by the Responses API. The assembler makes one Model per config; package
// run calls it through the port agentd/model. It never reads the environment, uses no proxy, follows no redirect and never prints a key.
package openaimodel

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/jsonquote"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

// The defaults and caps of a call.
const (
	DefaultTimeout     = 2 * time.Minute
	DefaultIdleTimeout = time.Minute
	DefaultAttempts    = 3
	DefaultBackoff     = 500 * time.Millisecond
	maxBackoff         = 10 * time.Second
	// MaxRetryAfter caps how long a server's Retry-After is honoured; a longer one ends the call.
	MaxRetryAfter = 30 * time.Second
	// MaxStandbyWait is the same where another endpoint stands by.
	MaxStandbyWait = 2 * time.Second
)

// Price is in US dollars per million tokens.
type Price struct{ Input, Output float64 }

// of gives what u costs.
func (p Price) of(u model.Usage) float64 {
	return (p.Input*float64(u.InputTokens) + p.Output*float64(u.OutputTokens)) / 1e6
}

// API is the way in which an endpoint is asked.
type API string

// The APIs. The empty one means ChatCompletions.
const (
	ChatCompletions API = "chat-completions" // POST /chat/completions
	Responses       API = "responses"        // POST /responses, which knows neither Stop nor Seed
)

// Config is one endpoint with its parameters. Model and BaseURL are required.
type Config struct {
	Model   string
	BaseURL string // the effective one, as spec.EffectiveBaseURL gives it
	API     API
	// APIKey and Headers are asked at every attempt, so that a rotated credential counts at once. nil: none is sent.
	APIKey      func() secret.Value
	Headers     map[string]func() secret.Value
	Temperature *float64
	TopP        *float64
	MaxTokens   *int
	Stop        []string
	Seed        *int64
	// ExtraBody is a JSON object merged over the request; it wins over the fields above but may not carry model, messages,
	// tools or stream (with Responses: model, input, tools or stream). A null leaves the field out, stream_options and response_format too.
	ExtraBody    json.RawMessage
	SendMetadata bool
	// Timeout bounds an attempt until its first chunk (streaming) or to its end; default 2 min.
	Timeout time.Duration
	// IdleTimeout bounds the wait between two chunks; default 1 min, or Timeout if that is shorter.
	IdleTimeout time.Duration
	Attempts    int           // including the first, default 3
	Backoff     time.Duration // first wait, doubled each time, with full jitter; default 500 ms
	// Standby says that another endpoint is asked when this one fails: then a timeout is not tried again here, and no wait is longer
	// than MaxStandbyWait.
	Standby bool
	// Price makes Usage carry a cost; the zero Price costs nothing.
	Price Price
	// Transports shares connections with other Models of the same base URL; nil: connections of its own, to public addresses.
	Transports *Transports
}

// Model is one endpoint. It may be used from many goroutines.
type Model struct {
	cfg    Config
	params map[string]json.RawMessage
	// head is how every body begins; tail and streamed are how one without additions of its own ends.
	head, tail, streamed []byte

	responses        bool     // which API
	chat, embeddings *url.URL // chat is where answers are asked for, by either API
	basic            string   // Authorization of a URL that carries a user; "": none
	transport        *http.Transport
	echoes           *echoes
	quirks           quirks
	release          func()
}

var _ model.Model = (*Model)(nil)

// New checks cfg and makes a Model; it makes no connection. Errors are of kind Invalid.
func New(cfg Config) (*Model, error) {
	if cfg.Model == "" {
		return nil, errs.New(errs.Invalid, "model: empty")
	}
	u, err := url.Parse(cfg.BaseURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errs.New(errs.Invalid, "baseUrl: want an http or https URL")
	}
	cfg.Timeout = orDefault(cfg.Timeout, DefaultTimeout)
	cfg.IdleTimeout = orDefault(cfg.IdleTimeout, min(DefaultIdleTimeout, cfg.Timeout))
	cfg.Backoff = orDefault(cfg.Backoff, DefaultBackoff)
	if cfg.Attempts <= 0 {
		cfg.Attempts = DefaultAttempts
	}
	if cfg.API != "" && cfg.API != ChatCompletions && cfg.API != Responses {
		return nil, errs.New(errs.Invalid, "api: want %s or %s", ChatCompletions, Responses)
	}
	params, err := parameters(cfg)
	if err != nil {
		return nil, err
	}
	tail, err := renderTail(params)
	if err != nil {
		return nil, err
	}
	pool := cfg.Transports
	if pool == nil {
		pool = NewTransports(nil)
	}
	base := strings.TrimRight(cfg.BaseURL, "/")
	m := &Model{cfg: cfg, params: params, tail: tail, responses: cfg.API == Responses}
	m.head = jsonquote.Append([]byte(`{"model":`), cfg.Model)
	m.embeddings = u.JoinPath("embeddings") // a query stays
	if m.responses {
		m.head, m.streamed = append(m.head, `,"input":[`...), tail
		m.chat = u.JoinPath("responses")
	} else {
		m.head, m.streamed = append(m.head, `,"messages":[`...), streamTail(params, tail)
		m.chat = u.JoinPath("chat", "completions")
	}
	m.chat.User, m.embeddings.User = nil, nil
	if u.User != nil {
		password, _ := u.User.Password()
		m.basic = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
	}
	shared, release := pool.acquire(base)
	m.transport, m.echoes, m.release = shared.transport, shared.echoes, release
	return m, nil
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

// Close gives back the shared connections. Calls under way go on. Calling it twice is fine.
func (m *Model) Close() { m.release() }

// Generate calls the endpoint, again after a retryable failure as long as nothing was yielded. See model.Model.
func (m *Model) Generate(ctx context.Context, r model.Request) iter.Seq2[model.Chunk, error] {
	return func(yield func(model.Chunk, error) bool) {
		var attempts []model.Attempt
		var spent *model.Usage // by attempts that broke off
		for n := 1; ; n++ {
			started := time.Now()
			out := &output{yield: yield, spent: spent}
			fail := m.attempt(ctx, r, out)
			if fail == nil || out.stopped {
				return
			}
			spent = spent.Plus(fail.spent)
			if ctx.Err() != nil {
				yield(model.Chunk{Usage: spent}, context.Cause(ctx))
				return
			}
			fail.learnt = m.learn(fail)
			fail.message = m.scrub(fail.message)
			if !fail.unsent {
				attempts = append(attempts, model.Attempt{Model: m.cfg.Model, Status: fail.status, Err: fail.message, Elapsed: time.Since(started)})
			}
			wait, again := m.wait(n, fail)
			if out.left || !again || tooLate(ctx, wait) {
				yield(model.Chunk{Usage: spent}, &model.Error{Code: fail.code, Message: fail.message, Attempts: attempts, RetryAfter: fail.retryAfter})
				return
			}
			if !pause(ctx, wait) {
				yield(model.Chunk{Usage: spent}, context.Cause(ctx))
				return
			}
		}
	}
}

// output is where an attempt's chunks go.
type output struct {
	yield   func(model.Chunk, error) bool
	spent   *model.Usage // by attempts before: the last chunk's usage includes it
	left    bool         // a chunk was handed on: no retry any more
	stopped bool         // the reader wants no more
}

func (o *output) chunk(c model.Chunk) bool {
	o.left = true
	if c.Usage != nil {
		c.Usage = c.Usage.Plus(o.spent)
	}
	if !o.yield(c, nil) {
		o.stopped = true
	}
	return !o.stopped
}

// wait says how long to wait after the n-th attempt, and whether to try again at all.
func (m *Model) wait(n int, f *failure) (time.Duration, bool) {
	longest := MaxRetryAfter
	if m.cfg.Standby {
		longest = MaxStandbyWait
	}
	if f.learnt {
		return 0, true
	}
	if !f.retryable || n >= m.cfg.Attempts || (m.cfg.Standby && f.code == string(phase.Timeout)) {
		return 0, false
	}
	if f.retryAfter > 0 {
		return f.retryAfter, f.retryAfter <= longest
	}
	ceiling := m.cfg.Backoff << min(n-1, 16)
	if ceiling <= 0 || ceiling > maxBackoff {
		ceiling = max(m.cfg.Backoff, maxBackoff)
	}
	return rand.N(min(ceiling, longest)) + 1, true // #nosec G404 -- jitter, not a secret
}

func tooLate(ctx context.Context, wait time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= wait
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// scrub takes keys out of a text that a server wrote: some echo the key they refuse.
func (m *Model) scrub(s string) string {
	if m.cfg.APIKey != nil {
		s = cut(s, m.cfg.APIKey())
	}
	for _, v := range m.cfg.Headers {
		s = cut(s, v())
	}
	return s
}

func cut(s string, v secret.Value) string {
	if raw := v.Reveal(); len(raw) >= 4 {
		return strings.ReplaceAll(s, raw, secret.Redacted)
	}
	return s
}

var (
	errTimeout = errors.New("no answer within the model's timeout")
	errIdle    = errors.New("the stream went silent")
)
