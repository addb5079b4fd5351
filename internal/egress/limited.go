package egress

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// Errors of an answer that is not read on.
var (
	ErrTooLarge = errors.New("egress: the answer is larger than the cap")
	ErrIdle     = errors.New("egress: the answer went silent")
)

// limited caps what comes back, in bytes and in silence.
type limited struct {
	next    *http.Transport
	maxBody int64         // 0: no cap
	idle    time.Duration // 0: none
}

// RoundTrip implements http.RoundTripper.
func (t *limited) RoundTrip(in *http.Request) (*http.Response, error) {
	if in.URL.Scheme != "http" && in.URL.Scheme != "https" {
		return nil, ErrScheme
	}
	ctx, cancel := context.WithCancelCause(in.Context())
	resp, err := t.next.RoundTrip(in.WithContext(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if t.maxBody > 0 && resp.ContentLength > t.maxBody && in.Method != http.MethodHead {
		cancel(nil)
		_ = resp.Body.Close()
		return nil, ErrTooLarge
	}
	resp.Body = &limitedBody{ctx: ctx, cancel: cancel, body: resp.Body, left: t.maxBody, capped: t.maxBody > 0, idle: t.idle}
	return resp, nil
}

// CloseIdleConnections is what http.Client looks for.
func (t *limited) CloseIdleConnections() { t.next.CloseIdleConnections() }

type limitedBody struct {
	ctx    context.Context //nolint:containedctx // an io.Reader is given no context; this is the exchange's own
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	left   int64
	capped bool
	idle   time.Duration
}

// Read implements io.Reader.
func (b *limitedBody) Read(p []byte) (int, error) {
	if b.capped {
		if b.left < 0 {
			return 0, ErrTooLarge
		}
		p = p[:min(int64(len(p)), b.left+1)] // one more tells an end from a cut
	}
	if b.idle > 0 {
		timer := time.AfterFunc(b.idle, func() { b.cancel(ErrIdle) })
		defer timer.Stop()
	}
	n, err := b.body.Read(p)
	if b.capped {
		if b.left -= int64(n); b.left < 0 {
			return n - 1, ErrTooLarge
		}
	}
	if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(b.ctx), ErrIdle) {
		err = ErrIdle
	}
	return n, err
}

// Close implements io.Closer.
func (b *limitedBody) Close() error {
	b.cancel(nil)
	return b.body.Close()
}
