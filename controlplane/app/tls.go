package app

import (
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"time"

	"github.com/agentry/agentry/internal/rpc"
)

// PeopleTLS is how the people door is reached from elsewhere. Without it the door is plain HTTP and on the loopback only.
type PeopleTLS struct{ Cert, Key string }

func (c *PeopleTLS) flags(fs *flag.FlagSet) {
	fs.StringVar(&c.Cert, "people-tls-cert", "", "certificate `file` (PEM) of the people door; read again when it changes")
	fs.StringVar(&c.Key, "people-tls-key", "", "key `file` (PEM) of the people door")
}

// on says whether the door speaks TLS.
func (c PeopleTLS) on() bool { return c.Cert != "" }

// check holds semantics.md 13: a door that others can reach speaks TLS.
func (c PeopleTLS) check(addr string, fault func(string, ...any)) {
	if (c.Cert == "") != (c.Key == "") {
		fault("--people-tls-cert and --people-tls-key belong together")
	}
	if c.on() {
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
			fault("--people-addr: %q (host:port)", addr)
		}
		return
	}
	checkLoopback("--people-addr", addr, fault)
}

// config gives nil for a door in plain HTTP.
func (c PeopleTLS) config() (*tls.Config, error) {
	if !c.on() {
		return nil, nil
	}
	f, err := rpc.NewCertFile(c.Cert, c.Key, time.Now)
	if err != nil {
		return nil, fmt.Errorf("--people-tls-cert: %w", err)
	}
	return f.Config(), nil
}

// url gives the door's address as people write it.
func (c PeopleTLS) url(addr net.Addr) string {
	if c.on() {
		return "https://" + addr.String()
	}
	return "http://" + addr.String()
}
