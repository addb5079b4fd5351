package spec

import (
	"net/url"
	"slices"
	"strings"
)

// Origin gives what a credential can be bound to: scheme, host and port of an http or https address in lower case, without the
// scheme's own port, such as "https://api.example.com"; "" if s is no such address.
func Origin(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.User != nil {
		return ""
	}
	scheme, host, port := strings.ToLower(u.Scheme), strings.TrimRight(strings.ToLower(u.Hostname()), "."), u.Port()
	if (scheme != "http" && scheme != "https") || host == "" || strings.ContainsAny(host, "*% \t\"<>\\^`{|}") {
		return ""
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" || port == map[string]string{"http": "80", "https": "443"}[scheme] {
		return scheme + "://" + host
	}
	return scheme + "://" + host + ":" + port
}

// ValidOrigin reports whether s is an origin and nothing more.
func ValidOrigin(s string) bool {
	u, err := url.Parse(s)
	return Origin(s) != "" && err == nil && u.Path == "" && u.RawQuery == "" && !u.ForceQuery && u.Fragment == "" && !strings.HasSuffix(s, "#")
}

// Forbidden gives the first of some addresses to whose origin a credential may not be sent; "" if it may be sent to all. No allowed
// origins at all allow every address; otherwise what is no http or https address is forbidden.
func Forbidden(allowed, addresses []string) string {
	if len(allowed) == 0 {
		return ""
	}
	for _, a := range addresses {
		o := Origin(a)
		if o == "" || !slices.ContainsFunc(allowed, func(s string) bool { return Origin(s) == o }) {
			if o == "" {
				return "an unknown address"
			}
			return o
		}
	}
	return ""
}

// Destination is where one place of an agent sends a credential.
type Destination struct {
	Credential string
	Path       string // of the place
	// Server is the MCP entry to whose endpoints it goes, at Version as written; "": Address says where.
	Server  string
	Version string
	// Address is a URL; "" where it isn't known.
	Address string
}

// Destinations lists where a sends which credential, in document order.
func (a *Agent) Destinations() []Destination {
	var out []Destination
	for _, p := range a.Places() {
		v := p.Get()
		if v.Ref == "" || p.Inbound {
			continue
		}
		d := Destination{Credential: v.Ref, Path: p.Path, Server: p.Server, Address: p.address}
		for _, s := range a.MCPServers {
			if d.Server != "" && s.MCPServerName == d.Server {
				d.Version = s.Version
			}
		}
		out = append(out, d)
	}
	return out
}

// Addresses lists an entry's endpoints.
func (s *MCPServer) Addresses() []string {
	out := make([]string, len(s.Endpoints))
	for i, e := range s.Endpoints {
		out[i] = e.URL
	}
	return out
}
