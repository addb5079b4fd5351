package audit

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/secret"
)

func headPut() store.KV {
	return store.KV{Key: view.HeadKey(manifest.KindAgent, "default", "helper"), Value: []byte("{}")}
}

func TestAChangeCarriesItsEntry(t *testing.T) {
	t.Parallel()
	person := Call{Actor: "user:ada", Method: "/agentry.spec.v1.SpecService/Apply", Permission: "spec.write", Namespace: "default", RequestID: "r1"}
	record := store.KV{Key: view.MoveKey("default", "1"), Value: view.Encode(view.MoveRecord{
		Actor: "releaser", Cause: "policy", Message: "probe failed", Heads: []view.HeadMove{
			{Kind: manifest.KindAgent, Namespace: "default", Name: "Helper", From: "4", To: "3", Move: release.MoveReturn},
		},
	})}
	blob := store.KV{Key: view.BlobPrefix + "ab", Value: []byte("{}")}
	cases := map[string]struct {
		draft func() *Draft
		txn   store.Txn
		want  []Entry
	}{
		"a person's change": {
			draft: func() *Draft {
				d := NewDraft(person)
				d.On("agent/Helper")
				d.Changed(true, Change{Object: "agent/Helper", Path: "model.model", Before: "a", After: "b"})
				d.Because("a better model")
				return d
			},
			txn: store.Txn{Puts: []store.KV{blob, headPut(), record}},
			want: []Entry{{
				Type: Changed, Actor: "user:ada", Method: person.Method, Permission: "spec.write", Namespace: "default", RequestID: "r1",
				Objects: []string{"agent/Helper"}, Message: "a better model", Outcome: OK, Replica: "replica-1",
				Changes: []Change{
					{Object: "agent/Helper", Path: "return", Before: "4", After: "3"},
					{Object: "agent/Helper", Path: "model.model", Before: "a", After: "b"},
				},
			}},
		},
		"an automatic rollback": {
			txn: store.Txn{Puts: []store.KV{headPut(), record}},
			want: []Entry{{
				Type: Changed, Actor: "system", Method: "releaser", Namespace: "default", Objects: []string{"agent/helper"},
				Message: "policy: probe failed", Outcome: OK, Replica: "replica-1",
				Changes: []Change{{Object: "agent/Helper", Path: "return", Before: "4", After: "3"}},
			}},
		},
		"a head alone":             {txn: store.Txn{Puts: []store.KV{headPut()}}, want: []Entry{{Type: Changed, Actor: "system", Namespace: "default", Objects: []string{"agent/helper"}, Outcome: OK, Replica: "replica-1"}}},
		"records without a caller": {txn: store.Txn{Puts: []store.KV{{Key: view.AppliedPrefix + "default/helper/ab", Value: []byte("x")}}}},
		"immutables of a caller":   {draft: func() *Draft { return NewDraft(person) }, txn: store.Txn{Puts: []store.KV{blob}}},
		"a read of a caller":       {draft: func() *Draft { return NewDraft(person) }},
		"a deletion of a caller": {
			draft: func() *Draft { return NewDraft(person) }, txn: store.Txn{Deletes: []string{view.AccessPrefix + "bindings/b"}},
			want: []Entry{{Type: Changed, Actor: "user:ada", Method: person.Method, Permission: "spec.write", Namespace: "default", RequestID: "r1", Outcome: OK, Replica: "replica-1"}},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := memstore.New()
			ctx, d := t.Context(), (*Draft)(nil)
			if c.draft != nil {
				d = c.draft()
				ctx = With(ctx, d)
			}
			before, _ := s.Commit(ctx, store.Txn{})
			after, err := Wrap(s, origin()).Commit(ctx, c.txn)
			if err != nil {
				t.Fatal(err)
			}
			if writes := len(c.txn.Puts); writes > 0 && after != before+1 {
				t.Errorf("%d revisions for one change", after-before)
			}
			if diff := cmp.Diff(c.want, pendingIn(t, s), cmpopts.IgnoreFields(Entry{}, "Time")); diff != "" {
				t.Error(diff)
			}
			if d.Written() != len(c.want) && d != nil {
				t.Errorf("written %d times", d.Written())
			}
		})
	}
}

func TestALoginIsItsUsers(t *testing.T) {
	t.Parallel()
	d := NewDraft(Call{Actor: "10.0.0.7", Method: "/Login"})
	d.By("user:ada")
	if e := d.entry(); e.Actor != "user:ada" || e.Message != "from 10.0.0.7" {
		t.Errorf("got %+v", e)
	}
	(*Draft)(nil).By("user:ada")
}

