package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/etcdstore"
	"github.com/agentry/agentry/controlplane/view"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/test/harness"
)

// own is an agent with a prompt of its own.
func own(agent string, take int) harness.Files {
	return harness.Files{
		agent + "/agent-base.json":   fmt.Sprintf(`{"promptKey": %q, "description": "take %d"}`, agent, take),
		agent + "/model.json":        `{"model": "scripted"}`,
		"prompts/" + agent + ".json": fmt.Sprintf(`{"promptKey": %q, "version": "1.0.0", "template": "be helpful"}`, agent),
	}
}

// inside opens the store that control planes work on.
func inside(t *testing.T, etcd *harness.EtcdCluster) store.Store {
	t.Helper()
	s, err := etcdstore.Dial(t.Context(), etcdstore.ClientConfig{Endpoints: etcd.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// moves reads the log of moves, oldest first.
func moves(t *testing.T, s store.Store) (out []view.Move) {
	t.Helper()
	page, err := s.List(t.Context(), view.MovePrefix, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range page.KVs {
		r, err := view.Decode[view.MoveRecord](kv.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, view.Move{MoveRecord: r, Seq: kv.CreateRevision})
	}
	slices.SortFunc(out, func(a, b view.Move) int { return int(a.Seq - b.Seq) })
	return out
}

// The leader of three etcd members is killed while four writers apply through two control planes: every one of 200 calls succeeds, and
// each makes one revision and one move.
func TestWritesOutliveTheLossOfTheEtcdLeader(t *testing.T) {
	t.Parallel()
	etcd, apis := outlive(t, func(leader *harness.EtcdMember) error {
		leader.Kill()
		return nil
	})
	askedAgain(t, apis)
	dead := slices.IndexFunc(etcd.Members, func(m *harness.EtcdMember) bool { return !m.Running() })
	etcd.Members[(dead+1)%len(etcd.Members)].Kill()
	withoutQuorum(t, apis[0])
}

// The same where the leader only hangs: nothing tells its clients.
func TestWritesOutliveAnEtcdLeaderThatHangs(t *testing.T) {
	t.Parallel()
	outlive(t, (*harness.EtcdMember).Pause)
}

// outlive loses the leader of an etcd while calls write.
func outlive(t *testing.T, lose func(leader *harness.EtcdMember) error) (*harness.EtcdCluster, []harness.API) {
	t.Helper()
	const writers, each = 4, 50
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	etcd, err := env.StartEtcdCluster(t.Context(), 3, harness.EtcdOptions{NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	w := worldIn(t, env, echoScript, etcd.Flags()...)
	other, err := env.StartControlPlane(t.Context(), etcd.Flags()...)
	if err != nil {
		t.Fatal(err)
	}
	apis := []harness.API{w.api}
	if api, err := other.API(); err != nil {
		t.Fatal(err)
	} else {
		apis = append(apis, api)
	}
	leader, err := etcd.Leader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var done atomic.Int64
	var slowest atomic.Int64
	var wg sync.WaitGroup
	failed := make([]error, writers)
	for i := range writers {
		wg.Go(func() {
			for take := 1; take <= each && failed[i] == nil; take++ {
				failed[i] = applyTimed(t.Context(), apis[i%len(apis)], fmt.Sprintf("w%d", i), take, &slowest)
				done.Add(1)
			}
		})
	}
	eventually(t, time.Minute, func(context.Context) error {
		if n := done.Load(); n < writers*each/4 {
			return fmt.Errorf("%d calls", n)
		}
		return nil
	})
	if err := lose(leader); err != nil {
		t.Fatal(err)
	}
	after := done.Load()
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		t.Fatalf("%v\ncontrol plane:\n%s", err, w.cp.Output())
	}
	if after >= writers*each {
		t.Fatal("all calls were done before the leader was lost")
	}
	t.Logf("%d of %d calls after the loss, the slowest took %s", writers*each-after, writers*each, time.Duration(slowest.Load()).Round(time.Millisecond))
	for i := range writers {
		agent := fmt.Sprintf("w%d", i)
		eventually(t, 10*time.Second, func(ctx context.Context) error { // it may have been written through the other one
			got, err := apis[0].Spec.Get(ctx, connect.NewRequest(&specv1.GetRequest{Kind: manifest.KindAgent, Name: agent}))
			if err == nil && got.Msg.GetObject().GetRevision() != each {
				err = fmt.Errorf("%s is at revision %d, want %d", agent, got.Msg.GetObject().GetRevision(), each)
			}
			return err
		})
	}
	in := inside(t, etcd)
	made := map[string]int{}
	for _, m := range moves(t, in) {
		for _, h := range m.Heads {
			if h.Kind == manifest.KindAgent && m.Cause == "apply" {
				made[fmt.Sprintf("%s revision %d", h.Name, h.Revision)]++
			}
		}
	}
	if len(made) != writers*each {
		t.Errorf("%d revisions were made, want %d", len(made), writers*each)
	}
	for what, n := range made {
		if n != 1 {
			t.Errorf("%s was made %d times", what, n)
		}
	}
	return etcd, apis
}

// askedAgain asks one call of both control planes under one key: it is carried out once and answered alike, whatever came between.
func askedAgain(t *testing.T, apis []harness.API) {
	t.Helper()
	ask := func(api harness.API, key string, take int) (*specv1.ApplyResponse, error) {
		req := connect.NewRequest(&specv1.ApplyRequest{})
		for path, content := range own("again", take) {
			req.Msg.Files = append(req.Msg.Files, &specv1.File{Path: path, Content: []byte(content)})
		}
		slices.SortFunc(req.Msg.Files, func(a, b *specv1.File) int { return strings.Compare(a.GetPath(), b.GetPath()) })
		req.Header().Set("Idempotency-Key", key)
		resp, err := api.Spec.Apply(t.Context(), req)
		if err != nil {
			return nil, err
		}
		if resp.Header().Get("Agentry-Replica") == "" || resp.Header().Get("Agentry-Store-Revision") == "" {
			t.Errorf("headers %v", resp.Header())
		}
		return resp.Msg, nil
	}
	first, err := ask(apis[0], "one", 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(apis[1], "two", 2); err != nil {
		t.Fatal(err)
	}
	for _, api := range apis {
		again, err := ask(api, "one", 1)
		if err != nil || !proto.Equal(first, again) {
			t.Errorf("answer %v, first it was %v: %v", again, first, err)
		}
		if _, err := ask(api, "one", 3); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("another request under the key: %v", err)
		}
	}
	got, err := apis[0].Spec.Get(t.Context(), connect.NewRequest(&specv1.GetRequest{Kind: manifest.KindAgent, Name: "again"}))
	if err != nil || got.Msg.GetObject().GetRevision() != 2 {
		t.Errorf("revision %d, want 2: %v", got.Msg.GetObject().GetRevision(), err)
	}
}

// withoutQuorum reads from a control plane whose etcd has lost two of three members: what it knows it tells, with its revision; that
// this is the newest it doesn't say.
func withoutQuorum(t *testing.T, api harness.API) {
	t.Helper()
	ask := func(consistency string) (*connect.Response[specv1.GetResponse], error) {
		req := connect.NewRequest(&specv1.GetRequest{Kind: manifest.KindAgent, Name: "again"})
		if consistency != "" {
			req.Header().Set("Agentry-Consistency", consistency)
		}
		return api.Spec.Get(t.Context(), req)
	}
	if _, err := ask("linearizable"); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("a linearizable read without a quorum: %v", err)
	}
	if resp, err := ask(""); err != nil || resp.Header().Get("Agentry-Store-Revision") == "" {
		t.Errorf("what the replica knows: %v", err)
	}
}

// applyTimed applies one take and wants the revision of that number.
func applyTimed(ctx context.Context, api harness.API, agent string, take int, slowest *atomic.Int64) error {
	began := time.Now()
	resp, err := api.Apply(ctx, own(agent, take))
	took := int64(time.Since(began))
	for old := slowest.Load(); took > old && !slowest.CompareAndSwap(old, took); old = slowest.Load() {
	}
	if err != nil {
		return fmt.Errorf("%s, take %d after %s: %w", agent, take, time.Duration(took), err)
	}
	for _, r := range resp.GetResults() {
		if r.GetKind() == manifest.KindAgent && r.GetRevision() != int64(take) {
			return fmt.Errorf("%s, take %d: answered revision %d", agent, take, r.GetRevision())
		}
	}
	return nil
}

// The control plane that leads stands still in the middle of releases. Another leads within 10 s and finishes them, each once; the
// first, when it goes on, writes nothing within its old term.
func TestAPausedControlPlaneIsFenced(t *testing.T) {
	t.Parallel()
	const agents = 8
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	env.Vars = map[string][]string{"controlplane": {"AGENTRY_FLEET_SETTLE=2s"}}
	etcd, err := env.StartEtcdCluster(t.Context(), 1, harness.EtcdOptions{NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	leads := func(ctx context.Context, cp *harness.ControlPlane, want bool) error {
		got, err := cp.Metric(ctx, "agentry_leader ")
		if err == nil && (got == 1) != want {
			err = fmt.Errorf("leads: %v, want %t", got, want)
		}
		return err
	}
	w := worldIn(t, env, echoScript, etcd.Flags()...) // alone, so it leads
	eventually(t, 20*time.Second, func(ctx context.Context) error { return leads(ctx, w.cp, true) })
	next, err := env.StartControlPlane(t.Context(), etcd.Flags()...)
	if err != nil {
		t.Fatal(err)
	}
	if err := leads(t.Context(), next, false); err != nil {
		t.Fatal(err)
	}
	api, err := next.API()
	if err != nil {
		t.Fatal(err)
	}
	in := inside(t, etcd)
	var refuse []func()
	for i := range agents {
		name := fmt.Sprintf("a%d", i)
		if _, err := api.Apply(t.Context(), own(name, 1)); err != nil {
			t.Fatal(err)
		}
		c, h := raw(t, next, name, name)
		serve(t, c, h)
		eventually(t, 30*time.Second, func(ctx context.Context) error { // only then there is something to go back to
			kv, err := in.Get(ctx, view.HeadKey(manifest.KindAgent, "default", name))
			if err != nil {
				return err
			}
			head, err := view.DecodeAgent(kv)
			if err == nil && head.State.Proven != 1 {
				err = fmt.Errorf("%s: %+v", name, head.State)
			}
			return err
		})
		if _, err := api.Apply(t.Context(), own(name, 2)); err != nil {
			t.Fatal(err)
		}
		s := offered(t, c)
		refuse = append(refuse, func() {
			if err := c.Report(refusal(s, h.GetRunning())); err != nil {
				t.Error(err)
			}
		})
	}
	for _, r := range refuse[:agents/2] {
		r()
	}
	if err := w.cp.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	for _, r := range refuse[agents/2:] {
		r()
	}
	eventually(t, 10*time.Second, func(ctx context.Context) error { return leads(ctx, next, true) })
	t.Logf("another leads after %s", time.Since(stopped).Round(time.Millisecond))
	eventually(t, time.Minute, func(context.Context) error {
		if n := len(returns(moves(t, in))); n != agents {
			return fmt.Errorf("%d of %d releases are rolled back", n, agents)
		}
		return nil
	})
	if err := w.cp.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func(ctx context.Context) error { return leads(ctx, w.cp, false) })
	// Something more for who leads to do, while the first is awake.
	if _, err := api.Apply(t.Context(), own("a0", 3)); err != nil {
		t.Fatal(err)
	}
	all := moves(t, in)
	rolled := returns(all)
	for agent, n := range rolled {
		if n != 1 {
			t.Errorf("%s was rolled back %d times", agent, n)
		}
	}
	term, err := next.Metric(t.Context(), "agentry_leader_term ")
	if err != nil {
		t.Fatal(err)
	}
	last := int64(0)
	for _, m := range all {
		if m.Actor != "releaser" {
			continue
		}
		if m.Term < last || m.Term == 0 {
			t.Errorf("move at revision %d of term %d, after one of term %d", m.Seq, m.Term, last)
		}
		if m.Seq > int64(term) && m.Term != int64(term) {
			t.Errorf("move at revision %d of term %d, when term %d had begun", m.Seq, m.Term, int64(term))
		}
		last = m.Term
	}
	if strings.Contains(w.cp.Output(), "panic") {
		t.Errorf("the first:\n%s", w.cp.Output())
	}
}

// returns counts by agent how often the releaser rolled back.
func returns(all []view.Move) map[string]int {
	out := map[string]int{}
	for _, m := range all {
		for _, h := range m.Heads {
			if m.Actor == "releaser" && h.Move == "return" {
				out[h.Name]++
			}
		}
	}
	return out
}

// refusal is the answer of an instance that can't run a config.
func refusal(s *pushv1.Snapshot, running *pushv1.Token) *pushv1.Report {
	return &pushv1.Report{
		Nonce: s.GetNonce(), Phase: pushv1.Phase_PHASE_REJECTED, Desired: s.GetToken(), Running: running,
		Faults: []*pushv1.Fault{{Resource: "mcp/tools", Field: "tools.allow[0]", Code: "tool_missing", Severity: pushv1.Severity_SEVERITY_ERROR, Message: "not this one"}},
	}
}

// offered gives the next snapshot; until it comes the instance says what it runs.
func offered(t *testing.T, c *harness.PushClient) *pushv1.Snapshot {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		m, err := c.Next(time.Until(end))
		if err != nil {
			t.Fatal(err)
		}
		if s := m.GetSnapshot(); s != nil {
			return s
		}
		if cur := m.GetCurrent(); cur != nil {
			if err := c.Report(confirmed(cur)); err != nil {
				t.Fatal(err)
			}
		}
	}
}
