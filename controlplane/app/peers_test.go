package app

import (
	"os"
	"strings"
	"testing"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

func TestAdvertisedAddresses(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ given, listens, want string }{
		{"", "127.0.0.1:7701", "127.0.0.1:7701"},
		{"", "[::]:7701", host + ":7701"},
		{"", "0.0.0.0:7701", host + ":7701"},
		{"", "10.0.0.1:1", "10.0.0.1:1"},
		{"cp-0.cp:7701", "0.0.0.0:7701", "cp-0.cp:7701"},
	} {
		if got, err := advertised(tc.given, tc.listens); err != nil || got != tc.want {
			t.Errorf("%q listening at %q: %q, %v; want %q", tc.given, tc.listens, got, err, tc.want)
		}
	}
	none := func(string) string { return "" }
	for _, bad := range []string{"host", "host:", ":7701", "0.0.0.0:7701", "[::]:7701", "host:0"} {
		for _, name := range []string{"--advertise-runtime", "--advertise-people"} {
			if _, err := ParseConfig([]string{"--data-dir", "d", name, bad}, none, &strings.Builder{}); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s %s: %v", name, bad, err)
			}
		}
	}
	c, err := ParseConfig([]string{"--data-dir", "d", "--advertise-runtime", "cp-0:1", "--advertise-people", "cp-0:2"}, none, &strings.Builder{})
	if err != nil || c.Advertise != (Advertise{People: "cp-0:2", Runtime: "cp-0:1"}) {
		t.Errorf("%+v, %v", c.Advertise, err)
	}
}

func TestAFormerLifeIsForgotten(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	t.Cleanup(func() { _ = s.Close() })
	if err := forgetFormer(t.Context(), s); err != nil {
		t.Fatal("nothing to forget:", err)
	}
	for _, key := range []string{view.ReplicaPrefix + "a", view.ReplicaPrefix + "b", view.LeaderKey, view.ClusterKey} {
		if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: key, Value: []byte("x")}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := forgetFormer(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	page, err := s.List(t.Context(), view.Root, store.ListOptions{})
	if err != nil || len(page.KVs) != 1 || page.KVs[0].Key != view.ClusterKey {
		t.Errorf("%+v, %v", page.KVs, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := forgetFormer(t.Context(), s); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a store that is closed: %v", err)
	}
}
