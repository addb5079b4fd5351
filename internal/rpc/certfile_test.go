package rpc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writeCert writes a certificate of its own issue with a serial, and its key.
func writeCert(t *testing.T, dir string, serial int64, at time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestARenewedCertificateCountsWithoutARestart(t *testing.T) {
	t.Parallel()
	dir, begin := t.TempDir(), time.Now()
	now := begin
	f, err := NewCertFile("/nowhere/tls.crt", "/nowhere/tls.key", time.Now)
	if err == nil {
		t.Fatalf("files that aren't there: %v", f)
	}
	cert, key := writeCert(t, dir, 1, begin)
	if f, err = NewCertFile(cert, key, func() time.Time { return now }); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"localhost": true, "evil.example.com": false, "127.0.0.1": false, "": false} {
		if f.Names(host) != want {
			t.Errorf("names %q: %t", host, !want)
		}
	}
	serial := func() int64 {
		t.Helper()
		c, err := f.Config().GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber.Int64()
	}
	writeCert(t, dir, 2, begin.Add(time.Second))
	if got := serial(); got != 1 {
		t.Errorf("looked at the files at every handshake: %d", got)
	}
	now = now.Add(certLook)
	if got := serial(); got != 2 {
		t.Errorf("serial %d, want the renewed one", got)
	}
	if err := os.WriteFile(cert, []byte("half a certifi"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(certLook)
	if got := serial(); got != 2 {
		t.Errorf("serial %d in the middle of a renewal", got)
	}
	if f.Config().MinVersion != tls.VersionTLS13 {
		t.Error("less than TLS 1.3 is spoken")
	}
}
