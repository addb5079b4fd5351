package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/test/harness/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeControlPlane is a runtime door: it enrolls, renews, and keeps streams open until they are cut.
type fakeControlPlane struct {
	identityv1.UnimplementedEnrollServiceServer
	pushv1.UnimplementedConfigServiceServer

	addr string
	srv  *grpc.Server

	mu       sync.Mutex // guards what follows
	ca       *pki.CA
	tokens   map[string]bool
	life     time.Duration
	ahead    time.Duration // its clock before the test's
	refuse   codes.Code    // of Renew and streams
	enrolled int
	renewed  int
	shown    []string // serials of certificates at Renew and streams
	resumed  int
	asked    chan struct{} // a value per call
	cut      chan struct{} // closed: streams end
}

func newFake(t *testing.T) *fakeControlPlane {
	t.Helper()
	ca, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeControlPlane{
		ca: ca, tokens: map[string]bool{}, life: 24 * time.Hour, asked: make(chan struct{}, 1000), cut: make(chan struct{}),
	}
	f.start(t, "127.0.0.1:0")
	t.Cleanup(func() { f.srv.Stop() })
	return f
}

func (f *fakeControlPlane) start(t *testing.T, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	f.addr = ln.Addr().String()
	f.mu.Lock()
	leaf, err := f.ca.ControlPlane("one")
	f.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	f.srv = grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{leaf.Certificate(f.ca.Root)},
	})))
	identityv1.RegisterEnrollServiceServer(f.srv, f)
	pushv1.RegisterConfigServiceServer(f.srv, f)
	srv := f.srv
	go func() { _ = srv.Serve(ln) }()
}

// newAuthority makes it another cluster's.
func (f *fakeControlPlane) newAuthority(t *testing.T) {
	t.Helper()
	f.srv.Stop()
	ca, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.ca = ca
	f.mu.Unlock()
	f.start(t, f.addr)
}

// joinToken makes a one-time token.
func (f *fakeControlPlane) joinToken() secret.Value {
	f.mu.Lock()
	defer f.mu.Unlock()
	sum := sha256.Sum256(f.ca.Root.RawSubjectPublicKeyInfo)
	text := fmt.Sprintf("agj_token-%d.%s", len(f.tokens), hex.EncodeToString(sum[:]))
	f.tokens[text] = true
	return secret.NewValue(text)
}

func (f *fakeControlPlane) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func shownBy(ctx context.Context) (*x509.Certificate, bool) {
	p, _ := peer.FromContext(ctx)
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil, info.State.DidResume
	}
	return info.State.PeerCertificates[0], info.State.DidResume
}

// Enroll implements identityv1.EnrollServiceServer.
func (f *fakeControlPlane) Enroll(ctx context.Context, r *identityv1.EnrollRequest) (*identityv1.EnrollResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.asked <- struct{}{} }()
	shown, _ := shownBy(ctx)
	switch {
	case r.GetJoinToken() != "":
		if !f.tokens[r.GetJoinToken()] {
			return nil, status.Error(codes.Unauthenticated, "no such join token")
		}
		delete(f.tokens, r.GetJoinToken())
	case r.GetKubernetesToken() == "projected":
	case shown != nil && shown.URIs[0].Path == "/ns/default/agent/helper":
	default:
		return nil, status.Error(codes.Unauthenticated, "no proof")
	}
	f.enrolled++
	c, err := f.sign(r.GetCsr(), r.GetAgent(), r.GetInstance())
	return &identityv1.EnrollResponse{Certificate: c}, err
}

// Renew implements identityv1.EnrollServiceServer.
func (f *fakeControlPlane) Renew(ctx context.Context, r *identityv1.RenewRequest) (*identityv1.RenewResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.asked <- struct{}{} }()
	shown, _ := shownBy(ctx)
	if err := f.check(shown); err != nil {
		return nil, err
	}
	f.renewed++
	c, err := f.sign(r.GetCsr(), "helper", r.GetInstance())
	return &identityv1.RenewResponse{Certificate: c}, err
}

func (f *fakeControlPlane) check(shown *x509.Certificate) error {
	if shown == nil {
		return status.Error(codes.Unauthenticated, "no certificate")
	}
	f.shown = append(f.shown, fmt.Sprintf("%x", shown.SerialNumber))
	between, roots := x509.NewCertPool(), x509.NewCertPool()
	between.AddCert(f.ca.Issuer)
	roots.AddCert(f.ca.Root)
	if _, err := shown.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: shown.NotAfter}); err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if f.refuse != codes.OK {
		return status.Error(f.refuse, "refused")
	}
	return nil
}

