package egress_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/agentry/agentry/internal/egress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func policy(t *testing.T, items ...string) *egress.Policy {
	t.Helper()
	p, err := egress.ParsePolicy(items...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// forbidden is a server on every local address that counts who connects.
type forbidden struct {
	hits atomic.Int64
	port string
}

type countingListener struct {
	net.Listener
	hits *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.hits.Add(1)
	}
	return c, err
}

func listenForbidden(t *testing.T) *forbidden {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forbidden{}
	at, err := netip.ParseAddrPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f.port = strconv.Itoa(int(at.Port()))
	s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(countingListener{ln, &f.hits}) })
	t.Cleanup(func() {
		_ = s.Close()
		wg.Wait()
	})
	return f
}

// stubDNS answers A queries for every name from a list, one answer after the other, the last for ever; other questions have none.
type stubDNS struct {
	resolver *net.Resolver
	asked    atomic.Int64
}

func startDNS(t *testing.T, answers ...netip.Addr) *stubDNS {
	t.Helper()
	var lc net.ListenConfig
	pc, err := lc.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &stubDNS{}
	s.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if out := s.answer(bytes.Clone(buf[:n]), answers); out != nil {
				_, _ = pc.WriteTo(out, from)
			}
		}
	})
	t.Cleanup(func() {
		_ = pc.Close()
		wg.Wait()
	})
	return s
}

func (s *stubDNS) answer(query []byte, answers []netip.Addr) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true}
	m.Additionals = nil
	if q.Type == dnsmessage.TypeA && len(answers) > 0 {
		n := int(s.asked.Add(1))
		a := answers[min(n, len(answers))-1]
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type},
			Body:   &dnsmessage.AResource{A: a.As4()},
		}}
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}

// get asks for a URL and closes the answer.
func get(ctx context.Context, c *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
