package a2aclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/egress"
)

// web is the guarded HTTP of one Agent: for its card and keys, for calls, and for streams.
type web struct {
	guard   *egress.Guard
	cards   *http.Client // follows redirects
	calls   *http.Client // as long as the caller's context
	streams *http.Client // cut when silent
}

func newWeb(cfg Config) *web {
	guard := func(maxBody int64, c Config) *egress.Guard {
		e := c.Egress
		e.MaxBody, e.Timeout, e.IdleTimeout = maxBody, -1, -1
		return egress.New(e)
	}
	cards := cfg.Egress
	cards.MaxBody, cards.Timeout, cards.IdleTimeout = a2a.MaxCard, cfg.CardTimeout, cfg.CardTimeout
	streams := cfg.Egress
	streams.MaxBody, streams.Timeout, streams.IdleTimeout = -1, -1, cfg.Silence
	w := &web{
		guard: guard(-1, cfg), cards: egress.New(cards).HTTPClient(), calls: guard(cfg.MaxTask, cfg).HTTPClient(), streams: egress.New(streams).HTTPClient(),
	}
	w.calls.CheckRedirect, w.streams.CheckRedirect = stay, stay
	return w
}

// stay follows no redirect: a call has a body and a key, which are for the address of the card.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (w *web) close() {
	w.cards.CloseIdleConnections()
	w.calls.CloseIdleConnections()
	w.streams.CloseIdleConnections()
}

// exchange is one request of a call.
type exchange struct {
	method, url string
	header      http.Header
	body        []byte
	stream      bool
}

// do performs one request. Its error is a linkError that says whether the agent may have got it.
func (w *web) do(ctx context.Context, x exchange) (*http.Response, error) {
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	var body io.Reader = http.NoBody
	if x.body != nil {
		body = bytes.NewReader(x.body)
	}
	req, err := http.NewRequestWithContext(ctx, x.method, x.url, body)
	if err != nil {
		return nil, link(false, "call", errors.New("the interface's URL is none"))
	}
	maps.Copy(req.Header, x.header)
	req.Header.Set("Accept", a2a.MediaJSON)
	client := w.calls
	if x.stream {
		req.Header.Set("Accept", a2a.MediaStream)
		client = w.streams
	}
	if x.body != nil {
		req.Header.Set("Content-Type", a2a.MediaJSON)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, link(sent.Load(), egress.Origin(req.URL), err)
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		_ = resp.Body.Close()
		return nil, link(false, egress.Origin(req.URL), errors.New("it answers by a redirect, which calls don't follow"))
	}
	return resp, nil
}

// readAll reads an answer that is no stream.
func readAll(resp *http.Response, limit int64) ([]byte, error) {
	where := egress.Origin(resp.Request.URL)
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case errors.Is(err, egress.ErrTooLarge) || int64(len(b)) > limit:
		return nil, invalid("the answer is larger than %d bytes", limit)
	case err != nil:
		return nil, link(true, where, fmt.Errorf("read the answer: %w", err))
	}
	return b, nil
}

func isStream(resp *http.Response) bool {
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && media == a2a.MediaStream
}

// missing reports whether a status that came without an answer of the protocol says that nothing is served there.
func missing(code int) bool {
	return code == http.StatusNotFound || code == http.StatusMethodNotAllowed || code == http.StatusNotImplemented || code == http.StatusGone
}

// local reports whether a host is this machine, by its spelling alone.
func local(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.Unmap().IsLoopback()
}

// readable reports whether what is sent to u can be read on the way.
func readable(u *url.URL) bool { return u.Scheme != "https" && !local(u.Hostname()) }

// address reads an address that a person gave.
func address(text string) (*url.URL, error) {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "://") {
		host, _, _ := strings.Cut(text, "/")
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		scheme := "https://"
		if local(host) {
			scheme = "http://"
		}
		text = scheme + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil {
		return nil, errors.New("want an http or https URL without a user")
	}
	u.Fragment = ""
	return u, nil
}
