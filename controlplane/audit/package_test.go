package audit

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/internal/auditchain"
	"github.com/agentry/agentry/internal/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// pass lets time pass in a synctest bubble, where nobody waits for it.
func pass(d time.Duration) { <-time.After(d) }

func origin() Origin { return Origin{Replica: "replica-1"} }

// refusing is a store that takes no transaction that writes a key below a prefix.
type refusing struct {
	store.Store

	prefix string
}

func (r refusing) Commit(ctx context.Context, t store.Txn) (int64, error) {
	for _, kv := range t.Puts {
		if strings.HasPrefix(kv.Key, r.prefix) {
			return 0, errs.New(errs.Exhausted, "no room for %s", kv.Key)
		}
	}
	return r.Store.Commit(ctx, t)
}

// pendingIn gives the entries that wait for their place, in the order of their keys.
func pendingIn(t *testing.T, s store.Store) []Entry {
	t.Helper()
	page, err := s.List(t.Context(), pendingPrefix, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []Entry
	for _, kv := range page.KVs {
		var e Entry
		if err := json.Unmarshal(kv.Value, &e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// chainIn gives the window, which must hold.
func chainIn(t *testing.T, s store.Store) (Head, []Chained) {
	t.Helper()
	head, _, err := ReadHead(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	entries, _, err := Read(t.Context(), s, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	links := make([]auditchain.Link, len(entries))
	for i, e := range entries {
		links[i] = e.Link
	}
	if f := auditchain.Verify(head.Anchor(), head.End(), slices.Values(links)); f != nil {
		t.Fatal(f)
	}
	return head, entries
}

// put writes entries as callers do.
func put(t *testing.T, s store.Store, messages ...string) {
	t.Helper()
	for _, m := range messages {
		if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{origin().pending(Entry{Type: Changed, Message: m, Outcome: OK})}}); err != nil {
			t.Fatal(err)
		}
	}
}

func newChainer(t *testing.T, s store.Store, set func(*ChainerConfig)) *Chainer {
	t.Helper()
	cfg := ChainerConfig{Store: s, Origin: origin(), Logger: quiet()}
	if set != nil {
		set(&cfg)
	}
	c, err := NewChainer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func messages(entries []Chained) []string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Entry.Message)
	}
	return out
}

var _ store.Store = (*memstore.Store)(nil)
