package front

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// exposed are the headers of answers that a page of an allowed origin may read.
const exposed = "X-Agentry-Revision, X-Agentry-Config, X-Agentry-Previous-Config, X-Agentry-Memory, X-Agentry-Pending, X-Session-Id, Mcp-Session-Id, Retry-After, WWW-Authenticate, ETag"

// cross judges a request that a browser made for a page. Programs send no Origin. A page of an origin that isn't allowed is refused, not only
// kept from reading: the request itself would cost, and change what the agent remembers.
func cross(w http.ResponseWriter, r *http.Request, origins []string) *Refusal {
	origin := r.Header.Get("Origin")
	if len(origins) > 0 {
		w.Header().Add("Vary", "Origin")
	}
	if origin == "" {
		return nil
	}
	switch {
	case slices.ContainsFunc(origins, func(o string) bool { return strings.EqualFold(strings.TrimSuffix(o, "/"), origin) }):
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	case slices.Contains(origins, "*"):
		w.Header().Set("Access-Control-Allow-Origin", "*")
	case sameOrigin(origin, r.Host):
		return nil
	default:
		return forbidden("pages of %s may not call this agent (expose.cors.origins in its spec)", origin)
	}
	w.Header().Set("Access-Control-Expose-Headers", exposed)
	return nil
}

func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

// preflight answers a browser that asks what a page may send. It asks without a key. The page's origin has been judged.
func preflight(w http.ResponseWriter, r *http.Request) bool {
	asked := r.Header.Get("Access-Control-Request-Method")
	if r.Method != http.MethodOptions || asked == "" || r.Header.Get("Origin") == "" {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS")
	if names := r.Header.Get("Access-Control-Request-Headers"); names != "" {
		h.Set("Access-Control-Allow-Headers", names)
	}
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// ownName tells whether a name can't be one that a page's author had point to this machine (DNS rebinding): an address, a name without a dot,
// or one below a domain that nobody can register.
func ownName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	dot := strings.LastIndexByte(host, '.')
	return dot < 0 || slices.Contains([]string{"localhost", "internal", "local", "test"}, host[dot+1:])
}
