package front_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/agentry/agentry/agentd/run"
)

func TestOrigins(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		origins []string
		origin  string
		status  int
		allow   string
	}{
		"a program":           {nil, "", 200, ""},
		"not allowed":         {nil, "https://evil.example.com", 403, ""},
		"another allowed":     {[]string{"https://app.example.com"}, "https://evil.example.com", 403, ""},
		"allowed":             {[]string{"https://a.example.com", "https://app.example.com"}, "https://app.example.com", 200, "https://app.example.com"},
		"with a slash":        {[]string{"https://app.example.com/"}, "https://app.example.com", 200, "https://app.example.com"},
		"a longer name":       {[]string{"https://app.example.com"}, "https://app.example.com.evil.com", 403, ""},
		"another scheme":      {[]string{"https://app.example.com"}, "http://app.example.com", 403, ""},
		"everybody":           {[]string{"*"}, "https://evil.example.com", 200, "*"},
		"one and everybody":   {[]string{"*", "https://app.example.com"}, "https://app.example.com", 200, "https://app.example.com"},
		"the same":            {nil, "http://localhost:8800", 200, ""},
		"another port":        {nil, "http://localhost:3000", 403, ""},
		"a file":              {nil, "null", 403, ""},
		"a program with list": {[]string{"https://app.example.com"}, "", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, run.Inbound{Origins: c.origins, Keys: []run.InboundKey{key("ci", "k", false)}})
			header := []string{"X-Api-Key", "k"}
			if c.origin != "" {
				header = append(header, "Origin", c.origin)
			}
			w := d.call(t, http.MethodPost, "127.0.0.1:1", "localhost:8800", "", header...)
			h := w.Header()
			if w.Code != c.status || h.Get("Access-Control-Allow-Origin") != c.allow {
				t.Errorf("%d %s %v", w.Code, w.Body, h)
			}
			if credentials := h.Get("Access-Control-Allow-Credentials") != ""; credentials != (c.allow != "" && c.allow != "*") {
				t.Errorf("with credentials: %v", credentials)
			}
			if exposes := strings.Contains(h.Get("Access-Control-Expose-Headers"), "X-Agentry-Config"); exposes != (c.allow != "") {
				t.Errorf("headers %v", h)
			}
			if (len(c.origins) > 0) != (h.Get("Vary") == "Origin") {
				t.Errorf("headers %v", h)
			}
			// The browser asks first, and shows no key.
			if c.origin == "" {
				return
			}
			w = d.call(t, http.MethodOptions, "127.0.0.1:1", "localhost:8800", "", "Origin", c.origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type,x-stainless-os")
			want := http.StatusNoContent
			if c.status != http.StatusOK {
				want = c.status
			}
			if w.Code != want {
				t.Errorf("preflight: %d %s", w.Code, w.Body)
			}
			if h := w.Header(); want == http.StatusNoContent && (h.Get("Access-Control-Allow-Origin") != c.allow || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "authorization") || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "DELETE")) {
				t.Errorf("preflight: %v", h)
			}
		})
	}
}

// A refusal can be read by the page, or nobody could tell what is wrong.
func TestOriginsAndRefusals(t *testing.T) {
	t.Parallel()
	d := newDoor(t, run.Inbound{Origins: []string{"https://app.example.com"}, Keys: []run.InboundKey{key("ci", "k", false)}})
	w := d.call(t, http.MethodPost, "127.0.0.1:1", "localhost:8800", "", "Origin", "https://app.example.com")
	if w.Code != http.StatusUnauthorized || w.Header().Get("Access-Control-Allow-Origin") != "https://app.example.com" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	// OPTIONS that is no browser's question needs a key like everything else.
	if w := d.call(t, http.MethodOptions, "127.0.0.1:1", "localhost:8800", ""); w.Code != http.StatusUnauthorized {
		t.Errorf("%d", w.Code)
	}
}
