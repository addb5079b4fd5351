package a2aclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/errs"
)

// endpoint is one interface of a card that can be used.
type endpoint struct {
	face   *pb.AgentInterface
	base   *url.URL // of gRPC: only scheme and host count
	header http.Header
	query  url.Values
	kept   bool // there is a credential, and it doesn't go there

	open   transport // Agent.mu guards these two
	closed bool
}

// transport performs operations by one binding. Requests have their tenant.
type transport interface {
	call(ctx context.Context, op operation, req, out message) error
	// stream gives what comes until the stream ends. A stream that was cut ends with a linkError.
	stream(ctx context.Context, op operation, req message) events
	close()
}

const maxInterfaces = 16

// pick gives the interfaces of a card that can be used, in its order.
func pick(cfg Config, card *pb.AgentCard, from fetched) ([]*endpoint, error) {
	var out []*endpoint
	var why []string
	for i, face := range card.GetSupportedInterfaces() {
		if i >= maxInterfaces {
			break
		}
		e, err := newEndpoint(cfg, card, face, from)
		if err != nil {
			why = append(why, fmt.Sprintf("%s %s: %v", clip(face.GetProtocolBinding()), clip(face.GetProtocolVersion()), err))
			continue
		}
		out = append(out, e)
	}
	if len(out) == 0 {
		return nil, errs.New(errs.Unsupported, "the card names no interface that can be used (%s)", strings.Join(why, "; "))
	}
	return out, nil
}

func newEndpoint(cfg Config, card *pb.AgentCard, face *pb.AgentInterface, from fetched) (*endpoint, error) {
	e := &endpoint{face: face, header: http.Header{}}
	binding := face.GetProtocolBinding()
	switch {
	case !a2a.Speaks(face.GetProtocolVersion()):
		return nil, errors.New("the version is not spoken here")
	case binding != a2a.BindingJSONRPC && binding != a2a.BindingHTTP && binding != a2a.BindingGRPC:
		return nil, errors.New("the binding is not spoken here")
	case len(cfg.Bindings) > 0 && !slices.Contains(cfg.Bindings, binding):
		return nil, errors.New("the binding is not wanted")
	}
	var err error
	if e.base, err = baseOf(face, from.at); err != nil {
		return nil, err
	}
	e.header.Set(a2a.HeaderVersion, a2a.Version)
	if len(cfg.Extensions) > 0 {
		e.header.Set(a2a.HeaderExtensions, strings.Join(cfg.Extensions, ","))
	}
	if cfg.Credential.IsZero() {
		return e, nil
	}
	if !mayHave(cfg, e.base, from) {
		e.kept = true
		return e, nil
	}
	if readable(e.base) {
		return nil, errors.New("the credential is not sent over plain HTTP")
	}
	return e, e.place(card, cfg.Credential)
}

// baseOf reads an interface's URL. gRPC's may be host:port alone: then it is TLS unless it is this machine, or the host and port of a card that came without.
func baseOf(face *pb.AgentInterface, card *url.URL) (*url.URL, error) {
	text := face.GetUrl()
	if face.GetProtocolBinding() == a2a.BindingGRPC {
		text = strings.TrimPrefix(strings.TrimPrefix(text, "dns:///"), "passthrough:///")
		for from, to := range map[string]string{"grpc://": "http://", "grpcs://": "https://"} {
			if rest, ok := strings.CutPrefix(text, from); ok {
				text = to + rest
			}
		}
		if !strings.Contains(text, "://") {
			host, _, err := net.SplitHostPort(text)
			if err != nil {
				host = text
			}
			scheme := "https"
			switch plain := (&url.URL{Scheme: "http", Host: text}); {
			case hostPort(plain) == hostPort(card):
				scheme = card.Scheme
			case local(host):
				scheme = "http"
			}
			text = scheme + "://" + text
		}
	}
	u, err := url.Parse(text)
	if err != nil || egress.Origin(u) == "" || u.User != nil {
		return nil, errors.New("the URL is none")
	}
	return u, nil
}

// hostPort gives host:port of a URL, with the port of its scheme where it has none.
func hostPort(u *url.URL) string {
	_, at, _ := strings.Cut(egress.Origin(u), "://")
	return at
}

// mayHave reports whether the credential may go to u: to the card's own origin, or one that was allowed. A card that a redirect led to elsewhere has no origin
// of its own here: who can make the agent's server redirect (an open redirect is enough, or plain HTTP on the way) would name where the credential goes.
func mayHave(cfg Config, u *url.URL, from fetched) bool {
	to := egress.Origin(u)
	if to == egress.Origin(from.at) && stayed(from) {
		return true
	}
	return slices.ContainsFunc(cfg.CredentialOrigins, func(text string) bool {
		allowed, err := url.Parse(text)
		return err == nil && egress.Origin(allowed) == to
	})
}

// stayed reports whether a card came from the origin that was asked, or by HTTPS from the same host.
func stayed(card fetched) bool {
	if egress.Origin(card.at) == egress.Origin(card.asked) {
		return true
	}
	return card.asked.Scheme == "http" && card.at.Scheme == "https" && strings.EqualFold(card.at.Hostname(), card.asked.Hostname())
}

// transport gives an interface's transport, opened once.
func (a *Agent) transport(e *endpoint) (transport, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.closed {
		return nil, errs.New(errs.Canceled, "the agent's client is closed")
	}
	if e.open != nil {
		return e.open, nil
	}
	t, err := a.dial(e) // connects to nothing yet
	if err != nil {
		return nil, &linkError{err: err}
	}
	e.open = t
	return t, nil
}

func (a *Agent) dial(e *endpoint) (transport, error) {
	switch e.face.GetProtocolBinding() {
	case a2a.BindingJSONRPC:
		return &jsonrpc{web: a.web, at: e, limit: a.cfg.MaxTask}, nil
	case a2a.BindingHTTP:
		return &rest{web: a.web, at: e, limit: a.cfg.MaxTask}, nil
	default:
		return newGRPC(a.cfg, a.web, e)
	}
}

// order gives the interfaces, the one that answered last first.
func (a *Agent) order() []*endpoint {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append(slices.Clone(a.endpoints[a.current:]), a.endpoints[:a.current]...)
}

// stick remembers which interface answered.
func (a *Agent) stick(e *endpoint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current = max(0, slices.Index(a.endpoints, e))
}

// passes reports whether another interface may be tried after err: nothing was performed, or nothing is lost by performing it again.
func passes(err error, again bool) bool {
	var l *linkError
	if errors.As(err, &l) {
		return !l.sent || again
	}
	return isReason(err, a2a.VersionNotSupported)
}

// hinted adds to an agent's refusal that it didn't see the credential.
func (e *endpoint) hinted(err error) error {
	if err != nil && e.kept && isReason(err, a2a.Unauthenticated, a2a.PermissionDenied) {
		return fmt.Errorf("%w (the credential was not shown: %s is not the origin that was asked for the card)", err, egress.Origin(e.base))
	}
	return err
}
