package etcdstore_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/etcdstore"
	"github.com/agentry/agentry/controlplane/store/storetest"
	"github.com/agentry/agentry/internal/errs"
)

// patience bounds waits for what must happen.
const patience = 20 * time.Second

// serverBinary builds the etcd process; the go command's cache makes the second time cheap.
func serverBinary(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "etcdserver")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/agentry/agentry/test/etcdserver")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// TestExternalConformance runs the suite against a real etcd process.
func TestExternalConformance(t *testing.T) {
	server := startServer(t, serverBinary(t), "--max-txn-ops=1024")
	storetest.Run(t, func(t *testing.T) store.Store {
		t.Helper()
		s := dial(t, etcdstore.ClientConfig{Endpoints: []string{server.addr}})
		wipe(t, s)
		return s
	})
}

func TestDialNobody(t *testing.T) {
	_, err := etcdstore.Dial(t.Context(), etcdstore.ClientConfig{Endpoints: []string{freeAddr(t)}, DialTimeout: 3 * time.Second})
	if !errs.Is(err, errs.Unavailable) {
		t.Fatalf("error %v, want Unavailable", err)
	}
	if _, err := etcdstore.Dial(t.Context(), etcdstore.ClientConfig{}); !errs.Is(err, errs.Invalid) {
		t.Fatalf("error %v, want Invalid", err)
	}
}

func TestEtcdKilledAndRestarted(t *testing.T) {
	binary := serverBinary(t)
	server := startServer(t, binary)
	s := dial(t, etcdstore.ClientConfig{Endpoints: []string{server.addr}})
	start := put(t, s, "w/0", "")
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan store.Event, 100)
	watched := make(chan error, 1)
	go func() {
		watched <- s.Watch(ctx, "w/", start, func(b store.Batch) error {
			for _, e := range b.Events {
				events <- e
			}
			return nil
		})
	}()
	want := []int64{put(t, s, "w/1", ""), put(t, s, "w/2", "")}

	server.kill(t)
	// The calls have no deadline of their own: had they waited for the store's, the kind would be Timeout.
	if _, err := s.Commit(ctx, store.Txn{Puts: []store.KV{{Key: "w/lost"}}}); !errs.Is(err, errs.Unavailable) {
		t.Errorf("commit: error %v, want Unavailable", err)
	}
	if _, err := s.Get(ctx, "w/1"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("get: error %v, want Unavailable", err)
	}
	if _, err := s.List(ctx, "w/", store.ListOptions{}); !errs.Is(err, errs.Unavailable) {
		t.Errorf("list: error %v, want Unavailable", err)
	}

	server.start(t)
	wait, stop := context.WithTimeout(ctx, patience)
	defer stop()
	for {
		_, err := s.Get(wait, "w/1")
		if err == nil {
			break
		}
		if !errs.Is(err, errs.Unavailable) {
			t.Fatalf("get after the restart: %v", err)
		}
	}
	want = append(want, put(t, s, "w/3", ""))
	for _, rev := range want {
		select {
		case e := <-events:
			if e.ModRevision != rev {
				t.Fatalf("event of revision %d, want %d", e.ModRevision, rev)
			}
		case <-wait.Done():
			t.Fatalf("no event of revision %d", rev)
		}
	}
	cancel()
	if err := <-watched; err != nil {
		t.Fatalf("watch answered %v", err)
	}
}

func TestEtcdWithLimitsOfItsOwn(t *testing.T) {
	binary := serverBinary(t)
	server := startServer(t, binary)
	s := dial(t, etcdstore.ClientConfig{Endpoints: []string{server.addr}})
	var many store.Txn
	for i := range 200 {
		many.Puts = append(many.Puts, store.KV{Key: fmt.Sprint(i)})
	}
	_, err := s.Commit(t.Context(), many)
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "--max-txn-ops") {
		t.Errorf("error %v, want Invalid that names the flag", err)
	}
	large := store.Txn{Puts: []store.KV{{Key: "a", Value: make([]byte, 3<<20)}}}
	_, err = s.Commit(t.Context(), large)
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "--max-request-bytes") {
		t.Errorf("error %v, want Invalid that names the flag", err)
	}
}

func TestEtcdOverTLS(t *testing.T) {
	binary := serverBinary(t)
	pki := newPKI(t)
	server := startServer(t, binary, "--cert="+pki.certFile, "--key="+pki.keyFile, "--client-ca="+pki.caFile)
	good := &tls.Config{RootCAs: pki.pool, Certificates: []tls.Certificate{pki.pair}, MinVersion: tls.VersionTLS12}
	s := dial(t, etcdstore.ClientConfig{Endpoints: []string{server.addr}, TLS: good})
	put(t, s, "a", "1")
	tests := map[string]*tls.Config{
		"no certificate": {RootCAs: pki.pool, MinVersion: tls.VersionTLS12},
		"unknown ca":     {RootCAs: x509.NewCertPool(), Certificates: good.Certificates, MinVersion: tls.VersionTLS12},
		"plain text":     nil,
	}
	for name, config := range tests {
		bad, err := etcdstore.Dial(t.Context(), etcdstore.ClientConfig{Endpoints: []string{server.addr}, TLS: config, DialTimeout: time.Second})
		if err == nil {
			_ = bad.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func dial(t *testing.T, cfg etcdstore.ClientConfig) *etcdstore.Store {
	t.Helper()
	s, err := etcdstore.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func wipe(t *testing.T, s store.Store) {
	t.Helper()
	page, err := s.List(t.Context(), "", store.ListOptions{KeysOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var txn store.Txn
	for _, kv := range page.KVs {
		txn.Deletes = append(txn.Deletes, kv.Key)
	}
	if _, err := s.Commit(t.Context(), txn); err != nil {
		t.Fatal(err)
	}
}

// server is an etcd process.
type server struct {
	binary, dir, addr string
	args              []string
	cmd               *exec.Cmd
}

func startServer(t *testing.T, binary string, args ...string) *server {
	t.Helper()
	s := &server{binary: binary, dir: t.TempDir(), addr: freeAddr(t), args: args}
	s.start(t)
	t.Cleanup(func() { s.kill(t) })
	return s
}

// start runs the process and waits until it says that it is ready.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), s.binary, append([]string{"--dir=" + s.dir, "--listen=" + s.addr}, s.args...)...)
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "ready\n" {
		t.Fatalf("server said %q, error %v", line, err)
	}
}

// kill ends the process as kill -9 does.
func (s *server) kill(t *testing.T) {
	t.Helper()
	if s.cmd.ProcessState != nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait() // "signal: killed"
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}

// pki is a CA with one certificate that serves both sides.
type pki struct {
	caFile, certFile, keyFile string
	pool                      *x509.CertPool
	pair                      tls.Certificate
}

func newPKI(t *testing.T) pki {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		must(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	from, until := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test ca"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	must(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "etcd"}, NotBefore: from, NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	p := pki{
		caFile: write("ca.pem", "CERTIFICATE", caDER), certFile: write("cert.pem", "CERTIFICATE", leafDER),
		keyFile: write("key.pem", "PRIVATE KEY", keyDER), pool: x509.NewCertPool(),
	}
	root, err := x509.ParseCertificate(caDER)
	must(err)
	p.pool.AddCert(root)
	p.pair, err = tls.LoadX509KeyPair(p.certFile, p.keyFile)
	must(err)
	return p
}
