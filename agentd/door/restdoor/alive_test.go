package restdoor_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/door/restdoor"
)

// TestSilentStream: a stream shows by comments that it lives while the model thinks.
func TestSilentStream(t *testing.T) {
	t.Parallel()
	w := open(t, func(cfg *restdoor.Config) { cfg.KeepAlive = 5 * time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL+messages, strings.NewReader(`{"message":"slow"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	resp, err := w.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	comments, events := 0, 0
	for lines := bufio.NewScanner(resp.Body); comments < 3 || events == 0; {
		if !lines.Scan() {
			t.Fatalf("the stream ended after %d comments and %d events: %v", comments, events, lines.Err())
		}
		switch {
		case lines.Text() == ": keep-alive":
			comments++
		case strings.HasPrefix(lines.Text(), "event: delta"):
			events++
		}
	}
	cancel()
	select {
	case <-w.model.left:
	case <-time.After(10 * time.Second):
		t.Error("the model's call goes on")
	}
}
