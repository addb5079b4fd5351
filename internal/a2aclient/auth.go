package a2aclient

import (
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"golang.org/x/net/http/httpguts"

	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/secret"
)

// place puts the credential where the card asks for it: by the first of its requirements that one credential can meet, else by the first scheme that it
// can, else as a bearer token where the card names none.
func (e *endpoint) place(card *pb.AgentCard, credential secret.Value) error {
	schemes := card.GetSecuritySchemes()
	for _, r := range card.GetSecurityRequirements() {
		if len(r.GetSchemes()) != 1 {
			continue
		}
		for name := range r.GetSchemes() {
			if e.placeBy(schemes[name], credential) {
				return nil
			}
		}
	}
	for _, prefer := range []func(*pb.SecurityScheme) bool{isHTTP, func(*pb.SecurityScheme) bool { return true }} {
		for _, s := range schemes {
			if prefer(s) && e.placeBy(s, credential) {
				return nil
			}
		}
	}
	if len(schemes) > 0 {
		return errors.New("the card asks for a kind of credential that can't be given here")
	}
	return e.set("Authorization", "Bearer "+credential.Reveal())
}

func isHTTP(s *pb.SecurityScheme) bool { return s.GetHttpAuthSecurityScheme() != nil }

// placeBy puts the credential by one scheme, and reports whether it could.
func (e *endpoint) placeBy(s *pb.SecurityScheme, credential secret.Value) bool {
	value := credential.Reveal()
	switch {
	case s.GetHttpAuthSecurityScheme() != nil:
		switch scheme := strings.ToLower(s.GetHttpAuthSecurityScheme().GetScheme()); {
		case scheme == "bearer":
			return e.set("Authorization", "Bearer "+value) == nil
		case scheme == "basic" && strings.Contains(value, ":"):
			return e.set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(value))) == nil
		}
	case s.GetOauth2SecurityScheme() != nil, s.GetOpenIdConnectSecurityScheme() != nil:
		return e.set("Authorization", "Bearer "+value) == nil
	case s.GetApiKeySecurityScheme() != nil:
		return e.placeKey(s.GetApiKeySecurityScheme(), value)
	}
	return false
}

// placeKey puts an API key. The names come from the card, so they may not be those of headers that steer a request.
func (e *endpoint) placeKey(s *pb.APIKeySecurityScheme, value string) bool {
	name := s.GetName()
	grpc := e.face.GetProtocolBinding() == a2a.BindingGRPC
	switch strings.ToLower(s.GetLocation()) {
	case "header":
		switch http.CanonicalHeaderKey(name) {
		case "Host", "Connection", "Content-Length", "Content-Type", "Transfer-Encoding", "Upgrade", "Te", "Trailer", "Accept", a2a.HeaderVersion, "A2a-Version":
			return false
		}
		return e.set(name, value) == nil
	case "query":
		if grpc || name == "" {
			return false
		}
		e.query = url.Values{name: {value}}
		return true
	case "cookie":
		if grpc || !httpguts.ValidHeaderFieldName(name) || strings.ContainsAny(value, " \";,\\") {
			return false
		}
		return e.set("Cookie", name+"="+value) == nil
	default:
		return false
	}
}

func (e *endpoint) set(name, value string) error {
	if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
		return errors.New("the credential fits no header")
	}
	e.header.Set(name, value)
	return nil
}

// url gives the URL of a path below the interface's own, with the key if it goes there. path is escaped.
func (e *endpoint) url(path string, query url.Values) string {
	u := *e.base
	u.Fragment = ""
	if path != "" {
		escaped := strings.TrimSuffix(u.EscapedPath(), "/") + path
		if plain, err := url.PathUnescape(escaped); err == nil {
			u.Path, u.RawPath = plain, escaped
		}
	}
	q := u.Query()
	maps.Copy(q, query)
	maps.Copy(q, e.query)
	u.RawQuery = q.Encode()
	return u.String()
}
