package admindoor_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/door/admindoor"
)

func TestDoor(t *testing.T) {
	type want struct {
		Status  int
		Body    string
		Drained int
	}
	cases := map[string]struct {
		method, path, peer, host string
		reason                   string
		want                     want
	}{
		"healthy":                     {path: "/healthz", want: want{Status: 200, Body: "ok\n"}},
		"ready":                       {path: "/readyz", want: want{Status: 200, Body: "ready\n"}},
		"not ready says why":          {path: "/readyz", reason: "agent helper is unknown", want: want{Status: 503, Body: "agent helper is unknown\n"}},
		"not ready, from elsewhere":   {path: "/readyz", peer: "10.0.0.7:9", reason: "agent helper is unknown", want: want{Status: 503, Body: "not ready\n"}},
		"ready, from elsewhere":       {path: "/readyz", peer: "10.0.0.7:9", want: want{Status: 200, Body: "ready\n"}},
		"metrics":                     {path: "/metrics", want: want{Status: 200, Body: "metrics"}},
		"config":                      {path: "/admin/config", want: want{Status: 200, Body: "{\n  \"config\": \"8-3f2a91c4\"\n}\n"}},
		"config by IPv6":              {path: "/admin/config", peer: "[::1]:9", host: "[::1]:8800", want: want{Status: 200, Body: "{\n  \"config\": \"8-3f2a91c4\"\n}\n"}},
		"config from elsewhere":       {path: "/admin/config", peer: "10.0.0.7:9", want: want{Status: 403, Body: "only from this machine\n"}},
		"config under a foreign name": {path: "/admin/config", host: "evil.example", want: want{Status: 403, Body: "only from this machine\n"}},
		"drain":                       {method: "POST", path: "/admin/drain", want: want{Status: 202, Body: "draining\n", Drained: 1}},
		"drain from elsewhere":        {method: "POST", path: "/admin/drain", peer: "10.0.0.7:9", want: want{Status: 403, Body: "only from this machine\n"}},
		"drain by GET":                {path: "/admin/drain", want: want{Status: 405, Body: "Method Not Allowed\n"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got want
			d, err := admindoor.New(admindoor.Config{
				Ready:   func() (string, bool) { return c.reason, c.reason == "" },
				Dump:    func() any { return map[string]string{"config": "8-3f2a91c4"} },
				Drain:   func() { got.Drained++ },
				Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") }),
				Log:     slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			method := c.method
			if method == "" {
				method = "GET"
			}
			r := httptest.NewRequest(method, c.path, strings.NewReader(""))
			r.RemoteAddr, r.Host = "127.0.0.1:9", "127.0.0.1:8800"
			if c.peer != "" {
				r.RemoteAddr = c.peer
			}
			if c.host != "" {
				r.Host = c.host
			}
			w := httptest.NewRecorder()
			d.ServeHTTP(w, r)
			got.Status, got.Body = w.Code, w.Body.String()
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := admindoor.New(admindoor.Config{}); err == nil {
		t.Error("an empty config was accepted")
	}
}
