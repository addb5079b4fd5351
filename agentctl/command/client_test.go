package command

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/gen/agentry/release/v1/releasev1connect"
	"github.com/agentry/agentry/internal/secret"
)

// A control plane that died in mid call, and another server's address, gave "any other failure" and no way out.
func TestExplain(t *testing.T) {
	t.Parallel()
	cutOff := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
	cases := map[string]struct {
		door http.HandlerFunc
		want int
	}{
		"cut off":        {cutOff, exitUnreachable},
		"another server": {http.NotFound, exitUnreachable},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(tc.door)
			defer srv.Close()
			way := &caller{servers: &servers{urls: []string{srv.URL}}}
			c := releasev1connect.NewStatusServiceClient(srv.Client(), srv.URL, connect.WithInterceptors(way))
			_, err := c.ListStatus(t.Context(), connect.NewRequest(&releasev1.ListStatusRequest{}))
			var f *failure
			if got := exitCode(err); got != tc.want || !errors.As(err, &f) || f.hint == "" {
				t.Errorf("exit %d, want %d, with a hint: %v", got, tc.want, err)
			}
		})
	}
}

// The token file of this machine's data directory is for a control plane without TLS on this machine: no other is sent it unasked.
func TestTheDevTokenIsForPlainLoopbackOnly(t *testing.T) {
	t.Parallel()
	c := &cli{env: Env{Getenv: func(string) string { return "" }}}
	for server, want := range map[string]bool{
		"http://127.0.0.1:7700": true, "localhost:7700": true, "http://[::1]:7700": true,
		"https://127.0.0.1:7700": false, "https://localhost:7700": false, "https://agentry.example.org": false, "http://agentry.example.org": false,
	} {
		var got bool
		_, err := c.connectTo(contextEntry{Server: server}, func(_ contextEntry, _ string, local bool) (secret.Value, error) {
			got = local
			return secret.Value{}, nil
		})
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", server, got, err)
		}
	}
}
