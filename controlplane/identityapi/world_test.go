package identityapi_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/controlplane/identityapi"
	"github.com/agentry/agentry/controlplane/store/memstore"
	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
	"github.com/agentry/agentry/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const day = 24 * time.Hour

// world is a runtime door on a real port: a real authority, the real services, and a push service that says who calls.
type world struct {
	t         *testing.T
	authority *identity.Authority
	service   *identityapi.Service
	address   string
	kube      attest
	pop       *x509.CertPool
	log       *recorder

	mu        sync.Mutex // guards what follows
	skew      time.Duration
	connected map[string]bool
	resumed   bool
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.skew)
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.skew += d
}

// attest is an Attestor that knows one token.
type attest func(token string) (identity.Attested, error)

// Attest asks the function.
func (f attest) Attest(_ context.Context, token secret.Value) (identity.Attested, error) {
	return f(token.Reveal())
}

// recorder keeps events.
type recorder struct {
	mu     sync.Mutex
	events []audit.Event
}

// Record keeps one.
func (r *recorder) Record(e audit.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) last() audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) == 0 {
		return audit.Event{}
	}
	return r.events[len(r.events)-1]
}

// push answers a stream with who opened it.
type push struct {
	pushv1.UnimplementedConfigServiceServer

	w *world
}

// Stream says who calls, by the field that a welcome has for the replica.
func (p *push) Stream(s grpc.BidiStreamingServer[pushv1.StreamRequest, pushv1.StreamResponse]) error {
	peer, _ := identityapi.PeerOf(s.Context())
	who, _ := access.From(s.Context())
	return s.Send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Welcome{Welcome: &pushv1.Welcome{
		ReplicaId: who.Name + " " + peer.Namespace + "/" + peer.Agent + "/" + peer.Instance,
	}}})
}

func newWorld(t *testing.T, tune func(*world)) *world {
	t.Helper()
	w := &world{t: t, log: &recorder{}, connected: map[string]bool{}}
	if tune != nil {
		tune(w)
	}
	kek, err := secret.CreateFileKEK(filepath.Join(t.TempDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s := memstore.New()
	w.authority, err = identity.Open(t.Context(), identity.Config{
		Store: s, Logger: log, KEK: kek, TrustDomain: "example.org", ReplicaID: "r1", Now: w.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	door, err := identityapi.NewDoor(identityapi.DoorConfig{Authority: w.authority, Possession: w.pop, Audit: w.log, Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	cfg := identityapi.EnrollConfig{Logger: log, Authority: w.authority, Audit: w.log, Now: w.now}
	if w.kube != nil {
		cfg.Kubernetes = w.kube
	}
	enroll, err := identityapi.NewEnroll(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.service, err = identityapi.New(identityapi.Config{Authority: w.authority, Connected: func(namespace, agent, instance string) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.connected[namespace+"/"+agent+"/"+instance]
	}})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := rpc.NewServer(rpc.Config{Logger: log, Auth: door.Authenticate, Credentials: door.Credentials()})
	if err != nil {
		t.Fatal(err)
	}
	identityv1.RegisterEnrollServiceServer(srv, enroll)
	pushv1.RegisterConfigServiceServer(srv, &push{w: w})
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served, ran := make(chan error, 1), make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	go func() { ran <- w.authority.Run(ctx) }()
	t.Cleanup(func() {
		srv.Stop()
		cancel()
		err := <-served
		if errors.Is(err, grpc.ErrServerStopped) { // a test that was over before it began to serve
			err = nil
		}
		if err := errors.Join(err, <-ran, s.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

// bearer is what an instance holds.
type bearer struct {
	key  *ecdsa.PrivateKey
	cert *identityv1.Certificate
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func csrOf(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// dial connects with a certificate; nil: with none. The server is verified by the authority's roots.
func (w *world) dial(chain [][]byte, key *ecdsa.PrivateKey, sessions tls.ClientSessionCache) *grpc.ClientConn {
	w.t.Helper()
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13, ClientSessionCache: sessions, ServerName: "runtime",
		InsecureSkipVerify: true, // as in agentd, the SPIFFE id is verified instead of a host name
		VerifyConnection: func(cs tls.ConnectionState) error {
			w.mu.Lock()
			w.resumed = cs.DidResume
			w.mu.Unlock()
			roots, between := x509.NewCertPool(), x509.NewCertPool()
			for _, r := range w.authority.Roots() {
				c, err := x509.ParseCertificate(r.DER)
				if err != nil {
					return err
				}
				roots.AddCert(c)
			}
			for _, c := range cs.PeerCertificates[1:] {
				between.AddCert(c)
			}
			if got := cs.PeerCertificates[0].URIs[0].String(); got != "spiffe://example.org/cp/r1" {
				return errors.New(got)
			}
			_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: w.now()})
			return err
		},
	}
	if chain != nil {
		cfg.Certificates = []tls.Certificate{{Certificate: chain, PrivateKey: key}}
	}
	conn, err := rpc.Dial(w.address, rpc.DialConfig{TLS: cfg})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (w *world) as(b *bearer) *grpc.ClientConn {
	w.t.Helper()
	if b == nil {
		return w.dial(nil, nil, nil)
	}
	return w.dial(b.cert.GetChain(), b.key, nil)
}

// token makes a join token.
func (w *world) token(namespace, agent string) string {
	w.t.Helper()
	_, text, err := w.authority.CreateJoinToken(w.t.Context(), namespace, agent, 0, "user:ada")
	if err != nil {
		w.t.Fatal(err)
	}
	return text.Reveal()
}

// join enrolls an instance by a new token.
func (w *world) join(namespace, agent, instance string) *bearer {
	w.t.Helper()
	b := &bearer{key: newKey(w.t)}
	r, err := identityv1.NewEnrollServiceClient(w.as(nil)).Enroll(w.t.Context(), &identityv1.EnrollRequest{
		Proof:     &identityv1.EnrollRequest_JoinToken{JoinToken: w.token(namespace, agent)},
		Namespace: namespace, Agent: agent, Instance: instance, Csr: csrOf(w.t, b.key),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	b.cert = r.GetCertificate()
	return b
}

// who opens a stream and gives what the door takes the caller for.
func who(ctx context.Context, conn *grpc.ClientConn) (string, error) {
	s, err := pushv1.NewConfigServiceClient(conn).Stream(ctx)
	if err != nil {
		return "", err
	}
	m, err := s.Recv()
	if err != nil {
		return "", rpc.FromStatus(err)
	}
	return m.GetWelcome().GetReplicaId(), nil
}

func wantKind(t *testing.T, what string, err error, want errs.Kind) {
	t.Helper()
	if got := errs.KindOf(rpc.FromStatus(err)); err == nil || got != want {
		t.Errorf("%s: %v, want kind %d", what, err, want)
	}
}

// plain connects without TLS.
func (w *world) plain() *grpc.ClientConn {
	w.t.Helper()
	conn, err := rpc.Dial(w.address, rpc.DialConfig{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func errFrom(err error) error { return rpc.FromStatus(err) }
