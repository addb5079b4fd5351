package egress_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/internal/egress"
)

// spellings are hosts that lead to this machine, its network or a metadata service, for one resolver or another.
func spellings() []string {
	return []string{
		"127.0.0.1", "localhost", "localhost.", "LOCALHOST", "a.localhost", "127.0.0.1.", "127.1", "127.0.1", "0", "0.0.0.0", "0x0",
		"2130706433", "0x7f000001", "0X7F.0.0.1", "017700000001", "0177.0.0.1", "127.255.255.254",
		"127。0。0。1", "①②⑦.⓪.⓪.①", "１２７.0.0.1", "ｌｏｃａｌｈｏｓｔ",
		"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:1]", "[::127.0.0.1]", "[::1%25lo]", "[::ffff:0:0]",
		"[64:ff9b::7f00:1]", "[64:ff9b::169.254.169.254]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::1]", "[2001:0:7f00:1::1]", "[fe80::1%25lo]",
		"169.254.169.254", "[::ffff:a9fe:a9fe]", "0xa9fea9fe", "2852039166", "100.100.100.200", "168.63.129.16", "[fd00:ec2::254]",
		"10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "192.0.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1",
		"[fc00::1]", "[fd12::1]", "[fec0::1]", "[ff02::1]", "[100::1]", "[2001:db8::1]", "[5f00::1]",
	}
}

// own lists the addresses of this machine, as hosts of a URL.
func own(t *testing.T) []string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || egress.Classify(p.Addr()) == egress.Public {
			continue
		}
		if p.Addr().Is6() {
			out = append(out, "["+p.Addr().String()+"]")
		} else {
			out = append(out, p.Addr().String())
		}
	}
	return out
}

const resolverMark = "EGRESS_TEST_RESOLVER"

// Acceptance: no spelling of an internal address, asked for or redirected to, reaches the forbidden listener, with both of Go's
// resolvers. The test runs itself again under each; what is built without cgo has one.
func TestSpellingsWithBothResolvers(t *testing.T) {
	t.Parallel()
	for _, resolver := range resolvers {
		t.Run(resolver, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestUnderResolver$", "-test.v")
			cmd.Env = append(os.Environ(), resolverMark+"="+resolver, "GODEBUG=netdns="+resolver, "RES_OPTIONS=timeout:1 attempts:1")
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "--- PASS: TestUnderResolver/asked_for") {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}

// lookups gives the resolver under test: Go's own over a name server that knows no name, or the C library's, which can't be given one.
func lookups(t *testing.T, resolver string) *net.Resolver {
	t.Helper()
	if resolver == "cgo" {
		return net.DefaultResolver
	}
	return startDNS(t).resolver
}

// TestUnderResolver is the child's part; by itself it does nothing.
func TestUnderResolver(t *testing.T) {
	resolver := os.Getenv(resolverMark)
	if resolver == "" {
		return
	}
	// Only the C library takes 127.1 for an address: this says which resolver is really at work.
	look := lookups(t, resolver)
	_, err := look.LookupNetIP(t.Context(), "ip4", "127.1")
	if cgo := err == nil; cgo != (resolver == "cgo") {
		t.Fatalf("resolver %s was asked for; 127.1: %v", resolver, err)
	}
	f := listenForbidden(t)
	hosts := append(spellings(), own(t)...)
	t.Run("naive", func(t *testing.T) { // the listener can be reached by many of them
		naive := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second}
		reached := []string{}
		for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0", "127。0。0。1", "①②⑦.⓪.⓪.①", "[::ffff:127.0.0.1]", "127.1", "0x7f000001", "2130706433"} {
			if err := get(t.Context(), naive, "http://"+host+":"+f.port+"/"); err == nil {
				reached = append(reached, host)
			}
		}
		if want := map[string]int{"go": 5, "cgo": 8}[resolver]; len(reached) < want {
			t.Errorf("only %q of them reach the listener", reached)
		}
		f.hits.Store(0)
	})
	t.Run("asked_for", func(t *testing.T) {
		c := egress.New(egress.Config{Resolver: look}).HTTPClient()
		defer c.CloseIdleConnections()
		for _, host := range hosts {
			for _, scheme := range []string{"http", "https"} {
				refused(t, get(t.Context(), c, scheme+"://"+host+":"+f.port+"/"), host)
			}
		}
		if n := f.hits.Load(); n != 0 {
			t.Errorf("%d hits", n)
		}
		t.Logf("%d spellings, 0 hits", len(hosts))
	})
	t.Run("redirected_to", func(t *testing.T) { redirects(t, look, f, hosts) })
}

