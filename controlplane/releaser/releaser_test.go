package releaser

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/spec"
)

// rig is a releaser over a store in memory, a real view and a real table, within a synctest bubble.
type rig struct {
	t     *testing.T
	store *memstore.Store
	view  *view.View
	table *fleet.Table
	rel   *Releaser
	key   fleet.Key
	mcp   []spec.MCPServerRef // of the specs that are applied
	off   time.Duration       // how much the clock of who writes heads is ahead of the releaser's
	cfg   Config

	begin func(run func(context.Context) error) // runs it until the test ends
	stop  func()                                // the releaser

	mu    sync.Mutex
	drops []string
}

func (r *rig) Drop(id snapshot.InstanceID, token manifest.Token) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drops = append(r.drops, fmt.Sprintf("%s %s %d", id.Agent, id.Instance, token.Epoch))
}

func (r *rig) dropped() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.drops)
}

// within runs test with everything started and stops it afterwards.
func within(t *testing.T, test func(r *rig), more ...func(*rig, *Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := &rig{t: t, store: memstore.New()}
		if _, err := view.Init(ctx, r.store); err != nil {
			t.Fatal(err)
		}
		var err error
		if r.view, err = view.Open(ctx, view.Config{Store: r.store, Logger: slog.New(slog.DiscardHandler)}); err != nil {
			t.Fatal(err)
		}
		if r.table, err = fleet.New(fleet.Config{Started: time.Now()}); err != nil {
			t.Fatal(err)
		}
		r.cfg = Config{View: r.view, Fleet: r.table, Store: r.store, Drops: r, Logger: slog.New(slog.DiscardHandler)}
		for _, m := range more {
			m(r, &r.cfg)
		}
		var wg sync.WaitGroup
		r.begin = func(run func(context.Context) error) {
			wg.Go(func() {
				if err := run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		r.begin(r.view.Run)
		r.lead()
		test(r)
		cancel()
		wg.Wait()
	})
}

func (r *rig) commit(txn store.Txn) {
	r.t.Helper()
	if _, err := r.store.Commit(r.t.Context(), txn); err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
}

// apply writes an own spec and, with version set, the prompt's version.
func (r *rig) apply(description string) {
	r.t.Helper()
	b, err := spec.Canonical(spec.Agent{
		AgentName: "a", Description: description, PromptKey: "p", PromptLabel: "latest", MaxIterations: 10,
		Release: spec.Release{Strategy: "immediate", OnReject: "rollback", ProgressDeadline: spec.Duration(30 * time.Second)},
		Model:   spec.Model{Model: "m", API: "chat-completions"},
		Memory:  spec.Memory{StorageType: "in-process", CompressionStrategy: "none", SearchStrategy: "recency"},

		MCPServers: r.mcp,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	head, mod, _ := r.view.Agent("d", "a")
	head.Name = "a"
	next, actions := release.Step(head.State, release.Apply{
		At: time.Now().Add(r.off), Spec: manifest.Sum(b), Manifest: manifest.Sum([]byte(description)), Live: len(r.table.Agent("d", "a")) > 0,
		Policy: release.Policy{ProgressDeadline: 30 * time.Second},
	})
	if !release.OwnMove(actions) {
		r.t.Fatalf("apply did %v", actions)
	}
	key := view.HeadKey(manifest.KindAgent, "d", "a")
	r.commit(store.Txn{
		If: []store.Cond{{Key: key, ModRevision: mod}},
		Puts: []store.KV{
			{Key: view.BlobKey(manifest.Sum(b)), Value: b}, {Key: key, Value: view.Encode(head.Moved(next))},
		},
	})
}

func (r *rig) prompt(version string) {
	r.t.Helper()
	b := []byte(`{"promptKey":"p","template":"` + version + `","version":"` + version + `"}`)
	head, _, _ := r.view.Prompt("d", "p")
	head.Name, head.Updated = "p", time.Now().Add(r.off)
	head.Versions = append(head.Versions, view.VersionRef{Version: version, Hash: manifest.Sum(b), Online: true})
	head.Labels = map[string]string{"latest": version}
	r.commit(store.Txn{Puts: []store.KV{
		{Key: view.BlobKey(manifest.Sum(b)), Value: b}, {Key: view.HeadKey(manifest.KindPrompt, "d", "p"), Value: view.Encode(head)},
	}})
}

func (r *rig) label(version string) {
	r.t.Helper()
	head, _, _ := r.view.Prompt("d", "p")
	head.Labels, head.Updated = map[string]string{"latest": version}, time.Now().Add(r.off)
	r.commit(store.Txn{Puts: []store.KV{{Key: view.HeadKey(manifest.KindPrompt, "d", "p"), Value: view.Encode(head)}}})
}

// tools writes an MCP entry with a person's description of its tool.
func (r *rig) tools(description string) {
	r.t.Helper()
	b := []byte(`{"name":"m"}`)
	r.mcp = []spec.MCPServerRef{{MCPServerName: "m", Required: true}}
	r.commit(store.Txn{Puts: []store.KV{
		{Key: view.BlobKey(manifest.Sum(b)), Value: b},
		{Key: view.HeadKey(manifest.KindMCP, "d", "m"), Value: view.Encode(view.MCPHead{
			Name: "m", Current: "1", Versions: []view.VersionRef{{Version: "1", Hash: manifest.Sum(b), Online: true}}, Updated: time.Now(),
			Tools: map[string]spec.ToolSwitch{"t": {Description: description}},
		})},
	}})
}

func (r *rig) connect() {
	r.key = r.table.Hello(fleet.Hello{
		ID: snapshot.InstanceID{Namespace: "d", Agent: "a", Instance: "i"}, Version: "v",
	}, time.Now()).Key
	synctest.Wait()
}

// answer offers what Build gives and answers it.
func (r *rig) answer(p phase.Phase, faults ...phase.Fault) fleet.Ref {
	r.t.Helper()
	in := r.table.Agent("d", "a")[0]
	heads, im := r.view.Heads("d", "a")
	snap, err := snapshot.Build(heads, im, snapshot.Instance{ID: in.ID, RunsRevision: in.Running.Revision})
	if err != nil {
		r.t.Fatal(err)
	}
	ref := fleet.Ref{Token: snap.Token, Revision: snap.Revision}
	r.table.Offer(r.key, fleet.Offer{Desired: ref}, time.Now())
	running := in.Running
	if p.Serving() {
		running = ref
	}
	r.table.Report(r.key, fleet.Report{Phase: p, Desired: ref.Token, Running: running, Faults: faults}, time.Now())
	synctest.Wait()
	return ref
}

func (r *rig) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (r *rig) state() string {
	h, _, _ := r.view.Agent("d", "a")
	s := h.State
	out := fmt.Sprintf("stable %d proven %d", s.Stable, s.Proven)
	if s.Candidate != nil {
		out += fmt.Sprintf(" candidate %d", s.Candidate.Revision)
	}
	if s.Hold != nil {
		out += fmt.Sprintf(" hold %d", s.Hold.Revision)
	}
	if s.LastRefusal != nil {
		out += fmt.Sprintf(" refusal %d %s", s.LastRefusal.Revision, s.LastRefusal.Action)
	}
	return out
}

func (r *rig) want(state string) {
	r.t.Helper()
	if diff := cmp.Diff(state, r.state()); diff != "" {
		r.t.Errorf("state (-want +got):\n%s", diff)
	}
}

var (
	bad  = phase.Fault{Resource: "agent/a", Code: phase.ToolMissing, Severity: phase.Error}
	slow = phase.Fault{Resource: "mcp/m", Code: phase.Unreachable, Severity: phase.Error, Retryable: true}
)

// proven is revision 1, applied by one instance.
func (r *rig) proven() fleet.Ref {
	r.t.Helper()
	r.prompt("1")
	r.apply("one")
	r.connect()
	ref := r.answer(phase.Applied)
	r.want("stable 1 proven 1")
	return ref
}

func TestRefusalRollsBackAndIsRecorded(t *testing.T) {
	within(t, func(r *rig) {
		first := r.proven()
		r.apply("two")
		r.want("stable 1 proven 1 candidate 2")
		began := time.Now()
		second := r.answer(phase.Rejected, bad)
		if took := time.Since(began); took != 0 {
			t.Errorf("a rollback waited %s", took)
		}
		r.want("stable 1 proven 1 refusal 2 rolled_back")

		var moves []string
		for _, m := range r.view.Moves("d", manifest.KindAgent, "a") {
			for _, h := range m.Heads {
				moves = append(moves, fmt.Sprintf("%s by %s because of %s: %s -> %s, %s, %d faults", h.Move, m.Actor, m.Cause, h.From, h.To, h.Config, len(h.Faults)))
			}
		}
		if diff := cmp.Diff([]string{"return by releaser because of policy: 2 -> 1, " + second.Config() + ", 1 faults"}, moves); diff != "" {
			t.Errorf("moves (-want +got):\n%s", diff)
		}
		refusals := r.view.Refusals("d", "a")
		if len(refusals) != 1 || refusals[0].Config != second.Config() || refusals[0].Instance != "i" {
			t.Errorf("refusals %+v", refusals)
		}
		applied := r.view.AppliedConfigs("d", "a")
		if len(applied) != 1 || applied[0].Hash != first.Token.Hash || len(applied[0].Lines) != 2 {
			t.Errorf("applied %+v", applied)
		}
	})
}

func TestAppliedPromotes(t *testing.T) {
	within(t, func(r *rig) {
		r.proven()
		r.apply("two")
		r.answer(phase.Degraded, slow)
		r.want("stable 2 proven 2")
		if n := len(r.view.AppliedConfigs("d", "a")); n != 2 {
			t.Errorf("%d applied configs are kept, want 2", n)
		}
	})
}

func TestProgressDeadline(t *testing.T) {
	within(t, func(r *rig) {
		r.proven()
		r.apply("two")
		r.answer(phase.Received, slow)
		r.pass(29 * time.Second)
		r.want("stable 1 proven 1 candidate 2")
		r.pass(time.Second)
		r.want("stable 1 proven 1 refusal 2 rolled_back")
		if drops := r.dropped(); len(drops) != 0 {
			t.Errorf("drops %v; what is stable follows and ends the retry", drops)
		}
	})
}

func TestSharedRefusalIsVetoed(t *testing.T) {
	within(t, func(r *rig) {
		first := r.proven()
		r.prompt("2")
		second := r.answer(phase.Received, slow)
		r.pass(31 * time.Second)
		r.want("stable 1 proven 1 refusal 1 held")
		if drops := r.dropped(); len(drops) != 0 {
			t.Errorf("drops %v; what the veto leaves follows and ends the retry", drops)
		}
		h, _, _ := r.view.Agent("d", "a")
		if diff := cmp.Diff([]string{"2"}, h.State.Vetoes[0].Refused); diff != "" || h.State.Vetoes[0].Use != "1" {
			t.Errorf("veto %+v", h.State.Vetoes)
		}
		if back := r.answer(phase.Applied); back.Token.Hash != first.Token.Hash || back.Token.Generation <= second.Token.Generation {
			t.Errorf("now %+v, before %+v", back, first)
		}
		m := r.view.Moves("d", manifest.KindAgent, "a")[0]
		if diff := cmp.Diff([]string{
			"releaser", "veto", "instance i could not apply it within the progress deadline: prompt/p 2 held at 1", "1", "1",
			second.Config(), "veto", "1",
		}, []string{
			m.Actor, m.Cause, m.Message, m.Heads[0].From, m.Heads[0].To, m.Heads[0].Config, string(m.Heads[0].Move),
			fmt.Sprint(len(m.Heads[0].Faults)),
		}); diff != "" {
			t.Errorf("move (-want +got):\n%s", diff)
		}
		if p, ok := r.rel.Progress("d", "a", time.Now()); !ok || p.Line(time.Now()) != "1  1 of 1  prompt/p held at 1 (2 refused)" {
			t.Errorf("progress %q", p.Line(time.Now()))
		}
		r.prompt("3")
		if p, _ := r.rel.Progress("d", "a", time.Now()); len(p.Vetoes) != 0 {
			t.Error("the veto counts although the head names another version")
		}
	})
}

func TestRetryOfWhatWasAppliedIsDropped(t *testing.T) {
	within(t, func(r *rig) {
		r.proven()
		r.prompt("2")
		r.answer(phase.Applied)
		r.label("1")
		r.answer(phase.Received, slow)
		r.pass(31 * time.Second)
		r.want("stable 1 proven 1 refusal 1 none")
		if diff := cmp.Diff([]string{"a i 1"}, r.dropped()); diff != "" {
			t.Errorf("drops (-want +got):\n%s", diff)
		}
		r.pass(dropAgain)
		if n := len(r.dropped()); n != 2 {
			t.Errorf("%d drops, want one more while the retry goes on", n)
		}
	})
}

// A policy is rendered from the head: its bytes are kept with the config that was APPLIED, to go back to.
func TestPoliciesOfAppliedConfigsAreKept(t *testing.T) {
	within(t, func(r *rig) {
		r.tools("first")
		r.proven()
		first := r.view.AppliedConfigs("d", "a")[0]
		i := slices.IndexFunc(first.Lines, func(l manifest.Line) bool { return l.Kind == manifest.KindPolicy })
		if b, ok := r.view.Blob(first.Lines[i].SHA256); !ok || len(b) == 0 {
			t.Fatal("the policy's bytes are not in the store")
		}
		r.tools("second")
		r.answer(phase.Rejected, bad)
		r.want("stable 1 proven 1 refusal 1 held")
		if back := r.answer(phase.Applied); back.Token.Hash != first.Hash {
			t.Errorf("now %s, want %s", back.Config(), first.Config)
		}
	})
}

func TestOutlivesAnUnavailableStore(t *testing.T) {
	within(t, func(r *rig) {
		r.proven()
		r.apply("two")
		r.store.FailNext(errs.New(errs.Unavailable, "no quorum"))
		r.answer(phase.Rejected, bad)
		r.pass(time.Second)
		r.want("stable 1 proven 1 refusal 2 rolled_back")
	})
}

func TestJudgesAgainAfterALostRace(t *testing.T) {
	within(t, func(r *rig) {
		r.proven()
		r.apply("two")
		r.store.FailNext(errs.New(errs.Conflict, "the head moved"))
		r.answer(phase.Rejected, bad)
		r.pass(time.Second)
		r.want("stable 1 proven 1 refusal 2 rolled_back")
	})
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	if _, err := New(Config{}); !errs.Is(err, errs.Invalid) {
		t.Errorf("error %v, want Invalid", err)
	}
}
