// Package egress is the one way out: the guarded dialer, transport and HTTP client for every address that comes from configuration
// or from a peer (model endpoints, MCP servers, issuers of sign-in). The address is judged after the name was resolved, in the dialer,
// at every single connection, so that no spelling, redirect or rebinding name reaches what the policy denies. The apps make a Guard
// each from a list that is local to the process; adapters and probes use it. It never uses a proxy, never skips the check of a
// certificate and is never configured by a spec.
package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// The defaults of a Guard's client.
const (
	DefaultMaxBody     = 1 << 20 // bytes, after decompression
	DefaultTimeout     = 30 * time.Second
	DefaultIdleTimeout = 10 * time.Second
	// MaxRedirects is how many redirects HTTPClient follows.
	MaxRedirects = 3

	maxHeader      = 64 << 10 // bytes
	lookupTimeout  = time.Second
	dialTimeout    = 5 * time.Second
	keepAlive      = 30 * time.Second
	tlsTimeout     = 10 * time.Second
	idleConnection = 90 * time.Second
)

// Config is what a Guard is made of; the zero Config denies every address that isn't public.
type Config struct {
	// Policy says what is allowed beyond public addresses; nil: nothing.
	Policy *Policy
	// Resolver looks names up; nil: the system's.
	Resolver *net.Resolver
	// RootCAs are whose certificates servers may show; nil: the system's.
	RootCAs *x509.CertPool
	// MaxBody caps an answer of HTTPClient in bytes, after decompression; default DefaultMaxBody, negative: no cap.
	MaxBody int64
	// Timeout bounds an exchange of HTTPClient, its redirects and the reading of its body included; default DefaultTimeout, negative: none.
	Timeout time.Duration
	// IdleTimeout bounds the wait for the header of an answer of HTTPClient and between two reads of its body; default
	// DefaultIdleTimeout, negative: none.
	IdleTimeout time.Duration
}

// Guard makes connections that its policy allows. It is immutable and may be used from many goroutines.
type Guard struct {
	cfg    Config
	dialer net.Dialer
}

// New makes a Guard; it makes no connection.
func New(cfg Config) *Guard {
	cfg.MaxBody = orDefault(cfg.MaxBody, DefaultMaxBody)
	cfg.Timeout = orDefault(cfg.Timeout, DefaultTimeout)
	cfg.IdleTimeout = orDefault(cfg.IdleTimeout, DefaultIdleTimeout)
	return &Guard{cfg: cfg, dialer: net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive, Resolver: cfg.Resolver}}
}

func orDefault[T int64 | time.Duration](v, def T) T {
	switch {
	case v == 0:
		return def
	case v < 0:
		return 0
	default:
		return v
	}
}

// Policy gives what the Guard was made with; nil: nothing but public addresses.
func (g *Guard) Policy() *Policy { return g.cfg.Policy }

// DialContext connects to a host:port over TCP if the policy allows the very address that is dialled; a *DeniedError otherwise.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, &net.AddrError{Err: "the port is no number", Addr: address}
	}
	if a, ok := literal(host); ok { // the same answer with every resolver, and without asking one
		if err := g.cfg.Policy.Check(host, uint16(port), a); err != nil { // #nosec G115 -- parsed with 16 bits
			return nil, err
		}
	}
	d := g.dialer
	d.ControlContext = func(_ context.Context, network, actual string, _ syscall.RawConn) error {
		return g.cfg.Policy.control(network, host, uint16(port), actual) // #nosec G115 -- parsed with 16 bits
	}
	return d.DialContext(ctx, network, address)
}

// CheckURL judges an address that is configured, without connecting: what it says by itself, and else what its name resolves to now,
// where every answer is denied. A name that isn't found within a second is no fault: the dialer judges again. The error is a
// *DeniedError, or of kind Invalid for what is no http or https URL.
func (g *Guard) CheckURL(ctx context.Context, raw string) error {
	t, err := target(raw)
	if err != nil {
		return err
	}
	addrs := []netip.Addr{t.literal}
	if !t.literal.IsValid() {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		addrs, _ = g.resolver().LookupNetIP(ctx, "ip", t.host) // none: nothing can be said yet
	}
	for _, a := range addrs {
		if err = g.cfg.Policy.Check(t.host, t.port, a); err == nil {
			return nil
		}
	}
	return err
}

func (g *Guard) resolver() *net.Resolver {
	if g.cfg.Resolver != nil {
		return g.cfg.Resolver
	}
	return net.DefaultResolver
}

// Transport gives a new guarded transport: no proxy, TLS 1.2 at least, headers of an answer at most 64 KiB, no compression asked for
// (so what comes is as large as it says). The caller may tune its pool and deadlines, and leaves DialContext, Proxy and TLSClientConfig.
func (g *Guard) Transport() *http.Transport {
	return &http.Transport{
		DialContext:            g.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: g.cfg.RootCAs},
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        idleConnection,
		TLSHandshakeTimeout:    tlsTimeout,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
	}
}

// HTTPClient gives a new client that follows at most MaxRedirects redirects and caps size, time and idleness of every exchange. Its
// connections are its own: make one and keep it, and call CloseIdleConnections when it is no longer needed.
func (g *Guard) HTTPClient() *http.Client {
	t := g.Transport()
	t.DisableCompression = false // the cap counts what comes out
	t.ResponseHeaderTimeout = g.cfg.IdleTimeout
	return &http.Client{
		Transport:     &limited{next: t, maxBody: g.cfg.MaxBody, idle: g.cfg.IdleTimeout},
		CheckRedirect: checkRedirect,
		Timeout:       g.cfg.Timeout,
	}
}
