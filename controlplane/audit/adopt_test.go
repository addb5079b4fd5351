package audit

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/auditchain"
)

// logOf makes a store whose log has so many entries of an actor, the last of them without a place yet.
func logOf(t *testing.T, actor string, chained, waiting int) *memstore.Store {
	t.Helper()
	s := memstore.New()
	o := Origin{Replica: actor}
	add := func(n int) {
		for i := range n {
			kv := o.pending(Entry{Type: Changed, Actor: actor, Message: fmt.Sprint(i), Outcome: OK})
			if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{kv}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(chained)
	fold(t, s)
	add(waiting)
	return s
}

func fold(t *testing.T, s store.Store) {
	t.Helper()
	c, err := NewChainer(ChainerConfig{Store: s, Logger: slog.New(slog.DiscardHandler), Quiet: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Fold(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func walkOf(t *testing.T, s store.Store) func() NextFunc {
	t.Helper()
	page, err := s.List(t.Context(), view.AuditPrefix, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return func() NextFunc {
		kvs := page.KVs
		return func() (string, []byte, bool, error) {
			if len(kvs) == 0 {
				return "", nil, false, nil
			}
			kv := kvs[0]
			kvs = kvs[1:]
			return kv.Key, kv.Value, true, nil
		}
	}
}

// TestAdopt: another log comes in, the store's own goes on behind it, and the whole is a chain; also when it is done twice.
func TestAdopt(t *testing.T) {
	for name, tc := range map[string]struct {
		theirs, theirsWait, ours, oursWait int
		want                               string // how many entries of whom
		note                               bool
	}{
		"a migration":                  {5, 2, 3, 1, "old 5, new 1, old 2, new 3", false},
		"theirs has no place yet":      {0, 2, 1, 0, "new 1, old 2", false},
		"theirs is empty":              {0, 0, 2, 0, "new 2", false},
		"ours is empty":                {4, 0, 0, 0, "old 4", false},
		"ours is longer than theirs":   {2, 0, 6, 0, "old 2, new 6", false},
		"ours is too long to be moved": {2, 0, adoptEntries + 1, 0, fmt.Sprintf("new %d", adoptEntries+1), true},
	} {
		t.Run(name, func(t *testing.T) {
			theirs, ours := logOf(t, "old", tc.theirs, tc.theirsWait), logOf(t, "new", tc.ours, tc.oursWait)
			walk := walkOf(t, theirs)
			note, _, err := Adopt(t.Context(), ours, walk)
			if err != nil || (note != "") != tc.note {
				t.Fatalf("note %q, error %v", note, err)
			}
			if tc.theirs > 0 {
				if _, _, err := Adopt(t.Context(), ours, walk); err != nil {
					t.Fatal(err)
				}
			}
			fold(t, ours)
			if tc.theirs > 0 { // and once more when it went on
				if _, _, err := Adopt(t.Context(), ours, walk); err != nil {
					t.Fatal(err)
				}
			}
			got, order := whole(t, ours), []string{}
			for _, actor := range got {
				if n := len(order); n > 0 && strings.HasPrefix(order[n-1], actor+" ") {
					var count int
					_, _ = fmt.Sscanf(order[n-1], actor+" %d", &count)
					order[n-1] = fmt.Sprintf("%s %d", actor, count+1)
					continue
				}
				order = append(order, actor+" 1")
			}
			if text := strings.Join(order, ", "); text != tc.want && !sameCounts(text, tc.want) {
				t.Errorf("log: %s, want %s", text, tc.want)
			}
			if tc.theirs > 0 && !tc.note && !strings.HasPrefix(strings.Join(order, ", "), fmt.Sprintf("old %d", tc.theirs)) {
				t.Errorf("log: %v doesn't begin with the backup's", order)
			}
		})
	}
}

// sameCounts compares how many entries there are of each, in whatever order.
func sameCounts(a, b string) bool {
	count := func(text string) map[string]int {
		out := map[string]int{}
		for part := range strings.SplitSeq(text, ", ") {
			var who string
			var n int
			_, _ = fmt.Sscan(part, &who, &n)
			out[who] += n
		}
		return out
	}
	return fmt.Sprint(count(a)) == fmt.Sprint(count(b))
}

// whole checks the chain of a store and gives the actors in order.
func whole(t *testing.T, s store.Store) []string {
	t.Helper()
	h, _, err := ReadHead(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	all, _, err := Read(t.Context(), s, 1, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	v := auditchain.NewVerifier(h.Anchor())
	var out []string
	for _, c := range all {
		if f := v.Next(c.Link); f != nil {
			t.Fatal(f)
		}
		out = append(out, c.Entry.Actor)
	}
	if v.At() != h.End() {
		t.Fatalf("chain ends at %+v, head says %+v", v.At(), h.End())
	}
	return out
}
