package fallback_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/model/fallback"
	"github.com/agentry/agentry/internal/errs"
)

// fake is an endpoint that says what next it answers.
type fake struct {
	name string
	gate chan struct{} // not nil: an answer waits for it

	mu     sync.Mutex
	calls  int
	fail   error // nil: it answers with its name
	pieces int   // that come before fail
	wasted int64 // tokens that a failure without pieces cost
	closed bool
}

func (f *fake) Generate(ctx context.Context, _ model.Request) iter.Seq2[model.Chunk, error] {
	return func(yield func(model.Chunk, error) bool) {
		f.mu.Lock()
		f.calls++
		fail, pieces := f.fail, f.pieces
		f.mu.Unlock()
		if f.gate != nil {
			select {
			case <-f.gate:
			case <-ctx.Done():
				yield(model.Chunk{}, context.Cause(ctx))
				return
			}
		}
		for range pieces {
			if !yield(model.Chunk{Text: "part"}, nil) {
				return
			}
		}
		if fail != nil {
			yield(model.Chunk{Usage: &model.Usage{OutputTokens: int64(pieces) + f.wasted}}, fail)
			return
		}
		yield(model.Chunk{Text: f.name, FinishReason: "stop", Usage: &model.Usage{}}, nil)
	}
}

func (f *fake) set(fail error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *fake) called() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *fake) Close() error {
	f.closed = true
	return nil
}

func broken(code string, status int) *model.Error {
	return &model.Error{Code: code, Message: code + "!", Attempts: []model.Attempt{{Model: "m", Status: status, Err: code}}}
}

// clock is the time of a test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func build(t *testing.T, fakes ...*fake) (*fallback.Model, *clock) {
	t.Helper()
	c := &clock{now: time.Unix(1e9, 0)}
	cfg := fallback.Config{Cooldown: 10 * time.Second, MaxCooldown: 30 * time.Second, Now: c.time}
	for _, f := range fakes {
		cfg.Endpoints = append(cfg.Endpoints, fallback.Endpoint{Name: f.name, Model: f})
	}
	m, err := fallback.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m, c
}

func ask(t *testing.T, m *fallback.Model) (string, error) {
	t.Helper()
	text := ""
	for c, err := range m.Generate(t.Context(), model.Request{}) {
		if err != nil {
			return text, err
		}
		text += c.Text
	}
	return text, nil
}

func TestWhatMovesOn(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fail   *model.Error
		pieces int
		moves  bool
	}{
		"down":                            {fail: broken("unreachable", 0), moves: true},
		"slow":                            {fail: broken("timeout", 0), moves: true},
		"5xx":                             {fail: broken("http_5xx", 503), moves: true},
		"full":                            {fail: broken("rate_limited", 429), moves: true},
		"refuses the key":                 {fail: broken("unauthorized", 401), moves: true},
		"no such model":                   {fail: broken("invalid", 404), moves: true},
		"speaks something else":           {fail: broken("invalid", 200), moves: true},
		"refuses the request":             {fail: broken("invalid", 400)},
		"too long":                        {fail: broken("context_length", 400)},
		"filtered":                        {fail: broken("content_filter", 400)},
		"down in the middle of an answer": {fail: broken("unreachable", 200), pieces: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := &fake{name: "first", fail: tc.fail, pieces: tc.pieces}, &fake{name: "second"}
			m, _ := build(t, first, second)
			text, err := ask(t, m)
			if tc.moves {
				if err != nil || text != "second" {
					t.Errorf("got %q, %v", text, err)
				}
				return
			}
			var e *model.Error
			if !errors.As(err, &e) || e.Code != tc.fail.Code || second.called() != 0 {
				t.Errorf("err = %v, second asked %d times", err, second.called())
			}
		})
	}
}

// An endpoint that failed is left alone for the cooldown, which doubles; one call at a time tries it again.
func TestCooldown(t *testing.T) {
	t.Parallel()
	first, second := &fake{name: "first", fail: broken("http_5xx", 500)}, &fake{name: "second"}
	m, clock := build(t, first, second)
	var calls []int
	for _, d := range []time.Duration{0, 9 * time.Second, time.Second, 19 * time.Second, time.Second, 29 * time.Second, time.Second, 29 * time.Second, time.Second} {
		clock.pass(d)
		if text, err := ask(t, m); err != nil || text != "second" {
			t.Fatalf("got %q, %v", text, err)
		}
		calls = append(calls, first.called())
	}
	if diff := cmp.Diff([]int{1, 1, 2, 2, 3, 3, 4, 4, 5}, calls); diff != "" {
		t.Errorf("calls of the first after 0, 9, 10, 29, 30, 59, 60, 89, 90 s (-want +got):\n%s", diff)
	}
	first.set(nil)
	clock.pass(30 * time.Second)
	if text, err := ask(t, m); err != nil || text != "first" {
		t.Errorf("after the cooldown: %q, %v", text, err)
	}
	first.set(broken("http_5xx", 500))
	_, _ = ask(t, m)
	clock.pass(10 * time.Second)
	before := first.called()
	if _, _ = ask(t, m); first.called() != before+1 {
		t.Error("an answer did not reset the cooldown")
	}
}

