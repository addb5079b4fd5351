package etcdstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/etcdstore"
	"github.com/agentry/agentry/internal/errs"
)

// startCluster starts three members.
func startCluster(t *testing.T, binary string, args ...string) []*server {
	t.Helper()
	var peers, names []string
	for i := range 3 {
		names = append(names, fmt.Sprintf("m%d", i))
		peers = append(peers, freeAddr(t))
	}
	var all []string
	for i := range names {
		all = append(all, names[i]+"=http://"+peers[i])
	}
	out := make([]*server, 3)
	var starting sync.WaitGroup
	for i := range out {
		out[i] = &server{binary: binary, dir: t.TempDir(), addr: freeAddr(t), args: append([]string{
			"--name=" + names[i], "--listen-peer=" + peers[i], "--initial-cluster=" + strings.Join(all, ","), "--max-txn-ops=1024",
		}, args...)}
		starting.Go(func() { out[i].start(t) })
	}
	starting.Wait()
	t.Cleanup(func() {
		for _, s := range out {
			s.kill(t)
		}
	})
	return out
}

func urls(servers []*server) []string {
	var out []string
	for _, s := range servers {
		out = append(out, "http://"+s.addr)
	}
	return out
}

// traffic writes and reads until it is ended. A write whose outcome isn't known is tried again under the condition that it wasn't
// written, as the layer above does.
type traffic struct {
	writes, reads, unknown int
	slowestWrite           time.Duration
	slowestRead            time.Duration
	fault                  error
}

func (tr *traffic) run(ctx context.Context, s *etcdstore.Store, prefix string) {
	for i := 0; ctx.Err() == nil && tr.fault == nil; i++ {
		key := fmt.Sprintf("%s%06d", prefix, i)
		began := time.Now()
		for ctx.Err() == nil {
			_, err := s.Commit(ctx, store.Txn{If: []store.Cond{{Key: key}}, Puts: []store.KV{{Key: key, Value: []byte("x")}}})
			if errs.Is(err, errs.Unavailable) || errs.Is(err, errs.Timeout) {
				tr.unknown++
				continue
			}
			if err != nil && !errs.Is(err, errs.Conflict) && ctx.Err() == nil {
				tr.fault = err
			}
			break
		}
		tr.writes++
		tr.slowestWrite = max(tr.slowestWrite, time.Since(began))
		began = time.Now()
		if _, err := s.Get(ctx, key); err != nil && ctx.Err() == nil {
			tr.fault = fmt.Errorf("read %s: %w", key, err)
		}
		tr.reads++
		tr.slowestRead = max(tr.slowestRead, time.Since(began))
	}
}

// One of three members is taken away, each in turn and in both ways: writes and reads go on, every acknowledged write is there, and the
// watch sees each of them once and in order.
func TestOneMemberAway(t *testing.T) {
	servers := startCluster(t, serverBinary(t))
	var log lockedBuffer
	s := dial(t, etcdstore.ClientConfig{Endpoints: urls(servers), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen []string
	watched := make(chan error, 1)
	watching, unwatch := context.WithCancel(t.Context())
	defer unwatch()
	reached := make(chan string, 100_000)
	go func() {
		watched <- s.Watch(watching, "w/", 0, func(b store.Batch) error {
			for _, e := range b.Events {
				seen = append(seen, e.Key)
				reached <- e.Key
			}
			return nil
		})
	}()
	var tr traffic
	done := make(chan struct{})
	go func() {
		defer close(done)
		tr.run(ctx, s, "w/")
	}()
	for i, member := range servers {
		if err := member.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		settle(t, s, servers, i)
		<-time.After(2 * time.Second) // how long the fault goes on
		if err := member.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		settle(t, s, servers, -1)
	}
	for i, member := range servers {
		member.kill(t)
		settle(t, s, servers, i)
		member.start(t)
		settle(t, s, servers, -1)
	}
	last := put(t, s, "w/~end", "")
	cancel()
	<-done
	if tr.fault != nil {
		t.Errorf("traffic: %v\n%s", tr.fault, log.String())
	}
	limit := time.After(patience)
	for key := ""; key != "w/~end"; {
		select {
		case key = <-reached:
		case <-limit:
			t.Fatalf("the watch didn't reach revision %d", last)
		}
	}
	unwatch()
	if err := <-watched; err != nil {
		t.Errorf("watch: %v", err)
	}
	page, err := s.List(t.Context(), "w/", store.ListOptions{KeysOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, kv := range page.KVs {
		kept = append(kept, kv.Key)
	}
	slices.Sort(seen)
	if !slices.Equal(kept, seen) && !slices.Equal(kept[:len(kept)-2], seen[:len(seen)-1]) { // the last write of the traffic may be cut off
		t.Errorf("the store has %d keys, the watch saw %d events", len(kept), len(seen))
	}
	if len(kept) < tr.writes-1 {
		t.Errorf("%d keys of %d acknowledged writes", len(kept), tr.writes)
	}
	t.Logf("%d writes, %d reads, %d of unknown outcome; slowest write %s, read %s", tr.writes, tr.reads, tr.unknown, tr.slowestWrite, tr.slowestRead)
}

// settle waits until the store answers and names exactly the members that are away; -1: none.
func settle(t *testing.T, s *etcdstore.Store, servers []*server, away int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var last store.Condition
	for ctx.Err() == nil {
		last = s.Inspect(ctx)
		var faulty []string
		leaders := 0
		for _, m := range last.Members {
			if m.Fault != "" {
				faulty = append(faulty, m.Name)
			} else if m.Leader {
				leaders++
			}
		}
		want := away < 0 && len(faulty) == 0 || away >= 0 && slices.Equal(faulty, []string{fmt.Sprintf("m%d", away)})
		if want && len(last.Members) == len(servers) && last.Fault == "" && leaders == 1 {
			return
		}
	}
	t.Fatalf("the store is %+v", last)
}

// A store that is full says so by the kind of the error, with the way out, by its members' alarms, and to who looks after it.
func TestEtcdIsFull(t *testing.T) {
	server := startServer(t, serverBinary(t), "--quota-bytes=4000000", "--max-request-bytes=8388608")
	s := dial(t, etcdstore.ClientConfig{Endpoints: []string{server.addr}})
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		_, err = s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: "a", Value: make([]byte, 400_000)}}})
	}
	if !errs.Is(err, errs.Exhausted) || !strings.Contains(err.Error(), "The store is full") {
		t.Fatalf("error %v, want Exhausted with the way out", err)
	}
	select {
	case <-s.Full():
	default:
		t.Error("who looks after the store isn't told")
	}
	c := s.Inspect(t.Context())
	if len(c.Members) != 1 || !slices.Contains(c.Members[0].Alarms, "NOSPACE") || c.QuotaBytes != 4_000_000 || c.Fault != "" {
		t.Errorf("condition %+v", c)
	}
	if _, err := s.Get(t.Context(), "a"); err != nil {
		t.Errorf("reads go on: %v", err)
	}
	if err := s.Compact(t.Context(), c.Revision); err != nil {
		t.Errorf("compact: %v", err)
	}
	if err := s.Compact(t.Context(), c.Revision); err != nil {
		t.Errorf("compact what is compacted: %v", err)
	}
}
