package egress

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// Errors of a redirect that is not followed.
var (
	ErrRedirects = errors.New("egress: more than 3 redirects")
	ErrDowngrade = errors.New("egress: a redirect from https to http is not followed")
	ErrScheme    = errors.New("egress: only http and https are spoken")
	// ErrBodyElsewhere: a body may hold a secret of the origin that it was meant for.
	ErrBodyElsewhere = errors.New("egress: a request's body is not sent on to another origin")
)

// Origin gives scheme, host and port of a URL, as "https://api.example.com:443"; "" if it has none.
func Origin(u *url.URL) string {
	if u == nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return ""
	}
	host := canonicalHost(u.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return u.Scheme + "://" + host + ":" + portOf(u)
}

// checkRedirect is http.Client.CheckRedirect. The address of every hop is judged in the dialer.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > MaxRedirects {
		return ErrRedirects
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return ErrScheme
	}
	first := Origin(via[0].URL)
	elsewhere := Origin(req.URL) != first
	for _, r := range via {
		if r.URL.Scheme == "https" && req.URL.Scheme == "http" {
			return ErrDowngrade
		}
		elsewhere = elsewhere || Origin(r.URL) != first
	}
	if !elsewhere {
		return nil
	}
	if req.Body != nil && req.Body != http.NoBody {
		return ErrBodyElsewhere
	}
	req.URL.User = nil
	bare(req.Header)
	return nil
}

// bare takes away every header that may be a credential, whatever its name: only what is known to be none stays.
func bare(h http.Header) {
	for name := range h {
		switch name {
		case "Accept", "Accept-Encoding", "Accept-Language", "Content-Type", "User-Agent", "Range", "Cache-Control":
		default:
			delete(h, name)
		}
	}
}
