package command

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// aliveWithin bounds the first question to each of several replicas: one that hangs is passed over.
const aliveWithin = 1500 * time.Millisecond

// servers are the addresses of the replicas of one control plane, and which of them is talked to. Its methods may be called from any
// goroutine.
type servers struct {
	urls []string

	mu     sync.Mutex // guards what follows
	at     int
	picked bool
	down   map[string]bool // that didn't answer at all
}

// newServers reads addresses by comma.
func newServers(text string) (*servers, error) {
	s := &servers{down: map[string]bool{}}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		server := serverURL(part)
		u, err := url.Parse(server)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, failf(exitUsage, "write it as http://HOST:PORT, several by comma", "server %q is no address", part)
		}
		s.urls = append(s.urls, server)
	}
	if len(s.urls) == 0 {
		return nil, failf(exitUsage, "write it as http://HOST:PORT, several by comma", "server %q is no address", text)
	}
	return s, nil
}

// String gives them as a person writes them.
func (s *servers) String() string { return strings.Join(s.urls, ",") }

// hosts gives each one's scheme and host.
func (s *servers) hosts() []*url.URL {
	var out []*url.URL
	for _, text := range s.urls {
		if u, err := url.Parse(text); err == nil {
			out = append(out, u)
		}
	}
	return out
}

// local reports whether all are on this machine, without TLS.
func (s *servers) local() bool {
	for _, u := range s.hosts() {
		if u.Scheme != "http" || !loopback(u.Hostname()) {
			return false
		}
	}
	return true
}

func (s *servers) several() bool { return len(s.urls) > 1 }

// current is the one that is talked to.
func (s *servers) current() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.urls[s.at]
}

// leave goes on to the next one, unless that was done since.
func (s *servers) leave(from string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.urls[s.at] == from {
		s.at = (s.at + 1) % len(s.urls)
	}
}

// use goes back to one of them.
func (s *servers) use(server string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = max(0, slices.Index(s.urls, server))
}

// isDown reports whether one didn't answer at all at the start.
func (s *servers) isDown(server string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down[server]
}

// pick passes over those that don't answer at all, once.
func (s *servers) pick(ctx context.Context, by http.RoundTripper) {
	s.mu.Lock()
	done := s.picked || !s.several()
	s.picked = true
	s.mu.Unlock()
	if done {
		return
	}
	for range s.urls {
		at := s.current()
		if alive(ctx, by, at) {
			return
		}
		s.mu.Lock()
		s.down[at] = true
		s.mu.Unlock()
		s.leave(at)
	}
}

// alive reports whether anything speaks HTTP there.
func alive(ctx context.Context, by http.RoundTripper, server string) bool {
	ctx, cancel := context.WithTimeout(ctx, aliveWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/healthz", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := by.RoundTrip(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil
}

type serverKey struct{}

// aim has the calls under a ctx go to one of the servers.
func aim(ctx context.Context, server string) context.Context {
	return context.WithValue(ctx, serverKey{}, server)
}

// aimed sends what was made for the first of the servers to the one that is talked to.
type aimed struct {
	to *servers
	by http.RoundTripper
}

var _ http.RoundTripper = (*aimed)(nil)

// RoundTrip implements http.RoundTripper.
func (a *aimed) RoundTrip(req *http.Request) (*http.Response, error) {
	server, ok := req.Context().Value(serverKey{}).(string)
	if !ok {
		server = a.to.current()
	}
	if server != a.to.urls[0] {
		rest, ok := strings.CutPrefix(req.URL.String(), a.to.urls[0])
		if !ok {
			return nil, errors.New("not a call to the control plane: " + req.URL.Redacted())
		}
		u, err := url.Parse(server + rest)
		if err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.URL, req.Host = u, u.Host
	}
	return a.by.RoundTrip(req)
}