// refused wants an error: a denial, or that there is no such host or URL.
func refused(t *testing.T, err error, host string) {
	t.Helper()
	var denied *egress.DeniedError
	var dns *net.DNSError
	var address *net.AddrError
	var bad *url.Error
	switch {
	case err == nil:
		t.Errorf("%s: reached", host)
	case errors.As(err, &denied):
		leads := denied.Class != egress.LinkLocal && denied.Class != egress.Metadata
		if text := denied.Error(); leads != strings.Contains(text, "--egress-allow ") || !errors.Is(err, egress.ErrDenied) {
			t.Errorf("%s: %s", host, text)
		}
	case errors.As(err, &dns), errors.As(err, &address), errors.As(err, &bad) && bad.Op == "parse":
	default:
		t.Errorf("%s: %v", host, err)
	}
}

// redirects goes through a server that is allowed, by every kind of redirect, at once and at the end of a chain.
func redirects(t *testing.T, look *net.Resolver, f *forbidden, hosts []string) {
	t.Helper()
	var front *httptest.Server
	front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		code := http.StatusFound
		_, _ = fmt.Sscan(q.Get("code"), &code)
		to := q.Get("to")
		if hops := q.Get("hops"); hops != "" { // once more to itself
			to = front.URL + "/?" + url.Values{"code": {q.Get("code")}, "to": {to}, "hops": {hops[1:]}}.Encode()
		}
		w.Header().Set("Location", to)
		w.WriteHeader(code)
	}))
	defer front.Close()
	c := egress.New(egress.Config{Resolver: look, Policy: policy(t, strings.TrimPrefix(front.URL, "http://"))}).HTTPClient()
	defer c.CloseIdleConnections()
	for _, host := range hosts {
		for _, code := range []string{"301", "302", "303", "307", "308"} {
			for _, hops := range []string{"", "xx"} {
				q := url.Values{"code": {code}, "to": {"http://" + host + ":" + f.port + "/"}, "hops": {hops}}
				refused(t, get(t.Context(), c, front.URL+"/?"+q.Encode()), host+" after "+code)
			}
		}
	}
	if n := f.hits.Load(); n != 0 {
		t.Errorf("%d hits", n)
	}
	q := url.Values{"code": {"307"}, "to": {front.URL}, "hops": {"xxx"}}
	if err := get(t.Context(), c, front.URL+"/?"+q.Encode()); !errors.Is(err, egress.ErrRedirects) {
		t.Errorf("a fourth redirect: %v", err)
	}
}

// A name that is public when it is looked at and internal when it is dialled: the look before doesn't count.
func TestRebinding(t *testing.T) {
	t.Parallel()
	f := listenForbidden(t)
	public, internal := netip.MustParseAddr("93.184.215.14"), netip.MustParseAddr("127.0.0.1")
	dns := startDNS(t, public, internal)
	target := "http://rebind.example.com:" + f.port + "/"
	// Whoever checks first and dials after is caught.
	naive := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Resolver: dns.resolver}).DialContext, DisableKeepAlives: true}}
	if found, err := dns.resolver.LookupNetIP(t.Context(), "ip4", "rebind.example.com"); err != nil || egress.Classify(found[0].Unmap()) != egress.Public {
		t.Fatal(found, err)
	}
	if err := get(t.Context(), naive, target); err != nil || f.hits.Load() == 0 {
		t.Fatalf("the trap doesn't work: %v", err)
	}
	f.hits.Store(0)
	dns.asked.Store(0)
	g := egress.New(egress.Config{Resolver: dns.resolver})
	c := g.HTTPClient()
	defer c.CloseIdleConnections()
	if err := g.CheckURL(t.Context(), target); err != nil {
		t.Fatalf("the first look: %v", err)
	}
	for range 5 {
		var denied *egress.DeniedError
		if err := get(t.Context(), c, target); !errors.As(err, &denied) || denied.Class != egress.Loopback {
			t.Errorf("%v", err)
		}
	}
	if n := f.hits.Load(); n != 0 {
		t.Errorf("%d hits", n)
	}
	if dns.asked.Load() < 6 {
		t.Errorf("only %d questions", dns.asked.Load())
	}
	if err := g.CheckURL(t.Context(), target); !errors.Is(err, egress.ErrDenied) {
		t.Errorf("the second look: %v", err)
	}
}

// A name that carries its address (as nip.io's do) is judged by what it resolves to; a listed host opens its own connections only.
func TestNamesAreJudgedByTheirAddress(t *testing.T) {
	t.Parallel()
	f := listenForbidden(t)
	dns := startDNS(t, netip.MustParseAddr("127.0.0.1"))
	g := egress.New(egress.Config{Resolver: dns.resolver, Policy: policy(t, "models.corp.example", "other.example:1")})
	c := g.HTTPClient()
	defer c.CloseIdleConnections()
	for _, host := range []string{"127.0.0.1.nip.example", "models.corp.example.evil.example", "other.example", "127.0.0.1", "localhost"} {
		refused(t, get(t.Context(), c, "http://"+host+":"+f.port+"/"), host)
	}
	if n := f.hits.Load(); n != 0 {
		t.Fatalf("%d hits", n)
	}
	for _, host := range []string{"models.corp.example", "Models.Corp.Example."} {
		if err := get(t.Context(), c, "http://"+host+":"+f.port+"/"); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}
