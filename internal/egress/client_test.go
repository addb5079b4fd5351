package egress_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/egress"
)

func here(t *testing.T, cfg egress.Config) *http.Client {
	t.Helper()
	cfg.Policy = policy(t, "loopback")
	c := egress.New(cfg).HTTPClient()
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// recorder remembers what an upstream was sent.
type recorder struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
}

func record(t *testing.T, answer http.HandlerFunc) *recorder {
	t.Helper()
	r := &recorder{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		body, _ := io.ReadAll(in.Body)
		var b strings.Builder
		_, _ = fmt.Fprintf(&b, "%s %s\n", in.Method, in.URL)
		_ = in.Header.Write(&b)
		b.Write(body)
		r.mu.Lock()
		r.seen = append(r.seen, b.String())
		r.mu.Unlock()
		if answer != nil {
			answer(w, in)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) all() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.seen, "\n")
}

// A redirect to another origin (another port is one) carries no credential, whatever its header is called; one within the origin does.
func TestCredentialsStayWithTheirOrigin(t *testing.T) {
	t.Parallel()
	other := record(t, nil)
	first := record(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/start":
			http.Redirect(w, r, "/again?q=query-canary", http.StatusTemporaryRedirect)
		case "/again":
			http.Redirect(w, r, other.URL+"/there", http.StatusTemporaryRedirect)
		}
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, first.URL+"/start", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Authorization", "X-Api-Key", "Cookie", "Proxy-Authorization", "X-Anything"} {
		req.Header.Set(name, "header-canary")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := here(t, egress.Config{}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if n := strings.Count(first.all(), "X-Api-Key: header-canary"); n != 2 {
		t.Errorf("%d requests with the key within the origin", n)
	}
	if got := other.all(); strings.Contains(got, "canary") || !strings.Contains(got, "Accept: application/json") {
		t.Errorf("the other origin was sent:\n%s", got)
	}
	for _, code := range []int{http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		front := record(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL+"/body", code) })
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, front.URL, strings.NewReader("client_secret=body-canary"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := here(t, egress.Config{}).Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if !errors.Is(err, egress.ErrBodyElsewhere) || strings.Contains(other.all(), "canary") {
			t.Errorf("%d: %v\n%s", code, err, other.all())
		}
	}
}

func roots(s *httptest.Server) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return pool
}

func TestTLS(t *testing.T) {
	t.Parallel()
	plain := record(t, nil)
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			http.Redirect(w, r, plain.URL, http.StatusFound)
		}
	}))
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	defer secure.Close()
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.Config.ErrorLog = quiet
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.StartTLS()
	defer old.Close()
	c := here(t, egress.Config{RootCAs: roots(secure)})
	if err := get(t.Context(), c, secure.URL); err != nil {
		t.Error(err)
	}
	if err := get(t.Context(), c, secure.URL+"/down"); !errors.Is(err, egress.ErrDowngrade) || plain.all() != "" {
		t.Errorf("from https to http: %v", err)
	}
	var unknown *tls.CertificateVerificationError
	if err := get(t.Context(), here(t, egress.Config{}), secure.URL); !errors.As(err, &unknown) {
		t.Errorf("a certificate that nobody knows: %v", err)
	}
	if err := get(t.Context(), here(t, egress.Config{RootCAs: roots(old)}), old.URL); err == nil {
		t.Error("TLS 1.1 was spoken")
	}
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	zeros := make([]byte, 64<<10)
	var bomb bytes.Buffer // 16 MiB in 16 KiB
	z := gzip.NewWriter(&bomb)
	for range 256 {
		_, _ = z.Write(zeros)
	}
	_ = z.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/exact":
			_, _ = w.Write(zeros[:1000])
		case "/declared":
			_, _ = w.Write(zeros[:1001])
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(zeros); err != nil {
					return
				}
			}
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		case "/header":
			for i := range 100 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 1000))
			}
		case "/silent", "/stalls":
			if r.URL.Path == "/stalls" {
				_, _ = w.Write(zeros[:10])
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		}
	}))
	defer s.Close()
	read := func(cfg egress.Config, path string) (int64, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := here(t, cfg).Do(req)
		if err != nil {
			return 0, err
		}
		defer func() { _ = resp.Body.Close() }()
		return io.Copy(io.Discard, resp.Body)
	}
	small, quick := egress.Config{MaxBody: 1000}, egress.Config{MaxBody: 1000, IdleTimeout: 500 * time.Millisecond}
	cases := map[string]struct {
		cfg  egress.Config
		want error
		n    int64
	}{
		"/exact":    {cfg: small, n: 1000},
		"/declared": {cfg: small, want: egress.ErrTooLarge},
		"/endless":  {cfg: small, want: egress.ErrTooLarge, n: 1000},
		"/bomb":     {cfg: small, want: egress.ErrTooLarge, n: 1000},
		"/stalls":   {cfg: quick, want: egress.ErrIdle, n: 10},
	}
	for path, c := range cases {
		n, err := read(c.cfg, path)
		if !errors.Is(err, c.want) || n != c.n {
			t.Errorf("%s: %d bytes, %v", path, n, err)
		}
	}
	for _, path := range []string{"/header", "/silent"} {
		if _, err := read(quick, path); err == nil {
			t.Errorf("%s: answered", path)
		}
	}
	var late net.Error
	if _, err := read(egress.Config{Timeout: 50 * time.Millisecond}, "/stalls"); !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("the whole exchange: %v", err)
	}
}

// Connections are kept; nothing but http and https is spoken; no proxy is asked.
func TestTransport(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	peers := map[string]bool{}
	s := record(t, func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		peers[r.RemoteAddr] = true
		mu.Unlock()
	})
	c := here(t, egress.Config{})
	for range 10 {
		if err := get(t.Context(), c, s.URL); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(1, len(peers)); diff != "" {
		t.Error(diff)
	}
	g := egress.New(egress.Config{})
	if tr := g.Transport(); tr.Proxy != nil || tr.TLSClientConfig.InsecureSkipVerify || tr.TLSClientConfig.MinVersion != tls.VersionTLS12 {
		t.Errorf("%+v", tr)
	}
	for _, url := range []string{"ftp://example.com/", "file:///etc/passwd", "gopher://127.0.0.1/"} {
		if err := get(t.Context(), c, url); !errors.Is(err, egress.ErrScheme) {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, network := range []string{"udp", "unix"} {
		if conn, err := g.DialContext(t.Context(), network, "127.0.0.1:1"); err == nil {
			_ = conn.Close()
			t.Errorf("%s was dialled", network)
		}
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	g := egress.New(egress.Config{Policy: policy(t, "10.0.0.0/8"), Resolver: startDNS(t).resolver})
	for url, want := range map[string]string{
		"http://10.1.1.1/v1": "", "https://api.example.com/v1": "", "http://127.0.0.1:8080/v1": "denied", "http://2130706433/": "denied",
		"http://localhost./v1?key=canary": "denied", "ftp://x/": "want an http or https URL", "http://x:99999/": "port", "//x": "want an http",
	} {
		err := g.CheckURL(t.Context(), url)
		if text := fmt.Sprint(err); (err == nil) != (want == "") || !strings.Contains(text, want) || strings.Contains(text, "canary") {
			t.Errorf("%s: %v", url, err)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.CheckURL(gone, "https://api.example.com"); err != nil {
		t.Error(err)
	}
}
