// Package peers links the fleet tables of the replicas of one control plane (semantics.md 11): it registers this replica under a
// lease, opens a link to every other one that is registered, hears over it who is connected there, and answers the links of the others.
// Only app imports it. What the words of a peer mean is for package fleet to say; nothing here is stored but the registration.
package peers

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/records"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	peerv1 "github.com/agentry/agentry/gen/agentry/peer/v1"
	"github.com/agentry/agentry/internal/errs"
)

// Record is what a replica says of itself where all see it, as JSON below view.ReplicaPrefix.
type Record struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	// People and Runtime are host:port at which others reach its doors.
	People  string    `json:"people"`
	Runtime string    `json:"runtime"`
	Started time.Time `json:"started"`
}

// Config is what Open needs. Durations that are zero mean the defaults; what has no default is required.
type Config struct {
	Logger *slog.Logger
	Store  store.Store
	Leases store.Leases
	Self   Record
	Fleet  *fleet.Table
	// Cluster gives the id of the control plane, Revision the store revision that this replica's view shows.
	Cluster  func() string
	Revision func() int64
	// TLS gives the settings of a connection to the replica with this id, and to no other.
	TLS func(replica string) *tls.Config
	// Caller gives the replica that opened a link, and what says whether its certificate still counts.
	Caller func(ctx context.Context) (replica string, check func() error, ok bool)
	// Displace ends a stream of this replica because a peer holds a newer one of the same instance. It returns at once.
	Displace func(fleet.Key)
	// Drop ends the retry of an instance that is connected here. It returns at once.
	Drop func(snapshot.InstanceID)
	// Now is the clock, default time.Now.
	Now func() time.Time

	TTL      time.Duration // of the registration, default 10 s
	Batch    time.Duration // between two deltas, at least; default 100 ms
	Alive    time.Duration // between two signs of life, at most; default 2 s
	Silence  time.Duration // after which a link is lost, default 6 s
	RetryMin time.Duration // before a lost link is opened again, at first; default 100 ms
	RetryMax time.Duration // and at most; default 3 s
	// Options are added to every connection, for tests.
	Options []grpc.DialOption
}

// Peers is this replica among the others. All methods are safe for concurrent use.
type Peers struct {
	peerv1.UnimplementedPeerServiceServer

	cfg   Config
	table *records.Table[Record]

	mu      sync.Mutex // guards what follows
	links   map[string]*link
	answers map[string]*answer // the links of others, by replica
	era     era

	following sync.WaitGroup // links; added to by Run alone
	telling   sync.WaitGroup // readers and senders of answers
}

var _ peerv1.PeerServiceServer = (*Peers)(nil)

// Open reads who is registered. Run registers this replica and links it.
func Open(ctx context.Context, cfg Config) (*Peers, error) {
	switch {
	case cfg.Logger == nil || cfg.Store == nil || cfg.Leases == nil || cfg.Fleet == nil || cfg.Self.ID == "" || cfg.Self.Runtime == "":
		return nil, errs.New(errs.Invalid, "peers: logger, store, leases, fleet and who this replica is are required")
	case cfg.Cluster == nil || cfg.Revision == nil || cfg.TLS == nil || cfg.Caller == nil || cfg.Displace == nil || cfg.Drop == nil:
		return nil, errs.New(errs.Invalid, "peers: something required is missing")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.TTL = cmp.Or(cfg.TTL, 10*time.Second)
	cfg.Batch = cmp.Or(cfg.Batch, 100*time.Millisecond)
	cfg.Alive = cmp.Or(cfg.Alive, 2*time.Second)
	cfg.Silence = cmp.Or(cfg.Silence, 6*time.Second)
	cfg.RetryMin = cmp.Or(cfg.RetryMin, 100*time.Millisecond)
	cfg.RetryMax = cmp.Or(cfg.RetryMax, 3*time.Second)
	p := &Peers{cfg: cfg, links: map[string]*link{}, answers: map[string]*answer{}}
	var err error
	p.table, err = records.Open(ctx, records.Config[Record]{Store: cfg.Store, Prefix: view.ReplicaPrefix, Decode: decode, Logger: cfg.Logger})
	return p, err
}

func decode(key string, value []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(value, &r); err != nil {
		return r, errs.New(errs.Invalid, "replica %s: %w", key, err)
	}
	if r.ID != key || r.Runtime == "" {
		return r, errs.New(errs.Invalid, "replica %s calls itself %q at %q", key, r.ID, r.Runtime)
	}
	return r, nil
}

// Run registers this replica and keeps its links until ctx ends (nil); then the registration is taken back at once. It outlives an
// unavailable store. It may be called once.
func (p *Peers) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var others sync.WaitGroup
	others.Go(func() { p.register(ctx) })
	done := make(chan error, 1)
	others.Go(func() { done <- p.table.Run(ctx) })
	defer p.following.Wait()
	defer others.Wait()
	for {
		changed := p.table.Changed()
		p.look(ctx)
		select {
		case <-changed:
		case err := <-done:
			stop()
			return err
		}
	}
}

// look tells the fleet who is registered and opens links to those that are new.
func (p *Peers) look(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	rows, _ := p.table.All()
	ids := make([]string, 0, len(rows))
	for id := range rows {
		if id == p.cfg.Self.ID {
			continue
		}
		ids = append(ids, id)
		if p.links[id] == nil {
			l := newLink(id)
			p.links[id] = l
			p.following.Go(func() { p.follow(ctx, l) })
		}
	}
	p.cfg.Fleet.Peers(ids, p.cfg.Now())
}

// Wait waits for what answered links that have ended. It is called once the server has stopped.
func (p *Peers) Wait() { p.telling.Wait() }
