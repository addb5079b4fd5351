package peers_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/fleet/peers"
	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/controlplane/identityapi"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store/memstore"
	peerv1 "github.com/agentry/agentry/gen/agentry/peer/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/rpc"
	"github.com/agentry/agentry/internal/secret"
)

// patience is how long anything may take on a machine that has much to do.
const patience = 20 * time.Second

// world is a store with replicas that share it, and an authority.
type world struct {
	t     *testing.T
	store *memstore.Store
	kek   secret.KEK
}

func newWorld(t *testing.T) *world {
	t.Helper()
	kek, err := secret.CreateFileKEK(filepath.Join(t.TempDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: memstore.New(), kek: kek}
	t.Cleanup(func() { _ = w.store.Close() })
	return w
}

// replica is a fleet table with its links, behind a real door.
type replica struct {
	t         *testing.T
	id        string
	table     *fleet.Table
	peers     *peers.Peers
	authority *identity.Authority
	srv       *grpc.Server
	address   string
	stop      func() // once; a crash as far as others see: nothing is told first

	mu        sync.Mutex // guards what follows
	clusterID string
	displaced []fleet.Key
	dropped   []snapshot.InstanceID
}

func (w *world) authority(id string) *identity.Authority {
	w.t.Helper()
	a, err := identity.Open(w.t.Context(), identity.Config{
		Store: w.store, Logger: slog.New(slog.DiscardHandler), KEK: w.kek, TrustDomain: "example.org", ReplicaID: id,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// replica starts one. tune may be nil.
func (w *world) replica(id string, tune func(*peers.Config)) *replica {
	w.t.Helper()
	r := &replica{t: w.t, id: id, authority: w.authority(id), clusterID: "c"}
	var err error
	if r.table, err = fleet.New(fleet.Config{Started: time.Now(), Greeted: true, Replica: id}); err != nil {
		w.t.Fatal(err)
	}
	door, err := identityapi.NewDoor(identityapi.DoorConfig{Authority: r.authority})
	if err != nil {
		w.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if r.srv, err = rpc.NewServer(rpc.Config{Logger: log, Auth: door.Authenticate, Credentials: door.Credentials()}); err != nil {
		w.t.Fatal(err)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(w.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	r.address = ln.Addr().String()
	cfg := peers.Config{
		Logger: log, Store: w.store, Leases: w.store, Fleet: r.table, TLS: r.authority.PeerTLS, Caller: door.ReplicaOf,
		Self:     peers.Record{ID: id, Version: "v1", People: "people-" + id + ":1", Runtime: r.address, Started: time.Now()},
		Revision: func() int64 { return 7 },
		Cluster:  func() string { r.mu.Lock(); defer r.mu.Unlock(); return r.clusterID },
		Displace: func(k fleet.Key) {
			r.mu.Lock()
			r.displaced = append(r.displaced, k)
			r.mu.Unlock()
			r.table.Leave(k, fleet.Lost, time.Now())
		},
		Drop:  func(i snapshot.InstanceID) { r.mu.Lock(); defer r.mu.Unlock(); r.dropped = append(r.dropped, i) },
		Batch: 5 * time.Millisecond, Alive: 50 * time.Millisecond, RetryMin: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond,
	}
	if tune != nil {
		tune(&cfg)
	}
	if r.peers, err = peers.Open(w.t.Context(), cfg); err != nil {
		w.t.Fatal(err)
	}
	peerv1.RegisterPeerServiceServer(r.srv, r.peers)
	ctx, cancel := context.WithCancel(context.Background())
	served, ran := make(chan error, 1), make(chan error, 1)
	go func() { served <- r.srv.Serve(ln) }()
	go func() { ran <- r.peers.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		r.srv.Stop()
		cancel()
		err := <-served
		if errors.Is(err, grpc.ErrServerStopped) {
			err = nil
		}
		if err := errors.Join(err, <-ran); err != nil {
			w.t.Error(err)
		}
		r.peers.Wait()
	})
	w.t.Cleanup(r.stop)
	return r
}

func (r *replica) hello(instance string) fleet.Key {
	return r.table.Hello(fleet.Hello{
		ID: snapshot.InstanceID{Namespace: "ns", Agent: "a", Instance: instance}, Version: "v1", Labels: map[string]string{"zone": "z"},
		Endpoints: []string{"http://" + instance}, Capabilities: []string{"c"},
	}, time.Now()).Key
}

func ref(n int64) fleet.Ref {
	return fleet.Ref{Revision: n, Token: manifest.Token{Epoch: 1, Generation: n, Hash: manifest.Sum([]byte{byte(n)})}}
}

// sees gives what a replica knows of an instance; the zero value if nothing.
func (r *replica) sees(instance string) fleet.Instance {
	for _, i := range r.table.Agent("ns", "a") {
		if i.ID.Instance == instance {
			return i
		}
	}
	return fleet.Instance{}
}

// at says where a replica sees an instance connected; "" nowhere.
func (r *replica) at(instance string) string {
	if i := r.sees(instance); i.Connected {
		return i.Replica
	}
	return ""
}

func (r *replica) linked(n int) func() bool {
	return func() bool { return r.peers.Links()[peers.Linked] == n }
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		<-tick.C
	}
}

// never checks that something doesn't hold for a while.
func never(t *testing.T, what string, holds func() bool) {
	t.Helper()
	end := time.Now().Add(300 * time.Millisecond)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(end) {
		if holds() {
			t.Fatal(what)
		}
		<-tick.C
	}
}

// dial opens a link by hand.
func (w *world) dial(to *replica, cfg *tls.Config) peerv1.PeerService_LinkClient {
	w.t.Helper()
	conn, err := rpc.Dial(to.address, rpc.DialConfig{TLS: cfg})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	stream, err := peerv1.NewPeerServiceClient(conn).Link(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return stream
}

func hello(cluster, replica string) *peerv1.LinkRequest {
	return &peerv1.LinkRequest{Message: &peerv1.LinkRequest_Hello{Hello: &peerv1.LinkHello{ClusterId: cluster, ReplicaId: replica, Version: "v1"}}}
}

func wantEnd(t *testing.T, stream peerv1.PeerService_LinkClient, want errs.Kind) {
	t.Helper()
	for {
		_, err := stream.Recv()
		if err == nil {
			continue
		}
		if got := errs.KindOf(rpc.FromStatus(err)); got != want {
			t.Errorf("the link ended with %v, want kind %d", err, want)
		}
		return
	}
}
