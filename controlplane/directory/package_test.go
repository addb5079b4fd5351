package directory

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const devSecret = "agt_0123456789abcdef0123456789abcdef"

// open opens a directory without running it.
func open(tb testing.TB, s store.Store, dev string) *Directory {
	tb.Helper()
	d, err := Open(tb.Context(), Config{Store: s, Logger: slog.New(slog.DiscardHandler), Now: time.Now, Dev: secret.NewValue(dev)})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// running opens a directory and runs it until the test ends.
func running(tb testing.TB, s store.Store, dev string) *Directory {
	tb.Helper()
	d := open(tb, s, dev)
	start(tb, d.Run)
	return d
}

// start runs something until the test ends.
func start(tb testing.TB, run func(context.Context) error) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				tb.Errorf("run: %v", err)
			}
		})
	}
	tb.Cleanup(stop)
	return stop
}

// until waits until something holds, looking again at every change.
func until(t *testing.T, d *Directory, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		changed := d.Changed()
		if holds() {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%s: never", what)
		}
	}
}

func login(t *testing.T, d *Directory, user string, groups ...string) (access.Principal, string) {
	t.Helper()
	_, value, err := d.CreateSession(t.Context(), NewSession{User: user, Groups: groups})
	if err != nil {
		t.Fatal(err)
	}
	who, err := d.Authenticate(t.Context(), value.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	return who, value.Reveal()
}

func create(t *testing.T, d *Directory, maker access.Principal, n NewToken) (Token, access.Principal, string) {
	t.Helper()
	token, value, err := d.CreateToken(t.Context(), maker, n)
	if err != nil {
		t.Fatal(err)
	}
	who, err := d.Authenticate(t.Context(), value.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	return token, who, value.Reveal()
}

func bind(t *testing.T, d *Directory, b access.Binding) {
	t.Helper()
	if err := d.SetBinding(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// text gives all that a store holds.
func text(t *testing.T, s store.Store) string {
	t.Helper()
	page, err := s.List(t.Context(), "", store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, kv := range page.KVs {
		fmt.Fprintf(&b, "%s %s\n", kv.Key, kv.Value)
	}
	return b.String()
}

func wantKind(t *testing.T, err error, kind errs.Kind) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Errorf("error %v, want kind %v", err, kind)
	}
}
