package egress

import (
	"fmt"
	"net/netip"

	"github.com/agentry/agentry/internal/errs"
)

// ErrDenied is what every *DeniedError wraps; its kind is Denied. A later attempt is not answered otherwise.
var ErrDenied = errs.New(errs.Denied, "egress denied")

// DeniedError is a connection that the policy doesn't allow. Its text has host, address and the way out, never a path or a query.
type DeniedError struct {
	Host  string // as it was asked for
	Port  uint16
	Addr  netip.Addr // what it resolved to
	Class Class
}

// Error gives the text.
func (e *DeniedError) Error() string {
	target, allow := fmt.Sprintf("%s (%s)", e.Host, e.Addr), e.Host
	if _, ok := address(e.Host); ok || !named(e.Class) {
		allow = e.Addr.String()
	}
	if e.Host == e.Addr.String() {
		target = e.Host
	}
	article := "a"
	if e.Class == Unspecified {
		article = "an"
	}
	text := fmt.Sprintf("egress to %s is denied: %s %s address", target, article, e.Class)
	if e.Class == LinkLocal || e.Class == Metadata { // there the clouds hand out their keys: nobody is led to open that
		return text
	}
	return text + "; the process may be started with --egress-allow " + allow
}

// Unwrap gives ErrDenied.
func (e *DeniedError) Unwrap() error { return ErrDenied }
