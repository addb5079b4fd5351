package egress

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"github.com/agentry/agentry/internal/errs"
)

// Policy is a list of what is allowed beyond public addresses. It is immutable; a nil Policy allows nothing. It comes from the
// process's own settings, never from a spec.
type Policy struct {
	special []rangeOf
	items   []item
}

// item is one word of the list; exactly one of class, prefix and host is set.
type item struct {
	namespace string // "": every namespace
	class     Class
	prefix    netip.Prefix
	host      string
	port      uint16 // 0: every port
}

// ParsePolicy reads a list. An item is a CIDR, an address, a host, either of them with :port, "loopback" or "private" (RFC 1918 and
// unique local IPv6), each with an optional "namespace=" before it. A host allows what it resolves to for that host only, and never
// link-local or metadata addresses: those have to be named as addresses. Errors are of kind Invalid and name the item.
func ParsePolicy(items ...string) (*Policy, error) {
	p := &Policy{special: special()}
	for _, text := range items {
		it, err := parseItem(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		p.items = append(p.items, it)
	}
	return p, nil
}

// parseItem reads one item.
func parseItem(text string) (item, error) {
	bad := errs.New(errs.Invalid, "%q: want a CIDR, an address, a host or host:port, loopback or private", text)
	var it item
	rest := text
	if ns, after, ok := strings.Cut(text, "="); ok {
		if ns == "" {
			return item{}, bad
		}
		it.namespace, rest = ns, after
	}
	switch rest {
	case "loopback":
		it.class = Loopback
		return it, nil
	case "private":
		it.class = Private
		return it, nil
	}
	if prefix, err := netip.ParsePrefix(rest); err == nil {
		it.prefix = prefix.Masked()
		return it, nil
	}
	host := rest
	if h, port, err := net.SplitHostPort(rest); err == nil {
		host = h
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return item{}, bad
		}
		it.port = uint16(n)
	}
	if a, err := netip.ParseAddr(unbracket(host)); err == nil {
		a = a.WithZone("").Unmap()
		it.prefix = netip.PrefixFrom(a, a.BitLen())
		return it, nil
	}
	it.host = canonicalHost(host)
	if it.host == "" || strings.ContainsAny(it.host, "/:[]@? *") {
		return item{}, bad
	}
	return it, nil
}

func unbracket(host string) string {
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		return host[1 : len(host)-1]
	}
	return host
}

// canonicalHost gives a name as it is compared: ASCII, lower case, no dot at the end.
func canonicalHost(host string) string {
	if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		host = ascii
	}
	return strings.TrimRight(strings.ToLower(host), ".")
}

// For gives the part of the list that counts for a namespace.
func (p *Policy) For(namespace string) *Policy {
	if p == nil {
		return nil
	}
	out := &Policy{special: p.special}
	for _, it := range p.items {
		if it.namespace == "" || it.namespace == namespace {
			it.namespace = ""
			out.items = append(out.items, it)
		}
	}
	return out
}

// WithURL gives a policy that also allows host and port of a URL that the process's own settings name. What is no URL adds nothing.
func (p *Policy) WithURL(raw string) *Policy {
	out := &Policy{special: special()}
	if p != nil {
		out.items = append(out.items, p.items...)
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return out
	}
	if it, err := parseItem(net.JoinHostPort(u.Hostname(), portOf(u))); err == nil {
		out.items = append(out.items, it)
	}
	return out
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

// Check says whether a connection to addr, which host:port resolved to, is allowed; a *DeniedError otherwise.
func (p *Policy) Check(host string, port uint16, addr netip.Addr) error {
	table := p.table()
	addr = addr.WithZone("").Unmap()
	class := classify(table, plain(addr))
	if class == Public {
		return nil
	}
	if p != nil {
		name := canonicalHost(host)
		for _, it := range p.items {
			if it.allows(name, port, addr, class) {
				return nil
			}
		}
	}
	return &DeniedError{Host: host, Port: port, Addr: addr, Class: class}
}

func (p *Policy) table() []rangeOf {
	if p == nil {
		return special()
	}
	return p.special
}

// allows reports whether it covers an address that is not public. An item of a namespace counts after For only.
func (it item) allows(host string, port uint16, addr netip.Addr, class Class) bool {
	switch {
	case it.namespace != "", it.port != 0 && it.port != port:
		return false
	case it.class != "":
		return it.class == class
	case it.host != "":
		return it.host == host && named(class)
	default:
		return it.prefix.Contains(addr) || it.prefix.Contains(plain(addr))
	}
}

// named reports whether a host on the list opens addresses of a class: metadata services and the rest have to be named themselves.
func named(class Class) bool { return class == Loopback || class == Private || class == Shared }

// endpoint is where a URL leads, as far as it says so itself.
type endpoint struct {
	host    string
	port    uint16
	literal netip.Addr // invalid: the host has to be looked up
}

func target(raw string) (endpoint, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return endpoint{}, errs.New(errs.Invalid, "want an http or https URL")
	}
	port, err := strconv.ParseUint(portOf(u), 10, 16)
	if err != nil {
		return endpoint{}, errs.New(errs.Invalid, "the port is no number")
	}
	t := endpoint{host: u.Hostname(), port: uint16(port)}
	t.literal, _ = literal(t.host)
	return t, nil
}

// control judges an address as net.Dialer's control hook is given it.
func (p *Policy) control(network, host string, port uint16, actual string) error {
	at, err := netip.ParseAddrPort(actual)
	if err != nil || (network != "tcp4" && network != "tcp6") {
		return errs.New(errs.Denied, "egress over %s is denied", network)
	}
	return p.Check(host, port, at.Addr())
}
