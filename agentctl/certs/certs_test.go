package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/agentctl/certs"
	"github.com/agentry/agentry/internal/errs"
)

const plan = `
authorities:
  own/etcd: {}
  own/identity: {days: 100}
  server/issuing: {by: own/identity}
certificates:
  server/etcd: {by: own/etcd, hosts: [etcd-1, 127.0.0.1]}
  client/etcd: {by: own/etcd, name: agentry}
  client/agent: {by: server/issuing, uri: "spiffe://example/ns/default/agent/weather", days: 30}
trust:
  client/ca.pem: [own/etcd]
keys: [server/kek]
`

func parsed(t *testing.T) certs.Plan {
	t.Helper()
	p, err := certs.Parse([]byte(plan))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func did(done []certs.Done) map[string]string {
	out := map[string]string{}
	for _, d := range done {
		out[d.Path] = d.Did
	}
	return out
}

// TestMadeCertificatesServe makes both ends of a connection from one plan.
func TestMadeCertificatesServe(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	if _, err := certs.Make(dir, parsed(t), now); err != nil {
		t.Fatal(err)
	}
	pair := func(name string) tls.Certificate {
		c, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	pem, err := os.ReadFile(filepath.Join(dir, "client/ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	handshake := func(server, client tls.Certificate, name string) error {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{server}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		served := make(chan error, 1)
		go func() {
			c, err := l.Accept()
			if secure, ok := c.(*tls.Conn); ok && err == nil {
				err = secure.Handshake()
				_ = secure.Close()
			}
			served <- err
		}()
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{client}, RootCAs: pool, ServerName: name})
		if err == nil {
			_ = c.Close()
		}
		return errors.Join(err, <-served)
	}
	if err := handshake(pair("server/etcd"), pair("client/etcd"), "etcd-1"); err != nil {
		t.Errorf("the pair that belongs together: %v", err)
	}
	if handshake(pair("server/etcd"), pair("client/etcd"), "etcd-2") == nil {
		t.Error("a server answers for a name that the plan doesn't give it")
	}
	if handshake(pair("server/etcd"), pair("client/agent"), "etcd-1") == nil {
		t.Error("a client of another authority is let in")
	}
	if handshake(pair("client/etcd"), pair("client/etcd"), "agentry") == nil {
		t.Error("a client's certificate serves")
	}
	for name, mode := range map[string]os.FileMode{"server/kek": 0o600, "own/etcd.key": 0o600, "client/agent.key": 0o600, "client/ca.pem": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v, want mode %v", name, info.Mode(), err, mode)
		}
	}
	chain, err := os.ReadFile(filepath.Join(dir, "server/issuing.pem"))
	if n := strings.Count(string(chain), "BEGIN CERTIFICATE"); err != nil || n != 2 {
		t.Errorf("the issuing authority's file holds %d certificates (%v), want itself and its root", n, err)
	}
}

func TestWhatHoldsIsKept(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	first, err := certs.Make(dir, parsed(t), now)
	if err != nil {
		t.Fatal(err)
	}
	for name, what := range did(first) {
		if what != certs.Made {
			t.Errorf("first: %s %s", name, what)
		}
	}
	second, err := certs.Make(dir, parsed(t), now.Add(19*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for name, what := range did(second) {
		if what != certs.Kept {
			t.Errorf("after 19 days: %s %s", name, what)
		}
	}
	third, err := certs.Make(dir, parsed(t), now.Add(21*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for name, what := range did(third) {
		want := certs.Kept
		if name == "client/agent" { // 9 of 30 days are left
			want = certs.Renewed
		}
		if what != want {
			t.Errorf("after 21 days: %s %s, want %s", name, what, want)
		}
	}
	if err := os.Remove(filepath.Join(dir, "client/etcd.pem")); err != nil {
		t.Fatal(err)
	}
	fourth, err := certs.Make(dir, parsed(t), now.Add(21*24*time.Hour))
	if err != nil || did(fourth)["client/etcd"] != certs.Made {
		t.Errorf("a certificate of which a crash left the key only: %v %v", did(fourth), err)
	}
	if _, err := certs.Make(dir, parsed(t), now.Add(101*24*time.Hour)); !errs.Is(err, errs.Precondition) {
		t.Errorf("an authority that has run out: %v, want it to be told", err)
	}
}

func TestPlansThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"leaves the directory": `keys: [../kek]`,
		"hidden":               `keys: [a/.kek]`,
		"unknown field":        `keyz: [kek]`,
		"unknown authority":    `certificates: {a: {by: b}}`,
		"circle":               "authorities: {a: {by: b}, b: {by: a}}",
		"same path":            "authorities: {a: {}}\nkeys: [a]",
		"use":                  "authorities: {a: {}}\ncertificates: {b: {by: a, use: [anything]}}",
		"host":                 "authorities: {a: {}}\ncertificates: {b: {by: a, hosts: [\"etcd:2379\"]}}",
		"uri":                  "authorities: {a: {}}\ncertificates: {b: {by: a, uri: weather}}",
		"days":                 "authorities: {a: {days: -1}}",
		"trusts nobody":        "trust: {a: []}",
	} {
		if _, err := certs.Parse([]byte(text)); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
