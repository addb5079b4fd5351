package a2adoor

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/a2a"
)

// signer gives what signs a card that shows base; nil: nothing does. Without a configured address base is what the caller wrote into Host.
func (d *Door) signer(face run.Face, base string) *a2a.Signer {
	if d.cfg.Base() == "" {
		u, err := url.Parse(base)
		if err != nil || !d.cfg.Names(u.Hostname()) {
			return nil
		}
	}
	return d.keys.signer(face)
}

// inside reports whether a host leads nowhere but to this machine or its network: a card that names it is of no use to others.
func inside(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		a = a.Unmap()
		return a.IsLoopback() || a.IsPrivate()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	dot := strings.LastIndexByte(host, '.')
	return host != "" && (dot < 0 || slices.Contains([]string{"localhost", "internal", "local", "test"}, host[dot+1:]))
}