func (f *fakeControlPlane) sign(csr []byte, agent, instance string) (*identityv1.Certificate, error) {
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, err
	}
	key, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, status.Error(codes.InvalidArgument, "not an ECDSA key")
	}
	now := time.Now().Add(f.ahead)
	chain, err := f.ca.Sign("/ns/default/agent/"+agent, instance, key, now.Add(-2*time.Hour), f.ahead+f.life+time.Second) // whole seconds
	if err != nil {
		return nil, err
	}
	return &identityv1.Certificate{
		Chain: chain, Roots: [][]byte{f.ca.Root.Raw}, NotAfter: timestamppb.New(now.Add(f.life)), Now: timestamppb.New(now),
	}, nil
}

// Stream implements pushv1.ConfigServiceServer: it stays open until it is cut.
func (f *fakeControlPlane) Stream(s grpc.BidiStreamingServer[pushv1.StreamRequest, pushv1.StreamResponse]) error {
	shown, resumed := shownBy(s.Context())
	f.mu.Lock()
	err, cut := f.check(shown), f.cut
	if resumed {
		f.resumed++
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.Send(&pushv1.StreamResponse{}); err != nil {
		return err
	}
	select {
	case <-cut:
		return status.Error(codes.PermissionDenied, "revoked")
	case <-s.Context().Done():
		return nil
	}
}

// memory is a Store.
type memory struct {
	mu       sync.Mutex
	document []byte
	key      secret.Value
	fault    error
}

// LoadIdentity implements Store.
func (m *memory) LoadIdentity() ([]byte, secret.Value, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.document == nil {
		return nil, secret.Value{}, errs.New(errs.NotFound, "none")
	}
	return m.document, m.key, nil
}

// SaveIdentity implements Store.
func (m *memory) SaveIdentity(document []byte, key secret.Value) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault == nil {
		m.document, m.key = document, key
	}
	return m.fault
}

func (m *memory) set(fault error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = fault
}

// quick waits little.
func quick() pace {
	return pace{
		call: 5 * time.Second, retryMin: 2 * time.Millisecond, retryMax: 20 * time.Millisecond, look: 5 * time.Millisecond,
		first: 5 * time.Second, doubt: 30 * time.Second,
	}
}

func config(f *fakeControlPlane, store Store, proof Proof) Config {
	return Config{
		Namespace: "default", Agent: "helper", Instance: "helper-1", Addresses: []string{f.addr}, Proof: proof, Store: store,
		Log: slog.New(slog.DiscardHandler), pace: quick(),
	}
}

// start runs a Keeper until the test ends, or stop is called.
func start(t *testing.T, cfg Config) (k *Keeper, stop func()) {
	t.Helper()
	k, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return k, stop
}

// until waits for a condition on the status.
func until(t *testing.T, k *Keeper, what string, holds func(Status) bool) Status {
	t.Helper()
	tick, limit := time.NewTicker(time.Millisecond), time.NewTimer(20*time.Second)
	defer tick.Stop()
	defer limit.Stop()
	for {
		st := k.Status()
		if holds(st) {
			return st
		}
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("not %s: %+v", what, st)
		}
	}
}

func has(st Status) bool { return st.Serial != "" }

// stream opens a stream as the config client does and gives how it ended, once it has.
func stream(t *testing.T, k *Keeper, addr string) (opened bool, ended <-chan error, closeConn func()) {
	t.Helper()
	conn, err := k.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	closeConn = sync.OnceFunc(func() { cancel(); _ = conn.Close() })
	t.Cleanup(closeConn)
	s, err := pushv1.NewConfigServiceClient(conn).Stream(ctx)
	if err == nil {
		_, err = s.Recv()
	}
	if err != nil {
		end <- err
		return false, end, closeConn
	}
	go func() {
		_, err := s.Recv()
		end <- err
	}()
	return true, end, closeConn
}

func sortedKeys(m map[string]bool) []string { return slices.Sorted(maps.Keys(m)) }

func pkcs8(key *ecdsa.PrivateKey) ([]byte, error) { return x509.MarshalPKCS8PrivateKey(key) }
