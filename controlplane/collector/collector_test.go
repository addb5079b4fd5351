package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a store with a collector whose clock the test moves.
type world struct {
	t       *testing.T
	store   *memstore.Store
	in      store.Store // what is collected through
	now     time.Time
	running map[manifest.Hash]bool
	known   bool
	c       *Collector
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := memstore.New()
	w := &world{t: t, store: s, in: s, now: time.Unix(1_000_000, 0), running: map[manifest.Hash]bool{}, known: true}
	var err error
	w.c, err = New(Config{
		Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now }, Pause: time.Nanosecond, Keep: 3,
		Running: func() (map[manifest.Hash]bool, bool) { return w.running, w.known },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.store.Close() })
	return w
}

func (w *world) put(key string, value []byte) {
	w.t.Helper()
	if _, err := w.store.Commit(w.t.Context(), store.Txn{Puts: []store.KV{{Key: key, Value: value}}}); err != nil {
		w.t.Fatal(err)
	}
}

// blob stores bytes and gives their hash.
func (w *world) blob(text string) manifest.Hash {
	h := manifest.Sum([]byte(text))
	w.put(view.BlobKey(h), []byte(text))
	return h
}

func (w *world) collect() {
	w.t.Helper()
	if err := w.c.Collect(w.t.Context(), w.in); err != nil {
		w.t.Fatal(err)
	}
}

// left gives what is there under a prefix, without it.
func (w *world) left(prefix string) []string {
	w.t.Helper()
	page, err := w.store.List(w.t.Context(), prefix, store.ListOptions{KeysOnly: true})
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, kv := range page.KVs {
		out = append(out, strings.TrimPrefix(kv.Key, prefix))
	}
	return out
}

func (w *world) agent(name string, s release.State) {
	w.put(view.HeadKey(manifest.KindAgent, "default", name), view.Encode(view.AgentHead{Name: name, State: s}))
}

func TestUnusedBytesGoAfterAnHour(t *testing.T) {
	w := newWorld(t)
	bySpec, byVersion, byManifest, bySetting := w.blob("spec"), w.blob("prompt"), w.blob("policy"), w.blob("later")
	w.agent("bot", release.State{Revisions: []release.Revision{{N: 1, Spec: bySpec}}})
	w.put(view.HeadKey(manifest.KindPrompt, "default", "p"), view.Encode(view.PromptHead{Name: "p", Versions: []view.VersionRef{{Version: "1.0.0", Hash: byVersion}}}))
	w.put(view.AppliedKey("default", "bot", manifest.Sum(nil)), view.Encode(view.Applied{Lines: []manifest.Line{{Kind: "policy", Name: "m", SHA256: byManifest}}}))
	w.put(view.SettingKey("of-a-later-release"), []byte(`{"x":"`+bySetting.String()+`"}`))
	var orphans []manifest.Hash
	for i := range 2 * batch {
		orphans = append(orphans, w.blob(fmt.Sprint("orphan ", i)))
	}
	used := []string{bySpec.String(), byVersion.String(), byManifest.String(), bySetting.String()}
	slices.Sort(used)

	w.collect()
	w.now = w.now.Add(DefaultAge - time.Second)
	w.collect()
	if got := len(w.left(view.BlobPrefix)); got != len(used)+len(orphans) {
		t.Fatalf("%d blobs are left before the hour is over", got)
	}
	w.put(view.BlobKey(orphans[0]), []byte("orphan 0")) // an apply is about to name it
	w.now = w.now.Add(time.Second)
	w.collect()
	want := append(slices.Clone(used), orphans[0].String())
	slices.Sort(want)
	if diff := cmp.Diff(want, w.left(view.BlobPrefix)); diff != "" {
		t.Errorf("blobs (-want +got):\n%s", diff)
	}
	w.now = w.now.Add(DefaultAge)
	w.collect()
	if diff := cmp.Diff(used, w.left(view.BlobPrefix)); diff != "" {
		t.Errorf("blobs after another hour (-want +got):\n%s", diff)
	}
	if got := w.c.Stats().Blobs; got != uint64(len(orphans)) {
		t.Errorf("%d counted, want %d", got, len(orphans))
	}
}

// racing is a store to which something is written right before a transaction with deletes.
type racing struct {
	store.Store

	before func()
}

func (r *racing) Commit(ctx context.Context, t store.Txn) (int64, error) {
	if before := r.before; before != nil && len(t.Deletes) > 0 {
		r.before = nil
		before()
	}
	return r.Store.Commit(ctx, t)
}

func TestWhatIsWrittenMeanwhileStays(t *testing.T) {
	w := newWorld(t)
	h := w.blob("orphan")
	r := &racing{Store: w.store}
	w.in = r
	w.collect()
	w.now = w.now.Add(DefaultAge)
	r.before = func() { w.put(view.BlobKey(h), []byte("orphan")) }
	w.collect()
	if got := w.left(view.BlobPrefix); len(got) != 1 || w.c.Stats().Blobs != 0 {
		t.Errorf("left %q, %d counted", got, w.c.Stats().Blobs)
	}
}

