package peers

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/fleet"
	peerv1 "github.com/agentry/agentry/gen/agentry/peer/v1"
	"github.com/agentry/agentry/internal/errs"
)

// answer is the link of another replica to this one: what it is told.
type answer struct {
	stream peerv1.PeerService_LinkServer
	hello  chan *peerv1.LinkHello
	ends   chan error // why it ends; the first counts
	// blocked is when a message began to wait for the peer, in nanoseconds of Config.Now; 0: none does.
	blocked atomic.Int64
}

func (a *answer) end(err error) {
	select {
	case a.ends <- err:
	default: // it ends already
	}
}

// Bounds of what goes out at once.
const (
	instancesAtOnce = 256     // copied while the table is held
	bytesAtOnce     = 1 << 20 // in one message
)

// Link answers another replica: it tells who is connected here, and takes its commands.
func (p *Peers) Link(stream peerv1.PeerService_LinkServer) error {
	id, check, ok := p.cfg.Caller(stream.Context())
	if !ok {
		return errs.New(errs.Unauthenticated, "no replica's certificate was shown")
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	a := &answer{stream: stream, hello: make(chan *peerv1.LinkHello, 1), ends: make(chan error, 1)}
	era := p.begins()
	p.telling.Go(func() { p.read(a) })
	if err := p.introduced(ctx, a, id); err != nil {
		return err
	}
	if err := p.replaces(id, a, era); err != nil {
		return err
	}
	defer p.leaves(id, a)
	p.telling.Go(func() { a.end(p.tell(ctx, a)) })
	look := time.NewTicker(p.cfg.Alive)
	defer look.Stop()
	for {
		select {
		case err := <-a.ends:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			if err := check(); err != nil {
				p.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "link of a peer is cut", slog.String("peer", id), slog.Any("error", err))
				return err
			}
			if since := a.blocked.Load(); since != 0 && p.cfg.Now().Sub(time.Unix(0, since)) > p.cfg.Silence {
				return errs.New(errs.Timeout, "the peer reads nothing for %s", p.cfg.Silence)
			}
		}
	}
}

// introduced waits for a hello that belongs to the certificate and to this control plane.
func (p *Peers) introduced(ctx context.Context, a *answer, id string) error {
	t := time.NewTimer(p.cfg.Silence)
	defer t.Stop()
	select {
	case h := <-a.hello:
		switch {
		case h.GetReplicaId() != id:
			return errs.New(errs.Denied, "the certificate is of replica %q, the hello of %q", id, h.GetReplicaId())
		case h.GetClusterId() != p.cfg.Cluster():
			return errs.New(errs.Precondition, "this is cluster %q, not %q", p.cfg.Cluster(), h.GetClusterId())
		}
		return nil
	case err := <-a.ends:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return errs.New(errs.Timeout, "no hello within %s", p.cfg.Silence)
	}
}

// replaces registers a link; an older one of the same replica ends. One that began in an era that is over by now is refused.
func (p *Peers) replaces(id string, a *answer, era int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if era != p.era.number {
		return errEnded
	}
	if old := p.answers[id]; old != nil {
		old.end(errs.New(errs.Unavailable, "a newer link of this replica came"))
	}
	p.answers[id] = a
	return nil
}

func (p *Peers) leaves(id string, a *answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers[id] == a {
		delete(p.answers, id)
	}
}

// read takes what the peer says until the link ends.
func (p *Peers) read(a *answer) {
	first := true
	for {
		m, err := a.stream.Recv()
		if err != nil {
			a.end(err)
			return
		}
		switch hello, drop := m.GetHello(), m.GetDrop(); {
		case hello != nil && first:
			a.hello <- hello
		case first, hello != nil:
			a.end(errs.New(errs.Invalid, "a hello must come first, and once"))
			return
		case drop != nil:
			p.dropped(drop)
		}
		first = false
	}
}

// tell sends everything that this replica holds and then what changes.
func (p *Peers) tell(ctx context.Context, a *answer) error {
	if err := p.send(a, &peerv1.LinkResponse{Message: &peerv1.LinkResponse_Welcome{Welcome: &peerv1.LinkWelcome{
		ClusterId: p.cfg.Cluster(), ReplicaId: p.cfg.Self.ID, Version: p.cfg.Self.Version,
	}}}); err != nil {
		return err
	}
	x := p.cfg.Fleet.Export()
	defer x.Close()
	for {
		if err := p.flush(a, x); err != nil {
			return err
		}
		pause(ctx, p.cfg.Batch)
		alive := time.NewTimer(max(p.cfg.Alive-p.cfg.Batch, time.Millisecond))
		select {
		case <-x.C:
		case <-alive.C:
		case <-ctx.Done():
		}
		alive.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// flush sends what is pending; the last message says that this was all. With nothing pending it is a sign of life.
func (p *Peers) flush(a *answer, x *fleet.Export) error {
	for {
		now := p.cfg.Now()
		d, more, err := x.Take(instancesAtOnce, now)
		if err != nil {
			return err
		}
		w := &peerv1.FleetDelta{Complete: d.Complete, ViewRevision: p.cfg.Revision(), Removed: removedToWire(d.Removed)}
		size := 0
		for _, told := range d.Upserts {
			in := instanceToWire(told, now)
			n := proto.Size(in)
			if size > 0 && size+n > bytesAtOnce {
				if err := p.send(a, delta(w)); err != nil {
					return err
				}
				w, size = &peerv1.FleetDelta{Complete: d.Complete, ViewRevision: w.GetViewRevision()}, 0
			}
			w.Upserts = append(w.Upserts, in)
			size += n
		}
		w.Synced = !more
		if err := p.send(a, delta(w)); err != nil || !more {
			return err
		}
	}
}

func delta(w *peerv1.FleetDelta) *peerv1.LinkResponse {
	return &peerv1.LinkResponse{Message: &peerv1.LinkResponse_Delta{Delta: w}}
}

// send puts one message on the wire. The handler ends the link where the peer takes it too late.
func (p *Peers) send(a *answer, m *peerv1.LinkResponse) error {
	a.blocked.Store(p.cfg.Now().UnixNano())
	defer a.blocked.Store(0)
	return a.stream.Send(m)
}
