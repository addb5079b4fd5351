package etcdstore_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/etcdstore"
	"github.com/agentry/agentry/internal/errs"
)

// newMembers gives the configurations of three members on loopback.
func newMembers(t *testing.T) []etcdstore.ClusterConfig {
	t.Helper()
	// Connections among members that end together end by etcd's own time-out of 5 s: it is waited for once all are closed.
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		for began := time.Now(); goleak.Find(before) != nil && time.Since(began) < patience; {
			runtime.Gosched()
		}
	})
	var list []etcdstore.ClusterMember
	for _, name := range []string{"a", "b", "c"} {
		list = append(list, etcdstore.ClusterMember{Name: name, Address: freeAddr(t)})
	}
	var out []etcdstore.ClusterConfig
	for _, m := range list {
		out = append(out, etcdstore.ClusterConfig{EmbeddedConfig: etcdstore.EmbeddedConfig{Dir: t.TempDir()}, Name: m.Name, Members: list})
	}
	return out
}

// openAll opens them all at once: none is ready before most are there.
func openAll(t *testing.T, members []etcdstore.ClusterConfig) []*etcdstore.Store {
	t.Helper()
	out := make([]*etcdstore.Store, len(members))
	faults := make([]error, len(members))
	var opening sync.WaitGroup
	for i, cfg := range members {
		opening.Go(func() { out[i], faults[i] = etcdstore.OpenCluster(t.Context(), cfg) })
	}
	opening.Wait()
	for i, s := range out {
		if faults[i] != nil {
			t.Fatal(faults[i])
		}
		t.Cleanup(func() { _ = s.Close() })
	}
	return out
}

func TestClusterMemberAway(t *testing.T) {
	members := newMembers(t)
	stores := openAll(t, members)
	rev := put(t, stores[0], "a", "1")
	if err := stores[1].Close(); err != nil {
		t.Fatal(err)
	}
	put(t, stores[0], "a", "2")
	c := stores[2].Inspect(t.Context())
	var faulty []string
	for _, m := range c.Members {
		if m.Fault != "" {
			faulty = append(faulty, m.Name)
		}
	}
	if c.Kind != store.EmbeddedCluster || c.Fault != "" || len(c.Members) != 3 || strings.Join(faulty, ",") != "b" || c.Revision <= rev || c.QuotaBytes == 0 {
		t.Errorf("condition %+v", c)
	}
	again := openAll(t, members[1:2])[0]
	if kv, err := again.Get(t.Context(), "a"); err != nil || string(kv.Value) != "2" {
		t.Errorf("the member that came back reads %q, %v", kv.Value, err)
	}
}

// A member without the others waits, and says for whom.
func TestClusterWaitsForMost(t *testing.T) {
	members := newMembers(t)
	var log lockedBuffer
	members[0].Logger = slog.New(slog.NewTextHandler(&log, nil))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	opened := make(chan error, 1)
	go func() {
		s, err := etcdstore.OpenCluster(ctx, members[0])
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	for !strings.Contains(log.String(), `there=[a] missing="[b c]"`) {
		select {
		case err := <-opened:
			t.Fatalf("opened alone: %v\n%s", err, log.String())
		default:
		}
	}
	cancel()
	if err := <-opened; !errs.Is(err, errs.Canceled) {
		t.Errorf("error %v, want Canceled", err)
	}
}

func TestClusterRefuses(t *testing.T) {
	members := newMembers(t)
	stores := openAll(t, members)
	put(t, stores[0], "a", "1")
	for _, s := range stores {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	alone := t.TempDir()
	single := open(t, etcdstore.EmbeddedConfig{Dir: alone})
	if err := single.Close(); err != nil {
		t.Fatal(err)
	}
	other := newMembers(t)
	tests := map[string]struct {
		change func(c *etcdstore.ClusterConfig)
		kind   errs.Kind
		want   string
	}{
		"a single member's data": {func(c *etcdstore.ClusterConfig) { c.Dir = alone }, errs.Precondition, "agentctl cluster backup"},
		"another member's data":  {func(c *etcdstore.ClusterConfig) { c.Name = "b" }, errs.Precondition, "of member a, not of b"},
		"another list":           {func(c *etcdstore.ClusterConfig) { c.Members = other[0].Members }, errs.Precondition, "can't change"},
		"not in the list":        {func(c *etcdstore.ClusterConfig) { c.Name = "d" }, errs.Invalid, `"d" isn't in the list`},
		"an even number":         {func(c *etcdstore.ClusterConfig) { c.Members = c.Members[:2] }, errs.Invalid, "odd number"},
		"twice": {func(c *etcdstore.ClusterConfig) {
			c.Members = append(c.Members[:2:2], etcdstore.ClusterMember{Name: "c", Address: c.Members[0].Address})
		}, errs.Invalid, "twice"},
		"plain text elsewhere": {func(c *etcdstore.ClusterConfig) {
			c.Members = append(c.Members[:2:2], etcdstore.ClusterMember{Name: "c", Address: "192.0.2.1:7702"})
		}, errs.Invalid, "certificates"},
		"half a certificate": {func(c *etcdstore.ClusterConfig) { c.CertFile = "x" }, errs.Invalid, "belong together"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := members[0]
			c.change(&cfg)
			s, err := etcdstore.OpenCluster(t.Context(), cfg)
			if err == nil {
				_ = s.Close()
			}
			if !errs.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %v with %q", err, c.kind, c.want)
			}
		})
	}
	_, err := etcdstore.OpenEmbedded(t.Context(), etcdstore.EmbeddedConfig{Dir: members[0].Dir})
	if !errs.Is(err, errs.Precondition) || !strings.Contains(err.Error(), "--cluster-name a") {
		t.Errorf("a member's data without --cluster: %v", err)
	}
}

// A member that meets another cluster at the others' addresses says so instead of waiting for ever.
func TestClusterMeetsAnother(t *testing.T) {
	members := newMembers(t)
	openAll(t, members)
	stranger := members[2]
	stranger.Dir, stranger.Members = t.TempDir(), slices.Clone(members[0].Members)
	stranger.Members[2].Address = freeAddr(t)
	s, err := etcdstore.OpenCluster(t.Context(), stranger)
	if err == nil {
		_ = s.Close()
	}
	if !errs.Is(err, errs.Precondition) || !strings.Contains(err.Error(), "of another cluster") {
		t.Errorf("error %v, want Precondition", err)
	}
}

// A member whose data is lost doesn't begin with an empty log: it could vote twice.
func TestClusterMemberLostItsData(t *testing.T) {
	members := newMembers(t)
	stores := openAll(t, members)
	if err := stores[0].Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(members[0].Dir, "etcd")); err != nil {
		t.Fatal(err)
	}
	s, err := etcdstore.OpenCluster(t.Context(), members[0])
	if err == nil {
		_ = s.Close()
	}
	if !errs.Is(err, errs.Precondition) || !strings.Contains(err.Error(), "its data is gone") {
		t.Errorf("error %v, want Precondition", err)
	}
}

func TestClusterOverTLS(t *testing.T) {
	members := newMembers(t)
	pki := newPKI(t)
	for i := range members {
		members[i].CAFile, members[i].CertFile, members[i].KeyFile = pki.caFile, pki.certFile, pki.keyFile
	}
	stores := openAll(t, members)
	put(t, stores[0], "a", "1")
	if c := stores[1].Inspect(t.Context()); c.Fault != "" || len(c.Members) != 3 || c.Members[0].Fault != "" || c.Members[2].Fault != "" {
		t.Errorf("condition %+v", c)
	}
}
