// Package certs makes the small private PKI that a first installation needs: authorities, certificates for etcd, the doors and the
// instances, and random keys, all from one plan, into one directory. `agentctl certs make` calls it. It knows no server, and it never
// changes what still holds.
package certs

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/agentry/agentry/internal/errs"
)

const (
	defaultAuthorityDays   = 3650
	defaultCertificateDays = 365
	maxPlanBytes           = 256 << 10
)

// Plan says what there has to be. Every path in it is relative to the directory that it is made in, with slashes, without a suffix.
type Plan struct {
	// Authorities by path: PATH.pem and PATH.key are made.
	Authorities map[string]Authority `yaml:"authorities"`
	// Certificates by path: PATH.pem (with the authority's own where that isn't a root) and PATH.key are made.
	Certificates map[string]Certificate `yaml:"certificates"`
	// Trust copies the certificates of authorities into files of these paths: for who must trust them and may not sign.
	Trust map[string][]string `yaml:"trust"`
	// Keys are files of 32 random bytes in base64, mode 0600, such as a control plane's --kek-file.
	Keys []string `yaml:"keys"`
}

// Authority is a certificate authority.
type Authority struct {
	// By is the path of the authority that signs it; empty: it is a root and signs itself.
	By string `yaml:"by"`
	// Days of validity, default 3650.
	Days int `yaml:"days"`
}

// Certificate is one of a server, a client, or both.
type Certificate struct {
	// By is the path of the authority that signs it.
	By string `yaml:"by"`
	// Name is the common name; empty: the path's last element.
	Name string `yaml:"name"`
	// Hosts are the names and addresses that a server is reached by.
	Hosts []string `yaml:"hosts"`
	// URI is one more name, such as spiffe://example/ns/default/agent/weather.
	URI string `yaml:"uri"`
	// Use says for what: "server", "client" (default: client, and server too where there are hosts).
	Use []string `yaml:"use"`
	// Days of validity, default 365. It is made anew when less than a third of them is left.
	Days int `yaml:"days"`
}

// Parse reads a plan. An unknown field, a name of nobody, or a path that leaves the directory is errs.Invalid; all faults are told at once.
func Parse(text []byte) (Plan, error) {
	var p Plan
	if len(text) > maxPlanBytes {
		return p, errs.New(errs.Invalid, "plan: larger than %d bytes", maxPlanBytes)
	}
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(&p); err != nil {
		return p, errs.New(errs.Invalid, "plan: %w", err)
	}
	return p, p.check()
}

// checker collects what is wrong with a plan.
type checker struct {
	plan   Plan
	seen   map[string]string // path -> what it is of
	faults []error
}

func (c *checker) fault(format string, args ...any) {
	c.faults = append(c.faults, errs.New(errs.Invalid, format, args...))
}

func (c *checker) place(what, file string) {
	if file == "" || !fs.ValidPath(file) || file == "." || strings.HasPrefix(path.Base(file), ".") {
		c.fault("%s %q: not a path inside the directory", what, file)
	}
	if other, ok := c.seen[file]; ok {
		c.fault("%s %q: the same path as %s", what, file, other)
	}
	c.seen[file] = what
}

func (c *checker) days(what, file string, n int) {
	if n < 0 || n > 36500 {
		c.fault("%s %q: days: %d (1 to 36500)", what, file, n)
	}
}

func (c *checker) authority(what, file, name string) {
	if _, ok := c.plan.Authorities[name]; !ok {
		c.fault("%s %q: there is no authority %q", what, file, name)
	}
}

func (p Plan) check() error {
	c := &checker{plan: p, seen: map[string]string{}}
	for _, name := range sorted(p.Authorities) {
		a := p.Authorities[name]
		c.place("authority", name)
		c.days("authority", name, a.Days)
		if a.By != "" {
			c.authority("authority", name, a.By)
		}
	}
	if _, err := p.order(); err != nil {
		c.faults = append(c.faults, err)
	}
	for _, name := range sorted(p.Certificates) {
		c.certificate(name, p.Certificates[name])
	}
	for _, name := range sorted(p.Trust) {
		c.place("trust", name)
		if len(p.Trust[name]) == 0 {
			c.fault("trust %q: names no authority", name)
		}
		for _, a := range p.Trust[name] {
			c.authority("trust", name, a)
		}
	}
	for _, name := range p.Keys {
		c.place("key", name)
	}
	return errors.Join(c.faults...)
}

func (c *checker) certificate(name string, x Certificate) {
	c.place("certificate", name)
	c.days("certificate", name, x.Days)
	c.authority("certificate", name, x.By)
	for _, use := range x.Use {
		if use != useServer && use != useClient {
			c.fault("certificate %q: use: %q (server or client)", name, use)
		}
	}
	for _, host := range x.Hosts {
		if host == "" || strings.ContainsAny(host, "/ ") || (strings.Contains(host, ":") && net.ParseIP(host) == nil) {
			c.fault("certificate %q: hosts: %q is no name and no address", name, host)
		}
	}
	if u, err := url.Parse(x.URI); x.URI != "" && (err != nil || u.Scheme == "" || u.Host == "") {
		c.fault("certificate %q: uri: %q is no URI", name, x.URI)
	}
}

// order gives the authorities, each after the one that signs it.
func (p Plan) order() ([]string, error) {
	var out []string
	for round := 0; len(out) < len(p.Authorities); round++ {
		if round > len(p.Authorities) {
			return nil, errs.New(errs.Invalid, "authorities: each signs another, and none is a root")
		}
		for _, name := range sorted(p.Authorities) {
			by := p.Authorities[name].By
			if _, known := p.Authorities[by]; !slices.Contains(out, name) && (by == "" || !known || slices.Contains(out, by)) {
				out = append(out, name)
			}
		}
	}
	return out, nil
}

const (
	useServer = "server"
	useClient = "client"
)

func (c Certificate) uses() []string {
	switch {
	case len(c.Use) > 0:
		return c.Use
	case len(c.Hosts) > 0:
		return []string{useServer, useClient}
	default:
		return []string{useClient}
	}
}

func lasting(days, otherwise int) time.Duration {
	if days == 0 {
		days = otherwise
	}
	return time.Duration(days) * 24 * time.Hour
}

func sorted[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
