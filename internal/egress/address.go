package egress

import "net/netip"

// Class is what kind of address one is.
type Class string

// The classes. All but Public are denied unless the policy says otherwise.
const (
	Public        Class = "public"
	Loopback      Class = "loopback"
	Private       Class = "private"
	Shared        Class = "carrier-grade NAT"
	LinkLocal     Class = "link-local"
	Metadata      Class = "cloud metadata"
	Unspecified   Class = "unspecified"
	Multicast     Class = "multicast"
	Documentation Class = "documentation"
	Tunnel        Class = "tunnel"
	Reserved      Class = "reserved"
)

type rangeOf struct {
	prefix netip.Prefix
	class  Class
}

// special lists the ranges of the IANA special-purpose registries, the first that holds an address counts. Metadata services that
// live outside link-local come first: "private" must not open them.
func special() []rangeOf {
	table := []struct {
		cidr  string
		class Class
	}{
		{"168.63.129.16/32", Metadata},
		{"100.100.100.200/32", Metadata},
		{"192.0.0.192/32", Metadata},
		{"169.254.0.0/16", LinkLocal},
		{"fd00:ec2::/32", Metadata},
		{"fd20:ce::/32", Metadata},

		{"0.0.0.0/8", Unspecified},
		{"10.0.0.0/8", Private},
		{"100.64.0.0/10", Shared},
		{"127.0.0.0/8", Loopback},
		{"172.16.0.0/12", Private},
		{"192.0.0.0/24", Reserved},
		{"192.0.2.0/24", Documentation},
		{"192.88.99.0/24", Tunnel},
		{"192.168.0.0/16", Private},
		{"198.18.0.0/15", Reserved},
		{"198.51.100.0/24", Documentation},
		{"203.0.113.0/24", Documentation},
		{"224.0.0.0/4", Multicast},
		{"240.0.0.0/4", Reserved},

		{"::1/128", Loopback},
		{"::/128", Unspecified},
		{"fc00::/7", Private},
		{"fe80::/10", LinkLocal},
		{"fec0::/10", Reserved},
		{"ff00::/8", Multicast},
		{"2001:db8::/32", Documentation},
		{"3fff::/20", Documentation},
		{"2001::/32", Tunnel},
		{"2001::/23", Reserved},
		{"2002::/16", Tunnel},
		{"64:ff9b:1::/48", Tunnel},
	}
	out := make([]rangeOf, len(table))
	for i, r := range table {
		out[i] = rangeOf{prefix: netip.MustParsePrefix(r.cidr), class: r.class}
	}
	return out
}

// Classify says what kind of address a is. An IPv4 address in IPv6 clothes (mapped, well-known NAT64) is what it carries.
func Classify(a netip.Addr) Class { return classify(special(), plain(a)) }

func classify(table []rangeOf, a netip.Addr) Class {
	for _, r := range table {
		if r.prefix.Contains(a) {
			return r.class
		}
	}
	if a.Is6() && !globalUnicast(a) {
		return Reserved
	}
	return Public
}

// globalUnicast reports whether a lies in 2000::/3, the only part of IPv6 that is given out to the public.
func globalUnicast(a netip.Addr) bool { b := a.As16(); return b[0]>>5 == 1 }

// plain undresses an address: no zone, and the IPv4 address that a mapped or a well-known NAT64 address (RFC 6052) leads to.
func plain(a netip.Addr) netip.Addr {
	a = a.WithZone("").Unmap()
	if a.Is6() {
		if b := a.As16(); [12]byte(b[:12]) == [12]byte{0, 0x64, 0xff, 0x9b} {
			return netip.AddrFrom4([4]byte(b[12:]))
		}
	}
	return a
}
