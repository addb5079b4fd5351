package command

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
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
	closed := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	cases := map[string]struct {
		door http.HandlerFunc
		want int
	}{
		"cut off":        {cutOff, exitUnreachable},
		"closed":         {closed, exitUnreachable},
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

// A watch whose control plane died was told as a protocol error, with exit code 2 and no way out.
func TestAWatchThatIsCutOff(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/connect+proto")
		w.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	}))
	defer srv.Close()
	for _, args := range [][]string{{"status", "helper", "-w"}, {"get", "agents", "-w", "-o", "json"}, {"events", "-f"}, {"audit", "-f"}} {
		_, told, code := ctl(t, args, &replica{url: srv.URL})
		if code != exitUnreachable || !strings.Contains(told, srv.URL+" cut the connection off\nhint: ") || strings.Contains(told, "protocol") {
			t.Errorf("%v: exit %d, %q", args, code, told)
		}
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
