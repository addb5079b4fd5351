package mcptool_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/tool/mcptool"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	reply := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, tc := range map[string]struct {
		h    http.HandlerFunc
		want phase.Code
	}{
		"401":               {reply(401, "", "planted-secret"), phase.Unauthorized},
		"403":               {reply(403, "", ""), phase.Unauthorized},
		"404":               {reply(404, "", ""), phase.NotMCP},
		"405":               {reply(405, "", ""), phase.NotMCP},
		"429":               {reply(429, "", ""), phase.RateLimited},
		"500":               {reply(500, "", "planted-secret"), phase.HTTP5xx},
		"503":               {reply(503, "", ""), phase.HTTP5xx},
		"redirect":          {reply(302, "", ""), phase.NotMCP},
		"a web page":        {reply(200, "text/html", "<html>"), phase.NotMCP},
		"broken JSON":       {reply(200, "application/json", "{"), phase.NotMCP},
		"another JSON":      {reply(200, "application/json", `{"ok":true}`), phase.NotMCP},
		"endless":           {func(w http.ResponseWriter, r *http.Request) { endless(w, r) }, phase.NotMCP},
		"silent":            {func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() }, phase.Timeout},
		"refuses with -320": {reply(200, "application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}`), phase.NotMCP},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t)
			p.answer(tc.h)
			s, _ := open(t, p.URL, func(c *mcptool.Config) {
				c.ConnectTimeout = 20 * time.Second
				if tc.want == phase.Timeout {
					c.ConnectTimeout = 100 * time.Millisecond
				}
				c.Query = map[string]func() secret.Value{"key": func() secret.Value { return secret.NewValue("planted-secret") }}
			})
			err := s.Probe(t.Context())
			var fault *mcptool.Error
			if !errors.As(err, &fault) || fault.Code != tc.want {
				t.Fatalf("err = %v (%T), want %s", err, err, tc.want)
			}
			if strings.Contains(err.Error(), "planted-secret") || strings.Contains(s.Health().Err, "planted-secret") {
				t.Errorf("the secret is in the error: %v", err)
			}
			if h := s.Health(); h.Healthy || !h.Tried || h.Code != tc.want {
				t.Errorf("health = %+v", h)
			}
		})
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"x":"`)
	block := strings.Repeat("x", 1<<16)
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, block); err != nil {
			return
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	url := p.URL
	p.Close()
	s, _ := open(t, url, func(c *mcptool.Config) {
		c.Query = map[string]func() secret.Value{"key": func() secret.Value { return secret.NewValue("planted-secret") }}
	})
	err := s.Probe(t.Context())
	var fault *mcptool.Error
	if !errors.As(err, &fault) || fault.Code != phase.Unreachable || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "planted") {
		t.Fatalf("err = %v", err)
	}
}
