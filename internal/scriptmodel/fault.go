package scriptmodel

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"
)

var errLeft = errors.New("the client left")

// huge replaces the answer by one tool call with arguments of n bytes.
func (a *answer) huge(q *chatRequest, n int) {
	const head, tail = `{"x":"`, `"}`
	call := wireCall{ID: "call_huge", Type: "function"}
	call.Function.Name = "huge"
	if len(q.Tools) > 0 {
		call.Function.Name = q.Tools[0].Function.Name
	}
	call.Function.Arguments = head + strings.Repeat("x", max(0, n-len(head)-len(tail))) + tail
	a.text, a.calls, a.finish = "", []wireCall{call}, "tool_calls"
	if a.pace.Chunk == 0 {
		a.pace.Chunk = 4096
	}
}

// write sends b at once, or byte by byte with a pause after each.
func (s *Server) write(ctx context.Context, w http.ResponseWriter, b []byte, drip time.Duration) error {
	out := http.NewResponseController(w)
	if drip <= 0 {
		if _, err := w.Write(b); err != nil {
			return err
		}
		return out.Flush()
	}
	for i := range b {
		if _, err := w.Write(b[i : i+1]); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
		if !s.wait(ctx, drip) {
			return errLeft
		}
	}
	return nil
}

// reset ends the connection by a TCP reset, and the handler with it.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
	panic(http.ErrAbortHandler)
}
