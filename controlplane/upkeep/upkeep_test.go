package upkeep_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/upkeep"
	"github.com/agentry/agentry/internal/errs"
)

// fake is a store whose condition a test sets.
type fake struct {
	fault error
	full  chan struct{}

	mu        sync.Mutex // guards what follows
	condition store.Condition
	looks     int
	below     []int64
}

// Inspect gives the condition.
func (f *fake) Inspect(context.Context) store.Condition {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	return f.condition
}

// Compact notes the revision.
func (f *fake) Compact(_ context.Context, revision int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.below = append(f.below, revision)
	return f.fault
}

func (f *fake) looked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.looks
}

func (f *fake) compacted() []int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.below)
}

func (f *fake) members(m ...store.Member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.condition.Members = m
}

// lines is a log that is written while it is read.
type lines struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

// Write adds to it.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String gives it.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (f *fake) Full() <-chan struct{} { return f.full }

func run(t *testing.T, f *fake, leading *atomic.Bool, log *lines) *upkeep.Upkeep {
	t.Helper()
	u, err := upkeep.New(upkeep.Config{Store: f, Leading: leading.Load, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- u.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return u
}

func TestLooksAndTellsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		f := &fake{full: make(chan struct{}), condition: store.Condition{Kind: store.External, Revision: 5}}
		u := run(t, f, &atomic.Bool{}, &log)
		if f.looked() != 1 || log.String() != "" {
			t.Fatalf("%d looks, log %s", f.looked(), log.String())
		}
		f.members(store.Member{Name: "m0", Alarms: []string{"NOSPACE"}})
		f.full <- struct{}{}
		synctest.Wait()
		if f.looked() != 2 || strings.Count(log.String(), "m0 is out of space") != 1 {
			t.Fatalf("%d looks, log %s", f.looked(), log.String())
		}
		<-time.After(3 * upkeep.DefaultLook)
		synctest.Wait()
		if f.looked() != 5 || strings.Count(log.String(), "store alarm") != 1 || len(u.Condition().Members) != 1 {
			t.Fatalf("%d looks, log %s", f.looked(), log.String())
		}
		f.members()
		<-time.After(upkeep.DefaultLook)
		synctest.Wait()
		if !strings.Contains(log.String(), "well again") {
			t.Errorf("log %s", log.String())
		}
	})
}

func TestTheLeaderCompactsAnExternalStore(t *testing.T) {
	cases := map[string]struct {
		kind     store.Kind
		revision int64
		leading  bool
		fault    error
		want     []int64
		done     int64
	}{
		"external":          {kind: store.External, revision: 25_000, leading: true, want: []int64{15_000}, done: 15_000},
		"not much there":    {kind: store.External, revision: 9_000, leading: true},
		"a follower":        {kind: store.External, revision: 25_000},
		"embedded":          {kind: store.Embedded, revision: 25_000, leading: true},
		"embedded cluster":  {kind: store.EmbeddedCluster, revision: 25_000, leading: true},
		"it doesn't answer": {kind: store.External, revision: 25_000, leading: true, fault: errs.New(errs.Unavailable, "gone"), want: []int64{15_000}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{full: make(chan struct{}), condition: store.Condition{Kind: c.kind, Revision: c.revision}, fault: c.fault}
				var leading atomic.Bool
				leading.Store(c.leading)
				u := run(t, f, &leading, &lines{})
				<-time.After(upkeep.DefaultCompact + time.Second)
				synctest.Wait()
				if got := f.compacted(); !slices.Equal(got, c.want) || u.Compacted() != c.done {
					t.Errorf("compacted at %v (%d), want %v", got, u.Compacted(), c.want)
				}
			})
		})
	}
}

func TestAlarms(t *testing.T) {
	cases := map[string]struct {
		condition store.Condition
		want      []string
	}{
		"well":        {store.Condition{SizeBytes: 79, QuotaBytes: 100, Members: []store.Member{{Name: "a"}}}, nil},
		"no quorum":   {store.Condition{Fault: "no leader"}, []string{"the store doesn't answer: no leader"}},
		"a member":    {store.Condition{Members: []store.Member{{ID: 255, Fault: "refused"}}}, []string{"store member ff doesn't answer: refused"}},
		"nearly full": {store.Condition{SizeBytes: 81, QuotaBytes: 100}, []string{"over 80 %"}},
		"corrupt":     {store.Condition{Members: []store.Member{{Name: "a", Alarms: []string{"CORRUPT"}}}}, []string{"store member a: CORRUPT"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := upkeep.Alarms(c.condition)
			if len(got) != len(c.want) {
				t.Fatalf("alarms %q, want %q", got, c.want)
			}
			for i := range got {
				if !strings.Contains(got[i], c.want[i]) {
					t.Errorf("alarm %q, want %q", got[i], c.want[i])
				}
			}
		})
	}
}
