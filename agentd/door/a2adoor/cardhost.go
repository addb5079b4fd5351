package a2adoor

import (
	"context"
	"log/slog"
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
			if face.A2A.SigningKey != nil && err == nil && d.keys.first(u.Hostname()) {
				d.cfg.Log.LogAttrs(context.Background(), slog.LevelInfo, "the card is not signed for a host that isn't known as this agent's (agentd --advertise names one)", slog.String("host", clip(u.Hostname())))
			}
			return nil
		}
	}
	return d.keys.signer(face)
}

// maxStrangers bounds the hosts that are logged: whoever asks chooses them.
const maxStrangers = 16

// first reports whether a host is seen for the first time, and is to be logged.
func (k *keyCache) first(host string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.strangers) >= maxStrangers || k.strangers[host] {
		return false
	}
	if k.strangers == nil {
		k.strangers = map[string]bool{}
	}
	k.strangers[host] = true
	return true
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