// No head moves without an entry, whatever else a transaction holds and whoever makes it.
func TestNoHeadMovesWithoutAnEntry(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		inner := memstore.New()
		s := Wrap(inner, origin())
		kinds := []string{manifest.KindAgent, manifest.KindPrompt, manifest.KindMCP, manifest.KindCredential}
		for range rapid.IntRange(1, 20).Draw(t, "commits") {
			ctx := context.Background()
			if rapid.Bool().Draw(t, "draft") {
				ctx = With(ctx, NewDraft(Call{Actor: "user:ada"}))
			}
			var txn store.Txn
			seen := map[string]bool{}
			for range rapid.IntRange(0, 5).Draw(t, "writes") {
				name := fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "name"))
				key := rapid.SampledFrom([]string{
					view.BlobPrefix + name, view.AppliedPrefix + "n/a/" + name, view.MoveKey("n", name), view.AccessPrefix + name,
					view.HeadKey(rapid.SampledFrom(kinds).Draw(t, "kind"), "n", name),
				}).Draw(t, "key")
				if seen[key] {
					continue
				}
				seen[key] = true
				if rapid.Bool().Draw(t, "delete") {
					txn.Deletes = append(txn.Deletes, key)
				} else {
					txn.Puts = append(txn.Puts, store.KV{Key: key, Value: []byte("{}")})
				}
			}
			if _, err := s.Commit(ctx, txn); err != nil {
				t.Fatal(err)
			}
		}
		watched, cancel := context.WithCancel(context.Background())
		defer cancel()
		newest, _ := inner.Commit(watched, store.Txn{})
		if newest == 1 {
			return
		}
		revisions := map[int64][2]int{} // revision -> heads, entries
		err := inner.Watch(watched, view.Root, 1, func(b store.Batch) error {
			for _, e := range b.Events {
				n := revisions[e.ModRevision]
				switch {
				case strings.HasPrefix(e.Key, view.HeadsPrefix):
					n[0]++
				case strings.HasPrefix(e.Key, pendingPrefix):
					n[1]++
				}
				revisions[e.ModRevision] = n
			}
			if b.Revision >= newest {
				cancel()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for revision, n := range revisions {
			if n[1] > 1 || (n[0] > 0 && n[1] != 1) {
				t.Errorf("revision %d writes %d heads and %d entries", revision, n[0], n[1])
			}
		}
	})
}

// D4: a mutation whose audit can't be written fails.
func TestAChangeFailsWithItsEntry(t *testing.T) {
	t.Parallel()
	inner := memstore.New()
	s := Wrap(refusing{Store: inner, prefix: view.AuditPrefix}, origin())
	d := NewDraft(Call{Actor: "user:ada"})
	for name, ctx := range map[string]context.Context{"a person": With(t.Context(), d), "the system": t.Context()} {
		if _, err := s.Commit(ctx, store.Txn{Puts: []store.KV{headPut()}}); !errs.Is(err, errs.Exhausted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := inner.Get(t.Context(), headPut().Key); !errs.Is(err, errs.NotFound) {
		t.Errorf("the head is there: %v", err)
	}
	if d.Written() != 0 {
		t.Errorf("written %d times", d.Written())
	}
}

func TestAnEntryIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä\x00\"", 1<<20)
	e := Entry{Type: Changed, Time: time.Unix(1, 0), Objects: []string{"agent/" + long}, Actor: long, Method: long, Permission: long, Namespace: long, Message: long, RequestID: long, Outcome: long}
	for i := range 3000 {
		e.Objects = append(e.Objects, fmt.Sprintf("agent/a%d", i))
		e.Changes = append(e.Changes, Change{Object: "agent/a", Path: fmt.Sprintf("p%d", i), Before: long[:600], After: "b\xff"})
	}
	got := origin().clean(e)
	b, err := got.record()
	if err != nil || len(b) > maxEntry {
		t.Errorf("a record of %d bytes, %v", len(b), err)
	}
	if want := fmt.Sprintf("and %d more", 3001-len(got.Objects)+1); got.Objects[len(got.Objects)-1] != want || len(got.Objects) < 200 {
		t.Errorf("%d objects, the last is %q, want %q", len(got.Objects), got.Objects[len(got.Objects)-1], want)
	}
	note := got.Changes[len(got.Changes)-1].Path
	if want := fmt.Sprintf("%d more changes don't fit into an entry", 3000-len(got.Changes)+1); note != want || len(got.Changes) < 10 {
		t.Errorf("%d changes, the last is %q, want %q", len(got.Changes), note, want)
	}
}

// The values of credentials are nowhere in an entry: a credential's change tells versions only, and what slips in elsewhere is
// redacted.
func TestAnEntryHoldsNoSecret(t *testing.T) {
	t.Parallel()
	const canary = "cnry-7f3a9b1c-audit-secret"
	var redactor secret.Redactor
	redactor.Add(secret.NewValue(canary))
	inner := memstore.New()
	s := Wrap(inner, Origin{Replica: "r", Redact: redactor.Redact})
	d := NewDraft(Call{Actor: "user:" + canary, Method: "/m", Namespace: "default", RequestID: canary})
	d.On("credential/key", "agent/"+canary)
	d.Because("rotated to " + canary + " and " + base64.StdEncoding.EncodeToString([]byte(canary)))
	d.Changed(false,
		Change{Object: "credential/key", Path: "value", Before: "an-old-value-nobody-registered", After: "a-new-value-nobody-registered"},
		Change{Object: "credential/key", Before: "3", After: "4"},
		Change{Object: "agent/helper", Path: "model.baseUrl", Before: "http://x/" + canary, After: "http://y?k=" + canary[:14]},
	)
	if _, err := s.Commit(With(t.Context(), d), store.Txn{Puts: []store.KV{headPut()}}); err != nil {
		t.Fatal(err)
	}
	page, err := inner.List(t.Context(), pendingPrefix, store.ListOptions{})
	if err != nil || len(page.KVs) != 1 {
		t.Fatal(err, len(page.KVs))
	}
	text := string(page.KVs[0].Value)
	for _, bad := range []string{canary, canary[:12], "nobody-registered", base64.StdEncoding.EncodeToString([]byte(canary))[:16]} {
		if strings.Contains(text, bad) {
			t.Errorf("the entry holds %q:\n%s", bad, text)
		}
	}
	if !strings.Contains(text, `{"object":"credential/key","before":"3","after":"4"}`) {
		t.Errorf("the version's move isn't there:\n%s", text)
	}
}
