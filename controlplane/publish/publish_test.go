package publish

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// fake is a view of one agent and a Build that makes of a head what the test wants to see.
type fake struct {
	mu      sync.Mutex
	heads   snapshot.Heads
	head    view.AgentHead
	moves   []view.Move
	text    map[string]string // resource -> text
	err     error
	changed chan struct{}
	touched []view.AgentKey
	nudges  chan string
	streams int
}

func newFake() *fake {
	return &fake{
		heads: snapshot.Heads{Epoch: 1, Agent: snapshot.AgentHead{ModRevision: 10, Exists: true, Stable: 1}, MCP: map[string]snapshot.MCPHead{}},
		text:  map[string]string{"agent/x": "a", "mcp/m": "m", "prompt/p": "p"}, changed: make(chan struct{}, 1),
		nudges: make(chan string, 16), streams: 1,
	}
}

func (f *fake) Heads(string, string) (snapshot.Heads, snapshot.Immutables) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.heads, nothing{}
}

func (f *fake) Reset(string, string) (epoch uint64, generation int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.head.ResetEpoch, f.head.ResetGeneration
}

func (f *fake) MoveUpTo(_, _, _ string, revision int64) (view.Move, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.moves {
		if m.Seq <= revision {
			return m, true
		}
	}
	return view.Move{}, false
}

func (f *fake) Take() ([]view.AgentKey, int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.touched
	f.touched = nil
	return t, 0
}

func (f *fake) Changed(namespace, agent string) int {
	f.nudges <- namespace + "/" + agent
	return f.streams
}

func (f *fake) Proven(namespace, agent string, _ []manifest.Hash) int {
	return f.Changed(namespace, agent)
}

func (f *fake) ChangedWithMany(namespace, agent string) int { return f.Changed(namespace, agent) }

// build gives the stable revision's resources; the candidate to who runs something or refused stable.
func (f *fake) build(h snapshot.Heads, _ snapshot.Immutables, k snapshot.Key) (snapshot.Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return snapshot.Snapshot{}, f.err
	}
	if !h.Agent.Exists {
		return snapshot.Snapshot{Absent: snapshot.Unknown}, nil
	}
	s := snapshot.Snapshot{Revision: k.Target, Token: manifest.Token{Epoch: h.Epoch, Generation: h.Agent.ModRevision}}
	for name, text := range f.text {
		if name == "agent/x" {
			text = fmt.Sprint(text, k.Target)
		}
		b := []byte(text)
		kind, n, _ := cutName(name)
		s.Resources = append(s.Resources, snapshot.Resource{Line: manifest.Line{Kind: kind, Name: n, Version: "-", SHA256: manifest.Sum(b)}, JSON: b})
	}
	slices.SortFunc(s.Resources, func(a, b snapshot.Resource) int {
		if a.Line.Text() < b.Line.Text() {
			return -1
		}
		return 1
	})
	s.Token.Hash = manifest.Of(s.Lines())
	return s, nil
}

