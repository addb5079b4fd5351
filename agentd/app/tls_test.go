package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeCert writes a certificate for 127.0.0.1 that signs itself, with its key, and gives those who trust it.
func writeCert(t *testing.T, dir string) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	cert, key, roots = filepath.Join(dir, "door.pem"), filepath.Join(dir, "door.key"), x509.NewCertPool()
	roots.AppendCertsFromPEM(chain)
	for path, b := range map[string][]byte{cert: chain, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key, roots
}

// With a certificate the door listens where others reach it, speaks TLS only, and says so in its endpoint.
func TestRunWithTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key, roots := writeCert(t, dir)
	infoFile := filepath.Join(dir, "info.json")
	env := func(name string) string {
		return map[string]string{"AGENT_NAME": "helper", "HOME": dir, "AGENTD_JOIN_TOKEN": joinToken, "AGENTD_TLS_CERT": cert, "AGENTD_TLS_KEY": key}[name]
	}
	args := []string{"--listen", "0.0.0.0:0", "--control-plane", "127.0.0.1:1", "--state-dir", filepath.Join(dir, "state"), "--info-file", infoFile}
	cfg, err := ParseConfig(args, env, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, io.Discard) }()
	var i info
	deadline, tick := time.After(20*time.Second), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i.Address == "" {
		select {
		case <-tick.C:
			if b, err := os.ReadFile(infoFile); err == nil {
				if err := json.Unmarshal(b, &i); err != nil {
					t.Fatal(err)
				}
			}
		case err := <-done:
			t.Fatalf("ended: %v", err)
		case <-deadline:
			t.Fatal("no info file")
		}
	}
	_, port, err := net.SplitHostPort(i.Address)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	type seen struct {
		StatusCode, ProtoMajor int
		TLS                    *tls.ConnectionState
	}
	get := func(scheme, path string) (seen, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, scheme+"://127.0.0.1:"+port+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return seen{}, err
		}
		defer func() { _ = resp.Body.Close() }()
		return seen{resp.StatusCode, resp.ProtoMajor, resp.TLS}, nil
	}
	if resp, err := get("https", "/healthz"); err != nil || resp.StatusCode != http.StatusOK || resp.TLS.Version != tls.VersionTLS13 || resp.ProtoMajor != 2 {
		t.Errorf("%+v, %v", resp, err)
	}
	if resp, err := get("https", "/v1/models"); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%+v, %v", resp, err)
	}
	if resp, err := get("http", "/healthz"); err == nil && resp.StatusCode == http.StatusOK {
		t.Error("answered in plain")
	}
	if got := (&daemon{cfg: cfg, address: i.Address}).endpoint(); got != "https://"+i.Address {
		t.Errorf("endpoint %s", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("ended with %v", err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), cfg, io.Discard); err == nil || !strings.Contains(err.Error(), "--tls-cert") {
		t.Errorf("without its key: %v", err)
	}
}
