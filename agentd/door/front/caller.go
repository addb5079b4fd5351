package front

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/netip"
	"strings"

	"github.com/agentry/agentry/agentd/run"
)

// Anonymous is the principal of callers who show nothing, where nothing is asked for.
const Anonymous = "anonymous"

// Caller is who calls. Sessions, suspended runs and tasks belong to the Principal.
type Caller struct {
	// Principal is the name of the caller's key. Where the config has no keys it is Anonymous, or "key-" and a digest of whatever the caller
	// showed, so that two who show different things don't read each other's sessions.
	Principal string
	// Approver may decide about the suspended runs of every caller. Where the config has no keys everybody may.
	Approver bool
	// Authenticated: by a key of the config.
	Authenticated bool
}

type callerKey struct{}

func withCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf gives who calls. Without a front before the door it is Anonymous, who may decide nothing.
func CallerOf(ctx context.Context) Caller {
	if c, ok := ctx.Value(callerKey{}).(Caller); ok {
		return c
	}
	return Caller{Principal: Anonymous}
}

// identify says who calls, from where, and takes off the request what said so.
func identify(w http.ResponseWriter, r *http.Request, keys []run.InboundKey) (Caller, netip.Addr, *Refusal) {
	peer := peerOf(r)
	for _, name := range []string{"Authorization", "X-Api-Key"} {
		if len(r.Header[name]) > 1 { // another program on the way may have looked at another one
			return Caller{}, peer, unauthenticated(w, `Bearer realm="agentry", error="invalid_request"`, "the request has more than one "+name+" header: send one")
		}
	}
	shown := credentials(r.Header)
	if len(keys) > 0 {
		c, refusal := authenticate(w, shown, keys)
		return c, peer, refusal
	}
	switch {
	case !peer.IsLoopback():
		return Caller{}, peer, forbidden("this agent asks for no key, so it answers callers on its own machine only (expose.auth.keys in its spec lets others in)")
	case !ownName(r.Host):
		return Caller{}, peer, forbidden("this agent asks for no key, so it doesn't answer under the name %q (use localhost, or an address; expose.auth.keys in its spec lifts this)", r.Host)
	}
	c := Caller{Principal: Anonymous, Approver: true}
	if len(shown) > 0 {
		sum := sha256.Sum256([]byte(shown[0]))
		c.Principal = "key-" + hex.EncodeToString(sum[:8])
	}
	return c, peer, nil
}

// peerOf gives the address at the other end of the connection; the zero one, which is no loopback address, where there is none.
func peerOf(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap()
}

// credentials takes off a request what its sender shows, the bearer token first. Whatever else browsers and proxies add to say who
// somebody is goes as well.
func credentials(h http.Header) (shown []string) {
	if auth := h.Get("Authorization"); auth != "" {
		if scheme, token, _ := strings.Cut(auth, " "); strings.EqualFold(scheme, "bearer") {
			auth = strings.TrimSpace(token)
		}
		if auth != "" {
			shown = append(shown, auth)
		}
	}
	if key := h.Get("X-Api-Key"); key != "" {
		shown = append(shown, key)
	}
	for _, name := range []string{"Authorization", "X-Api-Key", "Proxy-Authorization", "Cookie"} {
		delete(h, name)
	}
	return shown
}

// authenticate compares with every key, whichever it is, and in a time that says nothing about them.
func authenticate(w http.ResponseWriter, shown []string, keys []run.InboundKey) (Caller, *Refusal) {
	if len(shown) == 0 {
		return Caller{}, unauthenticated(w, `Bearer realm="agentry"`, `this agent asks for a key: send "Authorization: Bearer KEY" or "X-API-Key: KEY"`)
	}
	var found *run.InboundKey
	for _, s := range shown {
		sum := sha256.Sum256([]byte(s))
		for i := range keys {
			value := keys[i].Value()
			want := sha256.Sum256([]byte(value.Reveal()))
			if subtle.ConstantTimeCompare(sum[:], want[:]) == 1 && !value.IsZero() && found == nil {
				found = &keys[i]
			}
		}
	}
	if found == nil {
		return Caller{}, unauthenticated(w, `Bearer realm="agentry", error="invalid_token"`, "the key is not one of this agent's (expose.auth.keys in its spec)")
	}
	return Caller{Principal: found.Name, Approver: found.Approver, Authenticated: true}, nil
}
