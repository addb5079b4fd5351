package etcdstore

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/agentry/agentry/internal/errs"
)

const (
	// probeEvery is how often a member that answered nothing else is asked for a linearizable read, and probeWithin how long it
	// may take: together they bound how long a call waits at a member that hangs.
	probeEvery  = 500 * time.Millisecond
	probeWithin = 1500 * time.Millisecond
	// searchPause is between two looks for a member that answers, while none does.
	searchPause = 100 * time.Millisecond
)

// route chooses the member that the clients talk to. Its run owns the choice.
type route struct {
	cfg     ClientConfig
	clients []*clientv3.Client // set before run; the last is the lighter one, which probes go by
	kick    chan struct{}      // a call failed: look now

	mu    sync.Mutex // guards what follows
	at    int        // index of the member in cfg.Endpoints
	stay  stay
	heard time.Time // when the member answered last
}

func newRoute(cfg ClientConfig) *route {
	r := &route{cfg: cfg, kick: make(chan struct{}, 1), at: rand.N(len(cfg.Endpoints))} //nolint:gosec // spreads load, no secret
	r.stay = newStay()
	return r
}

// stay is how long one member is the chosen one.
type stay struct {
	end   context.CancelFunc
	onEnd func(cancel func()) (stop func() bool)
	ended func() bool
}

func newStay() stay {
	ctx, end := context.WithCancel(context.Background())
	return stay{
		end:   end,
		onEnd: func(cancel func()) func() bool { return context.AfterFunc(ctx, cancel) },
		ended: func() bool { return ctx.Err() != nil },
	}
}

func (r *route) current() stay {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stay
}

func (r *route) endpoint() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cfg.Endpoints[r.at]
}

// run looks after the member until ctx ends.
func (r *route) run(ctx context.Context) {
	defer func() { r.current().end() }()
	if len(r.cfg.Endpoints) == 1 {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if r.heardWithin(probeEvery) {
				continue
			}
		case <-r.kick:
		}
		for !r.settle(ctx) {
			timer := time.NewTimer(searchPause)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
		}
	}
}

// settle asks the member, and where it doesn't answer the others; it reports whether one does.
func (r *route) settle(ctx context.Context) bool {
	err := probe(ctx, r.clients[len(r.clients)-1])
	if err == nil {
		r.answered()
		return true
	}
	next, found := r.search(ctx)
	if !found {
		return false
	}
	r.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "etcd member left for another one", slog.String("left", r.endpoint()),
		slog.String("for", r.cfg.Endpoints[next]), slog.Any("error", err))
	r.move(next)
	return true
}

// search asks all other members at once and gives the first that answers.
func (r *route) search(ctx context.Context) (int, bool) {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	r.mu.Lock()
	at := r.at
	r.mu.Unlock()
	answers := make(chan int, len(r.cfg.Endpoints))
	for i, endpoint := range r.cfg.Endpoints {
		if i == at {
			continue
		}
		asking.Go(func() {
			answer := -1
			if r.probeOther(ctx, endpoint) == nil {
				answer = i
			}
			answers <- answer
		})
	}
	for range len(r.cfg.Endpoints) - 1 {
		if i := <-answers; i >= 0 {
			return i, true
		}
	}
	return 0, false
}

// probeOther asks a member over a connection of its own.
func (r *route) probeOther(ctx context.Context, endpoint string) error {
	client, err := newClient(r.cfg, endpoint, nil)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	return probe(ctx, client)
}

// probe asks for a linearizable read: a member without a quorum can't give it. A refusal is an answer.
func probe(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), probeWithin)
	defer cancel()
	_, err := client.Get(ctx, "\x00", clientv3.WithKeysOnly())
	if err == nil {
		return nil
	}
	switch kindOf(err) {
	case errs.Denied, errs.Unauthenticated:
		return nil
	default:
		return err
	}
}

// move sends everything from now on to another member and ends what is under way at the present one.
func (r *route) move(to int) {
	r.mu.Lock()
	left := r.stay
	r.at, r.heard, r.stay = to, time.Now(), newStay()
	r.mu.Unlock()
	for _, c := range r.clients {
		c.SetEndpoints(r.cfg.Endpoints[to])
	}
	left.end()
}

func (r *route) answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = time.Now()
}

func (r *route) heardWithin(d time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.heard) < d
}

// here gives a ctx that ends with the choice of the member.
func (r *route) here(ctx context.Context) (_ context.Context, done func(), moved func() bool) {
	here := r.current()
	bound, cancel := context.WithCancel(ctx)
	stop := here.onEnd(cancel)
	return bound, func() { stop(); cancel() }, func() bool { return ctx.Err() == nil && here.ended() }
}

// unary is around every call: it ends with the choice of the member, doesn't wait for a connection, and notes whether it left this
// process at all.
func (r *route) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	bound, done, moved := r.here(ctx)
	defer done()
	var to peer.Peer
	err := invoke(bound, method, req, reply, cc, append(opts, grpc.WaitForReady(false), grpc.Peer(&to))...)
	switch {
	case err == nil:
		r.answered()
		return nil
	case moved() && status.Code(err) == codes.Canceled:
		err = errMoved()
	case status.Code(err) == codes.Unavailable:
		r.look()
	}
	if to.Addr == nil {
		neverSent(ctx)
	}
	return err
}

func errMoved() error {
	return status.Error(codes.Unavailable, "the member that was asked doesn't answer; another one is asked from now on")
}

// look has run look after the member at once.
func (r *route) look() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// stream ends every stream with the choice of the member, in a manner after which the client opens it anew.
func (r *route) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	bound, done, moved := r.here(ctx)
	s, err := open(bound, desc, cc, method, append(opts, grpc.WaitForReady(false))...)
	if err != nil {
		done()
		r.look()
		return nil, err
	}
	return &movable{ClientStream: s, done: done, moved: moved, look: r.look}, nil
}

// movable is a stream that ends with the choice of the member.
type movable struct {
	grpc.ClientStream
	done  func()
	moved func() bool
	look  func()
}

// RecvMsg implements grpc.ClientStream. After an error there is nothing more to receive.
func (m *movable) RecvMsg(into any) error {
	err := m.ClientStream.RecvMsg(into)
	if err == nil {
		return nil
	}
	if m.moved() {
		err = errMoved()
	} else if status.Code(err) == codes.Unavailable {
		m.look()
	}
	m.done()
	return err
}
