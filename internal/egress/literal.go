package egress

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// literal reads a host that means an address without any look-up: IP literals, the forms that the C library takes for one (one to four
// numbers, decimal, octal or hexadecimal), and the names that RFC 6761 binds to loopback.
func literal(host string) (netip.Addr, bool) {
	if name := canonicalHost(host); name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	}
	return address(host)
}

// address reads a host that is no name at all.
func address(host string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a, true
	}
	host = canonicalHost(host)
	if a, err := netip.ParseAddr(host); err == nil {
		return a, true
	}
	return numbers(host)
}

// numbers reads what inet_aton reads.
func numbers(host string) (netip.Addr, bool) {
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var sum uint64
	for i, part := range parts {
		n, ok := number(part)
		last := i == len(parts)-1
		room := uint64(1) << 8
		if last {
			room = 1 << (8 * (4 - i))
		}
		if !ok || n >= room {
			return netip.Addr{}, false
		}
		if last {
			sum |= n
		} else {
			sum |= n << (8 * (3 - i))
		}
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(sum)) // #nosec G115 -- every part was checked against its room
	return netip.AddrFrom4(b), true
}

// number reads decimal, 0octal or 0xhex.
func number(s string) (uint64, bool) {
	base := 10
	switch {
	case strings.HasPrefix(s, "0x"):
		s, base = s[2:], 16
	case len(s) > 1 && s[0] == '0':
		s, base = s[1:], 8
	}
	if strings.HasPrefix(s, "+") || strings.HasPrefix(s, "-") {
		return 0, false
	}
	n, err := strconv.ParseUint(s, base, 33)
	return n, err == nil
}