func cutName(s string) (kind, name string, ok bool) {
	for i, r := range s {
		if r == '/' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

type nothing struct{}

func (nothing) Spec(int64) (json.RawMessage, manifest.Hash, bool) { return nil, manifest.Hash{}, false }
func (nothing) Blob(manifest.Hash) ([]byte, bool)                 { return nil, false }
func (nothing) Applied(manifest.Line) bool                        { return false }

func never(manifest.Hash) bool { return false }

func newPublisher(t *testing.T, f *fake) *Publisher {
	t.Helper()
	p, err := New(Config{
		Logger: slog.New(slog.DiscardHandler), Source: f, Choose: snapshot.Choose, Build: f.build, Changed: f.changed, Changes: f,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// run starts the publisher and gives a func that announces a change and waits until it was handled.
func run(t *testing.T, p *Publisher, f *fake) (change func(func())) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, f) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return func(do func()) {
		f.mu.Lock()
		do()
		f.touched = append(f.touched, view.AgentKey{Namespace: "ns", Name: "x"})
		f.mu.Unlock()
		f.changed <- struct{}{}
	}
}

func id(instance string) snapshot.InstanceID {
	return snapshot.InstanceID{Namespace: "ns", Agent: "x", Instance: instance}
}

func TestMarshalsPerChangeAreDistinctContents(t *testing.T) {
	t.Parallel()
	f := newFake()
	p := newPublisher(t, f)
	change := run(t, p, f)
	all := func(missing ...bool) {
		var instances sync.WaitGroup
		for i := range 200 {
			instances.Go(func() {
				r, err := p.Target(id(fmt.Sprint(i)), 1, never)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := r.Content(missing); err != nil {
					t.Error(err)
				}
			})
		}
		instances.Wait()
	}
	all(true, true, true)
	if d := cmp.Diff(Stats{Builds: 1, Marshals: 1}, p.Stats()); d != "" {
		t.Error(d)
	}
	change(func() { f.text["mcp/m"] = "m2"; f.heads.Agent.ModRevision = 11 })
	<-f.nudges
	all(false, true, false) // the many that hold the rest
	all(true, true, true)   // the new ones
	if d := cmp.Diff(Stats{Builds: 2, Marshals: 3}, p.Stats()); d != "" {
		t.Error(d)
	}
	// The head moves and the content stays: nothing is marshalled again.
	change(func() { f.heads.Agent.ModRevision = 12 })
	<-f.nudges
	all(true, true, true)
	if d := cmp.Diff(Stats{Builds: 3, Marshals: 3}, p.Stats()); d != "" {
		t.Error(d)
	}
}

func TestContentCarriesWhatIsMissing(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, newFake())
	r, err := p.Target(id("i"), 1, never)
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Content([]bool{false, true, false})
	if err != nil {
		t.Fatal(err)
	}
	var c pushv1.Content
	if err := proto.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	if len(c.GetManifest()) != 3 || len(c.GetResources()) != 1 || c.GetResources()[0].GetKind() != "mcp" || string(c.GetResources()[0].GetJson()) != "m" {
		t.Errorf("content: %v", &c)
	}
	again, err := r.Content([]bool{false, true, false})
	if err != nil || &again[0] != &b[0] {
		t.Error("equal contents must share their bytes")
	}
	if _, err := r.Content(nil); err == nil {
		t.Error("flags that don't fit must be an error")
	}
}

func TestClasses(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.heads.Agent.Candidate = 2
	p := newPublisher(t, f)
	everything := func(manifest.Hash) bool { return true }
	for name, tc := range map[string]struct {
		runs    int64
		refused func(manifest.Hash) bool
		want    int64
	}{
		"runs nothing: stable first":         {0, never, 1},
		"runs nothing and refused stable":    {0, everything, 2},
		"runs stable":                        {1, never, 2},
		"runs what we don't know":            {-1, never, 2},
		"runs stable, refused the candidate": {1, everything, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := p.Target(id("i"), tc.runs, tc.refused)
			if err != nil || r.Snapshot.Revision != tc.want {
				t.Errorf("got revision %+v, %v, want %d", r, err, tc.want)
			}
		})
	}
}

func TestQuietChangesWakeNobody(t *testing.T) {
	t.Parallel()
	f := newFake()
	p := newPublisher(t, f)
	change := run(t, p, f)
	change(func() {}) // nobody asked for it yet
	if _, err := p.Target(id("i"), 1, never); err != nil {
		t.Fatal(err)
	}
	change(func() {}) // nothing that a stream could see
	change(func() { f.heads.MCP["m"] = snapshot.MCPHead{ModRevision: 20, Denied: []string{"drop_table"}} })
	if got := <-f.nudges; got != "ns/x" || len(f.nudges) != 0 {
		t.Errorf("nudged %q and %d more", got, len(f.nudges))
	}
	r, err := p.Target(id("i"), 1, never)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"m/drop_table"}, r.Denied); d != "" || r.DeniedAt != 20 {
		t.Errorf("overlay at %d: %s", r.DeniedAt, d)
	}
	change(func() { f.heads.MCP["m"] = snapshot.MCPHead{ModRevision: 21, Denied: []string{"*"}} })
	<-f.nudges
	if r, err = p.Target(id("i"), 1, never); err != nil || !slices.Equal(r.Denied, []string{"m"}) {
		t.Errorf("got %v, %v", r.Denied, err)
	}
}

func TestBuildErrors(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.err = errs.New(errs.NotFound, "prompt p is gone")
	p := newPublisher(t, f)
	change := run(t, p, f)
	if _, err := p.Target(id("i"), 1, never); err == nil {
		t.Fatal("want an error")
	}
	if got := p.Note("ns", "x"); got != "prompt p is gone" {
		t.Errorf("note %q", got)
	}
	change(func() { f.err = nil })
	<-f.nudges
	if _, err := p.Target(id("i"), 1, never); err != nil {
		t.Fatal(err)
	}
	if got := p.Note("ns", "x") + p.Note("ns", "other"); got != "" {
		t.Errorf("note %q", got)
	}
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	f := newFake()
	at := time.Unix(1000, 0)
	f.heads.Agent.Returned, f.heads.Agent.MovedAt = true, 9
	f.head.ResetEpoch, f.head.ResetGeneration = 1, 7
	f.moves = []view.Move{
		{Seq: 12, MoveRecord: view.MoveRecord{Actor: "later"}},
		{Seq: 10, MoveRecord: view.MoveRecord{Actor: "ann", Cause: "rollback", Message: "too chatty", Time: at}},
	}
	r, err := newPublisher(t, f).Target(id("i"), 1, never)
	if err != nil {
		t.Fatal(err)
	}
	want := snapshot.Cause{Actor: "ann", Reason: "rollback: too chatty", Head: "agent/x", Time: at}
	if d := cmp.Diff(want, r.Cause); d != "" {
		t.Error(d)
	}
	if r.ResetEpoch != 1 || r.ResetGeneration != 7 || r.ReturnedAt != 9 {
		t.Errorf("reset %d/%d, returned at %d", r.ResetEpoch, r.ResetGeneration, r.ReturnedAt)
	}
}

func TestUnwatchedAgentsAreForgotten(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.streams = 0
	p := newPublisher(t, f)
	change := run(t, p, f)
	if _, err := p.Target(id("i"), 1, never); err != nil {
		t.Fatal(err)
	}
	change(func() { f.heads.Agent.ModRevision = 11 })
	<-f.nudges
	before := p.Stats().Builds
	change(func() { f.heads.Agent.ModRevision = 12 })
	change(func() { f.heads.Agent.ModRevision = 13 }) // taken only after the one before was handled
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := p.Stats().Builds; got != before {
		t.Errorf("%d builds for an agent without streams", got-before)
	}
}
