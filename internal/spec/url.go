package spec

import (
	"net/url"
	"regexp"
	"strings"
)

var versionSegment = regexp.MustCompile(`^v[0-9]+$`)

// EffectiveBaseURL gives the address to which a model client appends "/chat/completions" or "/responses": base without a trailing slash, and with
// "/v1" appended unless its last path segment is v<digits> (semantics.md 14). What is no URL is answered as it stands.
func EffectiveBaseURL(base string) string {
	u, err := url.Parse(base)
	if err != nil || base == "" {
		return base
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = strings.TrimRight(u.RawPath, "/")
	last := u.Path[strings.LastIndexByte(u.Path, '/')+1:]
	if !versionSegment.MatchString(last) {
		u.Path += "/v1"
		if u.RawPath != "" {
			u.RawPath += "/v1"
		}
	}
	return u.String()
}

// httpURL reports whether s is an absolute http or https address. One with a password in it would be stored in clear.
func httpURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.Fragment == "" && u.User == nil && !strings.ContainsAny(s, " \t")
}
