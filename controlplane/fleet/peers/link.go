package peers

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	peerv1 "github.com/agentry/agentry/gen/agentry/peer/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
)

// maxDrops bounds the commands on their way to one peer. Those beyond it are lost, and asked for again.
const maxDrops = 256

// State is how a link stands.
type State string

// The states of a link.
const (
	Down    State = "down"
	Syncing State = "syncing" // it is open, and not everything was told yet
	Linked  State = "linked"
)

// link is what this replica hears of one peer. Peers.mu guards what isn't constant.
type link struct {
	id    string
	drops chan *peerv1.Drop

	cancel   context.CancelCauseFunc // ends it; nil: it isn't open
	state    State
	revision int64 // of the peer's view
	complete bool
	since    time.Time // of the state
}

func newLink(id string) *link {
	return &link{id: id, drops: make(chan *peerv1.Drop, maxDrops), state: Down}
}

// follow keeps a link open as long as its replica is registered. One that is up outlives the registration.
func (p *Peers) follow(ctx context.Context, l *link) {
	wait, warned := p.cfg.RetryMin, false
	for {
		p.mu.Lock()
		row, ok := p.table.Get(l.id)
		if !ok || ctx.Err() != nil {
			delete(p.links, l.id)
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		err := p.hear(ctx, l, row.Value)
		now := p.cfg.Now()
		p.cfg.Fleet.LinkLost(l.id, now)
		was := p.became(l, Down)
		if ctx.Err() != nil {
			continue
		}
		level := slog.LevelDebug // a replica that died is registered for some seconds more
		switch _, registered := p.table.Get(l.id); {
		case !registered: // it stopped
			level = slog.LevelInfo
		case errors.Is(err, errEnded):
			level, wait = slog.LevelInfo, p.cfg.RetryMin
		case was == Linked:
			level, wait, warned = slog.LevelWarn, p.cfg.RetryMin, false
		case wait == p.cfg.RetryMax && !warned:
			level, warned = slog.LevelWarn, true
		}
		p.cfg.Logger.LogAttrs(ctx, level, "peer isn't heard", slog.String("peer", l.id), slog.String("address", row.Value.Runtime), slog.Any("error", err))
		pause(ctx, jitter(wait))
		wait = min(2*wait, p.cfg.RetryMax)
	}
}

func (p *Peers) became(l *link, s State) (was State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was = l.state
	if was != s {
		l.state, l.since = s, p.cfg.Now()
	}
	return was
}

// opened says how the link is ended from outside, before anything is said over it.
func (p *Peers) opened(l *link, cancel context.CancelCauseFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.cancel = cancel
}

// hear opens the link and takes what the peer tells until it ends.
func (p *Peers) hear(ctx context.Context, l *link, to Record) error {
	opts := append([]grpc.DialOption{grpc.WithNoProxy()}, p.cfg.Options...)
	conn, err := rpc.Dial(to.Runtime, rpc.DialConfig{TLS: p.cfg.TLS(l.id), UserAgent: "agentry-controlplane", Options: opts})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.opened(l, cancel)
	defer p.opened(l, nil)
	silence := time.AfterFunc(p.cfg.Silence, func() {
		cancel(errs.New(errs.Timeout, "the peer said nothing for %s", p.cfg.Silence))
	})
	defer silence.Stop()
	stream, err := peerv1.NewPeerServiceClient(conn).Link(ctx)
	if err != nil {
		return cause(ctx, err)
	}
	if err := stream.Send(&peerv1.LinkRequest{Message: &peerv1.LinkRequest_Hello{Hello: &peerv1.LinkHello{
		ClusterId: p.cfg.Cluster(), ReplicaId: p.cfg.Self.ID, Version: p.cfg.Self.Version,
	}}}); err != nil {
		return cause(ctx, err)
	}
	m, err := stream.Recv()
	if err != nil {
		return cause(ctx, err)
	}
	if w := m.GetWelcome(); w.GetReplicaId() != l.id || w.GetClusterId() != p.cfg.Cluster() {
		return errs.New(errs.Precondition, "the peer is replica %q of cluster %q", w.GetReplicaId(), w.GetClusterId())
	}
	p.became(l, Syncing)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		l.send(ctx, stream)
	}()
	err = p.deltas(l, stream, silence)
	err = cause(ctx, err)
	cancel(nil)
	<-sent
	return err
}

// cause tells why a call ended: by silence rather than by what that did to it.
func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); why != nil && !errors.Is(why, context.Canceled) {
		return why
	}
	return rpc.FromStatus(err)
}

// deltas takes what changed at the peer.
func (p *Peers) deltas(l *link, stream peerv1.PeerService_LinkClient, silence *time.Timer) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		silence.Reset(p.cfg.Silence)
		w := m.GetDelta()
		if w == nil {
			continue // a kind of message that this release doesn't know
		}
		if err := p.behind(w.GetViewRevision()); err != nil {
			return err
		}
		now := p.cfg.Now()
		d, err := deltaOf(w, now)
		if err != nil {
			return err
		}
		for _, k := range p.cfg.Fleet.Heard(l.id, d, now) {
			p.cfg.Displace(k)
		}
		p.mu.Lock()
		l.revision, l.complete = w.GetViewRevision(), w.GetComplete()
		p.mu.Unlock()
		if d.Synced && p.became(l, Linked) != Linked {
			p.cfg.Logger.LogAttrs(stream.Context(), slog.LevelInfo, "peer is heard", slog.String("peer", l.id))
		}
	}
}

// send sends the commands to the peer until the link ends.
func (l *link) send(ctx context.Context, stream peerv1.PeerService_LinkClient) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-l.drops:
			if err := stream.Send(&peerv1.LinkRequest{Message: &peerv1.LinkRequest_Drop{Drop: d}}); err != nil {
				return // the reader tells why
			}
		}
	}
}
