package directory

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

func offer(t *testing.T, d *Directory, value string) {
	t.Helper()
	if ok, err := d.OfferBootstrap(t.Context(), secret.NewValue(value)); err != nil || !ok {
		t.Fatalf("offer: %v, %v", ok, err)
	}
}

func TestABootstrapTokenIsSpentOnce(t *testing.T) {
	for range 20 {
		s := memstore.New()
		replicas := []*Directory{running(t, s, ""), running(t, s, ""), running(t, s, "")}
		offer(t, replicas[0], "agb_one-of-the-tokens")
		offer(t, replicas[1], "agb_another-of-the-tokens")
		for _, d := range replicas {
			until(t, d, "both tokens", func() bool {
				row, ok := d.policies.Get(bootstrapName)
				return ok && len(row.Value.bootstrap.Hashes) == 2
			})
		}
		type result struct {
			token secret.Value
			err   error
		}
		results := make(chan result)
		const spenders = 12
		for i := range spenders {
			go func() {
				shown := []string{"agb_one-of-the-tokens", "agb_another-of-the-tokens"}[i%2]
				_, v, err := replicas[i%3].SpendBootstrap(t.Context(), secret.NewValue(shown))
				results <- result{v, err}
			}()
		}
		var won []secret.Value
		for range spenders {
			r := <-results
			if r.err == nil {
				won = append(won, r.token)
				continue
			}
			wantKind(t, r.err, errs.Unauthenticated)
		}
		if len(won) != 1 {
			t.Fatalf("%d of %d spent it", len(won), spenders)
		}
		for _, d := range replicas {
			until(t, d, "the administrator", func() bool {
				who, err := d.Authenticate(t.Context(), won[0].Reveal())
				return err == nil && who.Allowed("access.write", access.Object{}) && !d.Waiting()
			})
			ok, err := d.OfferBootstrap(t.Context(), secret.NewValue("agb_one-of-the-tokens"))
			if err != nil || ok {
				t.Errorf("offered again beside an administrator: %v, %v", ok, err)
			}
		}
	}
}

// A replica that began to offer before another's token was spent must not make its own count after that.
func TestAnOfferLosesToASpending(t *testing.T) {
	s := memstore.New()
	a := running(t, s, "")
	offer(t, a, "agb_one-of-the-tokens")
	late := running(t, &slow{Store: s, before: func() {
		if _, _, err := a.SpendBootstrap(t.Context(), secret.NewValue("agb_one-of-the-tokens")); err != nil {
			t.Errorf("spend: %v", err)
		}
	}}, "")
	ok, err := late.OfferBootstrap(t.Context(), secret.NewValue("agb_the-late-token"))
	if err != nil || ok {
		t.Errorf("the late offer counts: %v, %v", ok, err)
	}
	_, _, err = a.SpendBootstrap(t.Context(), secret.NewValue("agb_the-late-token"))
	wantKind(t, err, errs.Unauthenticated)
}

// slow lets something happen before its first write.
type slow struct {
	*memstore.Store

	before func()
}

func (s *slow) Commit(ctx context.Context, t store.Txn) (int64, error) {
	if f := s.before; f != nil {
		s.before = nil
		f()
	}
	return s.Store.Commit(ctx, t)
}

func TestSpendRefuses(t *testing.T) {
	d := running(t, memstore.New(), "")
	_, _, err := d.SpendBootstrap(t.Context(), secret.NewValue("agb_x"))
	wantKind(t, err, errs.Unauthenticated)
	offer(t, d, "agb_one-of-the-tokens")
	if !d.Waiting() {
		t.Error("no token waits")
	}
	for _, wrong := range []string{"", "agb_", "agb_one-of-the-token", "agt_one-of-the-tokens"} {
		_, _, err := d.SpendBootstrap(t.Context(), secret.NewValue(wrong))
		wantKind(t, err, errs.Unauthenticated)
	}
	_, err = d.Authenticate(t.Context(), "agb_one-of-the-tokens")
	wantKind(t, err, errs.Unauthenticated)
	bind(t, d, access.Binding{Name: "b", Namespace: "*", Role: "admin", Subjects: []string{"group:ops"}})
	_, _, err = d.SpendBootstrap(t.Context(), secret.NewValue("agb_one-of-the-tokens"))
	wantKind(t, err, errs.Unauthenticated)
	if d.Waiting() {
		t.Error("a token waits beside an administrator")
	}
}

