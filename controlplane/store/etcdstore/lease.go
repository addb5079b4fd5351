package etcdstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

var _ store.Leases = (*Store)(nil)

const (
	// renewals is how often within a ttl the lease is renewed, and renewPause the least time between two tries.
	renewals   = 3
	renewPause = 200 * time.Millisecond
	// revokeWithin bounds giving back a lease under which nothing was written; unused, it would end by itself.
	revokeWithin = time.Second
)

// Hold writes kv under a lease of its own and keeps it alive until Release, Close, or the loss of the key.
func (s *Store) Hold(ctx context.Context, kv store.KV, ttl time.Duration, conds ...store.Cond) (store.Held, error) {
	if err := (store.Txn{If: conds, Puts: []store.KV{kv}}).Check(); err != nil {
		return nil, err
	}
	seconds := int64((ttl + time.Second - 1) / time.Second)
	if seconds <= 0 {
		return nil, errs.New(errs.Invalid, "hold %q: ttl of %s (above 0)", kv.Key, ttl)
	}
	bounded, done, err := s.call(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	confirmed := time.Now() // before the store hears of it: it can't end earlier than ttl after this
	grant, err := s.client.Grant(bounded, seconds)
	if err != nil {
		return nil, s.fault("grant a lease", err)
	}
	var cmps []clientv3.Cmp
	var otherwise []clientv3.Op
	for _, c := range conds {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.ModRevision))
		otherwise = append(otherwise, clientv3.OpGet(c.Key, clientv3.WithKeysOnly()))
	}
	put := clientv3.OpPut(kv.Key, string(kv.Value), clientv3.WithLease(grant.ID))
	resp, err := s.client.Txn(bounded).If(cmps...).Then(put).Else(otherwise...).Commit()
	switch {
	case err != nil:
		s.revoke(ctx, grant.ID) // if the write comes later, it finds no lease and fails
		return nil, s.fault("hold", err)
	case !resp.Succeeded:
		s.revoke(ctx, grant.ID)
		return nil, conflict(conds, resp)
	}
	// The store may give a longer lease than was asked for; it then is silent for as long as that.
	h := &held{
		store: s, key: kv.Key, lease: grant.ID, ttl: time.Duration(max(grant.TTL, seconds)) * time.Second, revision: resp.Header.Revision,
		lost: make(chan struct{}), kept: make(chan struct{}),
	}
	keep, ended, err := s.begin(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	keep, h.stop = context.WithCancel(keep)
	go func() {
		defer close(h.kept)
		defer ended()
		defer h.lose()
		h.keep(keep, confirmed)
	}()
	return h, nil
}

// revoke gives a lease back and with it the key, as far as it can.
func (s *Store) revoke(ctx context.Context, id clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeWithin)
	defer cancel()
	_, _ = s.client.Revoke(ctx, id) // else it ends by itself
}

// held is a key under a lease of its own.
type held struct {
	store *Store
	key   string
	lease clientv3.LeaseID
	ttl   time.Duration
	stop  context.CancelFunc
	lost  chan struct{}
	kept  chan struct{} // closed when keep has ended

	mu       sync.Mutex // guards what follows
	revision int64
	gone     bool // lost is closed
}

// Revision is that of the last Hold or Update that was answered. After an Update of which nobody knows whether it was written, it
// may be an old one, under which no transaction succeeds.
func (h *held) Revision() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.revision
}

// Lost is closed when the key is gone or may be.
func (h *held) Lost() <-chan struct{} { return h.lost }

func (h *held) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.gone {
		h.gone = true
		close(h.lost)
	}
}

// Update writes a new value, if the key still is this holder's; else Conflict.
func (h *held) Update(ctx context.Context, value []byte) error {
	ctx, done, err := h.store.call(ctx)
	if err != nil {
		return err
	}
	defer done()
	resp, err := h.store.client.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue(h.key), "=", h.lease)).
		Then(clientv3.OpPut(h.key, string(value), clientv3.WithLease(h.lease))).Commit()
	if err != nil {
		return h.store.fault("update", err)
	}
	if !resp.Succeeded {
		h.lose()
		return errs.New(errs.Conflict, "key %q isn't held any more", h.key)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.revision = max(h.revision, resp.Header.Revision)
	return nil
}

// Release ends the keeping and revokes the lease.
func (h *held) Release(ctx context.Context) error {
	h.stop()
	<-h.kept
	ctx, done, err := h.store.call(ctx)
	if err != nil {
		return err
	}
	defer done()
	_, err = h.store.client.Revoke(ctx, h.lease)
	if err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return h.store.fault("revoke a lease", err)
}

// keep renews the lease until ctx ends or the key is lost. Silence is counted from when the last renewal that was answered was
// sent, so this end never believes in the key for longer than the store does.
func (h *held) keep(ctx context.Context, confirmed time.Time) {
	expire := time.NewTimer(time.Until(confirmed.Add(h.ttl)))
	defer expire.Stop()
	next := time.NewTimer(h.ttl / renewals)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-expire.C:
			return
		case <-next.C:
		}
		deadline := confirmed.Add(h.ttl)
		sent := time.Now()
		if !sent.Before(deadline) { // the process may have stood still
			return
		}
		wait := renewPause
		switch h.renew(ctx, earlier(deadline, sent.Add(max(h.ttl/renewals, time.Second)))) {
		case leaseGone:
			return
		case leaseUnsure:
		case leaseRenewed:
			confirmed = sent
			expire.Reset(time.Until(confirmed.Add(h.ttl)))
			wait = time.Until(sent.Add(h.ttl / renewals))
		}
		next.Reset(max(wait, renewPause))
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// renewal is how one try to renew ended.
type renewal int

const (
	leaseUnsure renewal = iota
	leaseRenewed
	leaseGone
)

// renew asks once, and looks whether the key still hangs on the lease: somebody may have removed or overwritten it.
func (h *held) renew(ctx context.Context, deadline time.Time) renewal {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := h.store.renewOnce(ctx, h.lease); err != nil {
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return leaseGone
		}
		return leaseUnsure
	}
	resp, err := h.store.client.Get(ctx, h.key)
	if err == nil && (len(resp.Kvs) == 0 || clientv3.LeaseID(resp.Kvs[0].Lease) != h.lease) {
		return leaseGone
	}
	return leaseRenewed
}

// renewOnce renews a lease by one exchange. The client's own KeepAliveOnce tries again without a pause while there is no connection.
func (s *Store) renewOnce(ctx context.Context, id clientv3.LeaseID) error {
	conn := s.client.ActiveConnection()
	if conn == nil { // embedded: there is nothing that could be away
		_, err := s.client.KeepAliveOnce(ctx, id)
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := etcdserverpb.NewLeaseClient(conn).LeaseKeepAlive(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
		return err
	}
	resp, err := stream.Recv()
	if err != nil {
		return err
	}
	cancel()
	_, _ = stream.Recv() // the end, after which nothing is kept of the stream
	if resp.GetTTL() <= 0 {
		return rpctypes.ErrLeaseNotFound
	}
	return nil
}
