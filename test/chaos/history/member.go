package history

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/test/chaos/world"
)

// Follow watches the store at every member, each by a watch of its own, until ctx ends. A watch that breaks is opened again where it
// stood.
func (s *Store) Follow(ctx context.Context) {
	var wg sync.WaitGroup
	for _, n := range s.world.Etcds {
		wg.Go(func() { s.follow(ctx, n) })
	}
	wg.Wait()
}

func (s *Store) follow(ctx context.Context, n *world.Node) {
	at := s.started
	for ctx.Err() == nil {
		last, err := s.watch(ctx, n, at)
		if at = last; ctx.Err() != nil {
			return
		}
		var compacted compactedError
		if errors.As(err, &compacted) {
			// This member's watch lost its place, as a watch may; the others' know what was written, unless they did too.
			if known := s.Frontier(); known < compacted.revision-1 {
				s.findings.Violate("harness", "%s: revisions below %d were compacted, the history knows up to %d", n.Name, compacted.revision, known)
			}
			at = compacted.revision - 1
			s.count(func(x *Stats) { x.Compacted++ })
		}
		s.mu.Lock()
		s.stats.Reopened++
		s.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

type compactedError struct{ revision int64 }

func (compactedError) Error() string { return "compacted" }

// watch follows one member from after a revision until the watch breaks, and answers how far it came.
func (s *Store) watch(ctx context.Context, n *world.Node, after int64) (int64, error) {
	c, err := s.world.EtcdClient(n)
	if err != nil {
		return after, err
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for resp := range c.Watch(ctx, view.Root, clientv3.WithPrefix(), clientv3.WithRev(after+1)) {
		if err := resp.Err(); err != nil {
			if errors.Is(err, rpctypes.ErrCompacted) {
				return after, compactedError{resp.CompactRevision}
			}
			return after, err
		}
		after = s.take(n.Name, after, resp.Events)
	}
	return after, errors.New("the watch ended")
}

// take takes one answer of a member that stood at a revision: whole revisions, in order, none passed over.
func (s *Store) take(member string, after int64, events []*clientv3.Event) int64 {
	for len(events) > 0 {
		r := events[0].Kv.ModRevision
		end := slices.IndexFunc(events, func(e *clientv3.Event) bool { return e.Kv.ModRevision != r })
		if end < 0 {
			end = len(events)
		}
		if r <= after {
			s.findings.Violate("watch", "%s shows revision %d after %d", member, r, after)
		}
		one := make([]*mvccpb.Event, 0, end)
		keys := map[string]bool{}
		for _, e := range events[:end] {
			if keys[string(e.Kv.Key)] {
				s.findings.Violate("watch", "%s shows %s twice at revision %d", member, e.Kv.Key, r)
			}
			keys[string(e.Kv.Key)] = true
			one = append(one, e)
		}
		s.revision(member, r, one)
		if n, first := s.between(after, r); n > 0 {
			s.findings.Violate("watch", "%s passed over %d revisions between %d and %d, the first is %d", member, n, after, r, first)
		}
		after, events = r, events[end:]
	}
	return after
}

// CompareEnd reads the store and holds the history to it: what each head was written at last.
func (s *Store) CompareEnd(ctx context.Context) error {
	resp, err := s.world.Etcd().Get(ctx, view.HeadsPrefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	deadline := time.Now().Add(20 * time.Second)
	for newest := resp.Header.Revision; s.Frontier() < newest && time.Now().Before(deadline); {
		// Keys outside of our root move the store's revision too: the newest that can be known is that of a head.
		newest = 0
		for _, kv := range resp.Kvs {
			newest = max(newest, kv.ModRevision)
		}
		pause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, kv := range resp.Kvs {
		if w := s.writes[string(kv.Key)]; kv.ModRevision > s.started && !slices.Contains(w, kv.ModRevision) {
			s.findings.Violate("watch", "%s was written at revision %d, which no watch showed", kv.Key, kv.ModRevision)
		}
	}
	return nil
}

// pause waits a moment before looking again.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(50 * time.Millisecond):
	}
}