func TestAdministered(t *testing.T) {
	admin := func(f func(*access.Binding)) access.Binding {
		b := access.Binding{Name: "b", Namespace: "*", Role: "admin", Subjects: []string{"user:ada"}}
		f(&b)
		return b
	}
	cases := map[string]struct {
		binding access.Binding
		want    bool
	}{
		"a user":               {admin(func(*access.Binding) {}), true},
		"a group":              {admin(func(b *access.Binding) { b.Subjects = []string{"group:ops"} }), true},
		"a token that is gone": {admin(func(b *access.Binding) { b.Subjects = []string{"token:gone"} }), false},
		"of one namespace":     {admin(func(b *access.Binding) { b.Namespace = "default" }), false},
		"of one kind":          {admin(func(b *access.Binding) { b.Kind = "agent" }), false},
		"sometimes":            {admin(func(b *access.Binding) { b.Condition = "true" }), false},
		"another role":         {admin(func(b *access.Binding) { b.Role = "operator" }), false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d := running(t, memstore.New(), "")
			bind(t, d, c.binding)
			if d.Administered() != c.want {
				t.Errorf("got %v", !c.want)
			}
		})
	}
}

func TestTheBootstrapFile(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(dir, "bootstrap-token")
		var seen []string
		s := memstore.New()
		d := running(t, s, "")
		keep := func(ctx context.Context) error {
			return d.KeepBootstrap(ctx, path, func(v secret.Value) { seen = append(seen, v.Reveal()) })
		}
		stop := start(t, keep)
		synctest.Wait()
		read := func() string {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(b))
		}
		first := read()
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || len(first) < 40 || !strings.HasPrefix(first, "agb_") {
			t.Errorf("file %v, %v", info, err)
		}
		if len(seen) == 0 || seen[0] != first || strings.Contains(text(t, s), first) || !d.Waiting() {
			t.Errorf("seen %d, waiting %v", len(seen), d.Waiting())
		}
		stop()
		start(t, keep)
		synctest.Wait()
		if read() != first {
			t.Error("a restart made another token")
		}
		token, v, err := d.SpendBootstrap(t.Context(), secret.NewValue(first))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the file is still there: %v", err)
		}
		who, err := d.Authenticate(t.Context(), v.Reveal())
		if err != nil || !who.Allowed("access.write", access.Object{}) || !token.Expires.Equal(time.Now().Add(MaxTTL)) {
			t.Errorf("administrator: %+v, %v", token, err)
		}
		// Nobody is shut out for ever: when the last administrator's token has expired, there is a bootstrap token again.
		<-time.After(MaxTTL + 2*sweepEvery)
		synctest.Wait()
		if again := read(); again == first || !d.Waiting() {
			t.Error("no new token waits")
		}
	})
}

// The store is away when the token is made: there is no file until the token counts, and nobody waits for the next change of anything.
func TestABootstrapTokenIsOfferedAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(dir, "bootstrap-token")
		s := memstore.New()
		d := running(t, s, "")
		synctest.Wait() // its first reads
		s.FailNext(errs.New(errs.Unavailable, "away"))
		start(t, func(ctx context.Context) error { return d.KeepBootstrap(ctx, path, func(secret.Value) {}) })
		synctest.Wait()
		if _, err := os.Stat(path); !os.IsNotExist(err) || d.Waiting() {
			t.Errorf("a file before its token counts: %v, waiting %v", err, d.Waiting())
		}
		<-time.After(2 * keepAgain)
		synctest.Wait()
		if _, err := os.Stat(path); err != nil || !d.Waiting() {
			t.Errorf("no file after another try: %v, waiting %v", err, d.Waiting())
		}
	})
}

func TestABootstrapFileThatOthersReadIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
	}{
		"mode":    {"agb_" + strings.Repeat("x", 43), 0o644},
		"content": {"something else", 0o600},
		"empty":   {"", 0o600},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "bootstrap-token")
			if err := os.WriteFile(path, []byte(c.content), c.mode); err != nil {
				t.Fatal(err)
			}
			d := running(t, memstore.New(), "")
			wantKind(t, d.KeepBootstrap(t.Context(), path, func(secret.Value) {}), errs.Precondition)
		})
	}
}
