package openaidoor_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/door/openaidoor"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/run"
)

// impatient is a door that waits for a body a moment only.
func impatient(t *testing.T, answer func(context.Context, model.Request, func(model.Chunk, error) bool)) *httptest.Server {
	t.Helper()
	m := &fakeModel{answer: answer}
	r, err := run.New(run.Config{Source: &source{rt: &run.Runtime{Agent: "helper", Revision: 8, Config: "8-3f2a91c4", Model: m, MaxIterations: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := openaidoor.New(openaidoor.Config{Runner: r, MaxBody: 64 << 10, BodyTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// A caller who sends the body drop by drop is told so and cut off, on every path; one whose answer takes long is not.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	s := impatient(t, func(ctx context.Context, r model.Request, yield func(model.Chunk, error) bool) {
		select {
		case <-time.After(250 * time.Millisecond): // several times what a body may take
			say("late")(ctx, r, yield)
		case <-ctx.Done():
			yield(model.Chunk{}, ctx.Err())
		}
	})
	for path, want := range map[string]string{"/v1/chat/completions": "408 Request Timeout", "/v1/nowhere": "404 Not Found"} {
		var d net.Dialer
		conn, err := d.DialContext(t.Context(), "tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"mess", path)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		_ = resp.Body.Close()
		if resp.Status != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Errorf("%s: the connection stays: %v", path, err)
		}
		_ = conn.Close()
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/v1/chat/completions", strings.NewReader(`{"messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(b), "late") {
		t.Errorf("a long answer: %d %s %v", resp.StatusCode, b, err)
	}
}

// What is compressed is not unpacked: a bomb stays a few bytes.
func TestCompressedBodies(t *testing.T) {
	t.Parallel()
	d := open(t)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write([]byte(`{"messages":[{"role":"user","content":"` + strings.Repeat("x", 8<<20) + `"}]}`))
	_ = z.Close()
	for coding, want := range map[string]int{"gzip": http.StatusUnsupportedMediaType, "br": http.StatusUnsupportedMediaType, "deflate, gzip": http.StatusUnsupportedMediaType, "identity": http.StatusBadRequest, "": http.StatusBadRequest} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.URL+"/v1/chat/completions", bytes.NewReader(bomb.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if coding != "" {
			req.Header.Set("Content-Encoding", coding)
		}
		resp, err := d.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%q: %d %s", coding, resp.StatusCode, b)
		}
	}
}
