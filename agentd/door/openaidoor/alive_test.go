package openaidoor_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/door/openaidoor"
	"github.com/agentry/agentry/agentd/model"
)

// TestSilentStream: a stream shows by comments that it lives, before its first piece and between two; what comes after that is whole, also an error.
func TestSilentStream(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"an answer": {nil, "data: [DONE]"},
		"an error":  {&model.Error{Code: "model_unavailable", Message: "down"}, `data: {"error":`},
	} {
		d := open(t, func(cfg *openaidoor.Config) { cfg.KeepAlive = 5 * time.Millisecond })
		seen := make(chan struct{})
		d.model.answer = func(ctx context.Context, r model.Request, yield func(model.Chunk, error) bool) {
			select {
			case <-seen: // two comments
			case <-ctx.Done():
				return
			}
			if c.err != nil {
				yield(model.Chunk{}, c.err)
				return
			}
			say("at ", "last")(ctx, r, yield)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.URL+"/v1/chat/completions", strings.NewReader(`{"stream":true,"messages":[{"role":"user","content":"hi"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := d.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		comments, last := 0, ""
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			switch line := lines.Text(); {
			case line == ": keep-alive":
				if comments++; comments == 2 {
					close(seen)
				}
			case line != "":
				if !strings.HasPrefix(line, "data: ") {
					t.Errorf("%s: %q", name, line)
				}
				last = line
			}
		}
		if err := resp.Body.Close(); err != nil || lines.Err() != nil {
			t.Errorf("%s: %v, %v", name, err, lines.Err())
		}
		if resp.StatusCode != http.StatusOK || comments < 2 || !strings.HasPrefix(last, c.want) {
			t.Errorf("%s: %s, %d comments, the last line is %q", name, resp.Status, comments, last)
		}
	}
}