func TestRetryAfterIsTheCooldown(t *testing.T) {
	t.Parallel()
	limited := broken("rate_limited", 429)
	limited.RetryAfter = 25 * time.Second
	first, second := &fake{name: "first", fail: limited}, &fake{name: "second"}
	m, clock := build(t, first, second)
	_, _ = ask(t, m)
	clock.pass(24 * time.Second)
	if _, _ = ask(t, m); first.called() != 1 {
		t.Error("asked before its Retry-After had passed")
	}
	clock.pass(time.Second)
	if _, _ = ask(t, m); first.called() != 2 {
		t.Error("not asked after its Retry-After")
	}
}

// Many calls at the end of a cooldown: one tries the endpoint, which hangs; the others are answered by the next meanwhile.
func TestOneTriesAgain(t *testing.T) {
	t.Parallel()
	first, second := &fake{name: "first", fail: broken("timeout", 0)}, &fake{name: "second"}
	m, clock := build(t, first, second)
	_, _ = ask(t, m)
	clock.pass(time.Minute)
	first.set(nil)
	first.gate = make(chan struct{})
	done := make(chan string, 1)
	go func() {
		text, _ := ask(t, m)
		done <- text
	}()
	for first.called() < 2 {
		select {
		case text := <-done:
			t.Fatalf("nobody tried it again: %q", text)
		case <-time.After(time.Millisecond):
		}
	}
	for range 5 {
		if text, err := ask(t, m); err != nil || text != "second" {
			t.Errorf("beside the trial: %q, %v", text, err)
		}
	}
	close(first.gate)
	if text := <-done; text != "first" || first.called() != 2 {
		t.Errorf("trial gave %q, first was asked %d times", text, first.called())
	}
}

// All fail, or cool down already: every one is asked all the same, and the error names all attempts.
func TestAllFail(t *testing.T) {
	t.Parallel()
	first, second := &fake{name: "first", fail: broken("http_5xx", 500)}, &fake{name: "second", fail: broken("unreachable", 0)}
	m, _ := build(t, first, second)
	for n := 1; n <= 2; n++ {
		_, err := ask(t, m)
		var e *model.Error
		if !errors.As(err, &e) || len(e.Attempts) != 2 || !strings.Contains(e.Message, "first: http_5xx!") || !strings.Contains(e.Message, "second: unreachable!") {
			t.Errorf("err = %+v", e)
		}
		if first.called() != n || second.called() != n {
			t.Errorf("asked %d and %d times, want %d", first.called(), second.called(), n)
		}
	}
}

// A caller that leaves is no failure of the endpoint, and no reason to ask the next.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	first, second := &fake{name: "first", gate: make(chan struct{})}, &fake{name: "second"}
	m, _ := build(t, first, second)
	ctx, cancel := context.WithCancelCause(t.Context())
	left := errors.New("left")
	cancel(left)
	for _, err := range m.Generate(ctx, model.Request{}) {
		if !errors.Is(err, left) {
			t.Errorf("err = %v", err)
		}
	}
	close(first.gate)
	if text, err := ask(t, m); err != nil || text != "first" || second.called() != 0 {
		t.Errorf("then %q, %v; second asked %d times", text, err, second.called())
	}
	for range m.Generate(t.Context(), model.Request{}) { // a reader that wants no more
		break
	}
	if second.called() != 0 {
		t.Error("asked the next for a reader that stopped")
	}
}

func TestUsageOfABrokenAnswer(t *testing.T) {
	t.Parallel()
	first := &fake{name: "first", fail: broken("unreachable", 200)}
	first.wasted = 5
	moved, _ := build(t, first, &fake{name: "second"})
	for c, err := range moved.Generate(t.Context(), model.Request{}) {
		if err != nil || (c.Usage != nil && c.Usage.OutputTokens != 5) {
			t.Errorf("usage of an answer after a broken one: %+v, %v", c.Usage, err)
		}
	}
	m, _ := build(t, &fake{name: "first", fail: broken("unreachable", 200), pieces: 3}, &fake{name: "second"})
	for c, err := range m.Generate(t.Context(), model.Request{}) {
		if err != nil && (c.Usage == nil || c.Usage.OutputTokens != 3) {
			t.Errorf("usage beside the error: %+v", c.Usage)
		}
	}
}

func TestCloseAndEmbed(t *testing.T) {
	t.Parallel()
	first, second := &fake{name: "first"}, &fake{name: "second"}
	m, _ := build(t, first, second)
	if _, err := m.Embed(t.Context(), "e", []string{"x"}); !errs.Is(err, errs.Unsupported) {
		t.Errorf("err = %v", err)
	}
	if err := m.Close(); err != nil || !first.closed || !second.closed {
		t.Errorf("closed %v, %v, %v", first.closed, second.closed, err)
	}
	if _, err := fallback.New(fallback.Config{}); !errs.Is(err, errs.Invalid) {
		t.Errorf("no endpoint: %v", err)
	}
}