func TestOldRecordsGo(t *testing.T) {
	hash := func(i int) manifest.Hash { return manifest.Sum([]byte{byte(i)}) }
	applied := func(w *world, i int, revision int64) {
		w.put(view.AppliedKey("default", "bot", hash(i)), view.Encode(view.Applied{
			Revision: revision, Config: manifest.ConfigName(revision, hash(i)), Time: time.Unix(int64(-i), 0), // by clocks that go back
		}))
	}
	names := func(is ...int) []string {
		var out []string
		for _, i := range is {
			out = append(out, "default/bot/"+hash(i).String())
		}
		slices.Sort(out)
		return out
	}
	cases := map[string]struct {
		state   release.State
		running []int
		unknown bool
		want    []string
	}{
		"the newest stay":                  {want: names(8, 9, 10)},
		"what runs stays":                  {running: []int{2}, want: names(2, 8, 9, 10)},
		"a pinned one stays":               {state: release.State{Pin: &release.Pin{Hash: hash(4)}}, want: names(4, 8, 9, 10)},
		"the last of stable stays":         {state: release.State{Stable: 1}, want: names(5, 8, 9, 10)},
		"nothing goes while some are away": {unknown: true, want: names(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.agent("bot", tc.state)
			for i := 1; i <= 10; i++ {
				revision := int64(1)
				if i > 5 {
					revision = 2
				}
				applied(w, i, revision)
			}
			for _, i := range tc.running {
				w.running[hash(i)] = true
			}
			w.known = !tc.unknown
			w.collect()
			if diff := cmp.Diff(tc.want, w.left(view.AppliedPrefix)); diff != "" {
				t.Errorf("applied configs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOldRefusalsGoButNotWhatTheHeadJudgesBy(t *testing.T) {
	w := newWorld(t)
	hash := func(i int) manifest.Hash { return manifest.Sum([]byte{byte(i)}) }
	w.agent("bot", release.State{Refusals: []release.Refusal{{Hash: hash(1)}}})
	for i := 1; i <= 6; i++ {
		w.put(view.RefusalKey("default", "bot", hash(i)), view.Encode(view.RefusalRecord{Time: time.Unix(int64(-i), 0)}))
	}
	w.collect()
	var want []string
	for _, i := range []int{1, 4, 5, 6} {
		want = append(want, "default/bot/"+hash(i).String())
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, w.left(view.RefusalPrefix)); diff != "" {
		t.Errorf("refusals (-want +got):\n%s", diff)
	}
}

func TestOldMovesGoWhenNoHeadShowsThem(t *testing.T) {
	w := newWorld(t)
	move := func(i int, heads ...string) {
		r := view.MoveRecord{}
		for _, h := range heads {
			r.Heads = append(r.Heads, view.HeadMove{Kind: manifest.KindAgent, Namespace: "default", Name: h})
		}
		w.put(view.MoveKey("default", fmt.Sprintf("%020d-x", i)), view.Encode(r))
	}
	move(0, "busy", "Quiet") // one of its heads shows it still
	for i := 1; i <= KeepMoves+2; i++ {
		move(i, "busy")
	}
	w.collect()
	got := w.left(view.MovePrefix)
	if len(got) != KeepMoves+1 || got[0] != fmt.Sprintf("default/%020d-x", 0) || got[1] != fmt.Sprintf("default/%020d-x", 3) {
		t.Errorf("%d moves are left, the first %q", len(got), got[:2])
	}
	if n := w.c.Stats().Moves; n != 2 {
		t.Errorf("%d counted", n)
	}
}

// The keys of moves begin with the writer's time. Those of a leader whose clock was behind went first, though they were the newest.
func TestTheNewestMovesStayWhateverTheirTimes(t *testing.T) {
	w := newWorld(t)
	for i := range KeepMoves + 1 {
		w.put(view.MoveKey("default", fmt.Sprintf("%020d-x", KeepMoves-i)), view.Encode(view.MoveRecord{
			Heads: []view.HeadMove{{Kind: manifest.KindAgent, Namespace: "default", Name: "bot"}},
		}))
	}
	w.collect()
	got := w.left(view.MovePrefix)
	if first := fmt.Sprintf("default/%020d-x", 0); len(got) != KeepMoves || got[0] != first {
		t.Errorf("%d moves are left, the first %q, want %q", len(got), got[0], first)
	}
}

func TestAStoreThatIsAwayEndsTheLook(t *testing.T) {
	w := newWorld(t)
	w.blob("orphan")
	w.store.FailNext(errs.New(errs.Unavailable, "no quorum"))
	if err := w.c.Collect(t.Context(), w.store); !errs.Is(err, errs.Unavailable) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.c.Run(ctx, w.store); err != nil {
		t.Errorf("run: %v", err)
	}
	if _, err := New(Config{}); !errs.Is(err, errs.Invalid) || errors.Is(err, context.Canceled) {
		t.Errorf("new: %v", err)
	}
}
