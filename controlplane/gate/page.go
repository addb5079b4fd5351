package gate

import (
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
)

// pagePermission is what a plain page needs on the whole installation. The pages show the state of all agents and counters, nothing
// that StatusService.ListStatus wouldn't show to the same caller.
const pagePermission = "release.read"

// Page guards a plain page (metrics, debug). It is open to the people of this machine: the connection comes from the loopback, is
// forwarded by nobody, and asks for a loopback host, which keeps a foreign web page from reading it through a name that it points at
// the loopback. Everybody else shows a token of who may read releases on the whole installation.
func (g *Gate) Page(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.readsPage(r); err != nil {
			if errs.Is(err, errs.Unauthenticated) {
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			http.Error(w, g.redact.Redact(err.Error()), errs.HTTPStatus(err))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Bounded goes in front of all that a door serves: no body has more time than Limits.Body to arrive, also one that nobody reads, as of
// a page, or of a path that isn't there. Else a caller that nobody knows could keep connections for ever. Wrap ends that time for
// methods, once it has the request.
func (g *Gate) Bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			// Without support (a test's recorder) there is no connection that could be kept.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(g.limits.Body))
		}
		next.ServeHTTP(w, r)
	})
}

func (g *Gate) readsPage(r *http.Request) error {
	bearer := rpc.BearerOf(r.Header.Get("Authorization"))
	if bearer == "" {
		if local(r) {
			return nil
		}
		return errs.New(errs.Denied, "this page answers to localhost only, or to a token that holds %s on the installation", pagePermission)
	}
	c := &call{rule: &rule{method: r.URL.Path, permission: pagePermission}, id: requestID(r), client: clientOf(r)}
	who, err := g.auth.Authenticate(r.Context(), bearer)
	if err != nil {
		return pageError(g.unknown(c, err))
	}
	if err := g.limited(g.callers, who.Name); err != nil {
		return pageError(err)
	}
	return access.Check(access.With(r.Context(), who), pagePermission, access.Object{})
}

// pageError gives the kind of an error to who asks too often.
func pageError(err error) error {
	if wait, ok := err.(*waitError); ok { //nolint:errorlint // made here, never wrapped
		return errs.New(errs.Exhausted, "%s", wait.Error())
	}
	return err
}

// local reports whether a request comes from this machine, straight, for this machine.
func local(r *http.Request) bool {
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip"} {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	return loopback(r.RemoteAddr) && loopback(r.Host)
}

func loopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || (ip != nil && ip.IsLoopback())
}
