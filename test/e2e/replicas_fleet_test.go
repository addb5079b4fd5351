package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/test/harness"
)

// replicas starts three control planes on one etcd and waits until each hears the others. vars are added to their environment.
func replicas(t *testing.T, vars ...string) (*world, []*harness.ControlPlane) {
	t.Helper()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	env.Vars = map[string][]string{"controlplane": vars}
	etcd, err := env.StartEtcdCluster(t.Context(), 1, harness.EtcdOptions{NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	w := worldIn(t, env, echoScript, etcd.Flags()...)
	all := []*harness.ControlPlane{w.cp}
	for len(all) < 3 {
		cp, err := w.StartControlPlane(t.Context(), etcd.Flags()...)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, cp)
	}
	for _, cp := range all {
		eventually(t, 20*time.Second, func(ctx context.Context) error {
			return wantMetric(ctx, cp, `agentry_peer_links{state="linked"}`, 2)
		})
	}
	return w, all
}

func wantMetric(ctx context.Context, cp *harness.ControlPlane, prefix string, want float64) error {
	got, err := cp.Metric(ctx, prefix)
	if err == nil && got != want {
		err = fmt.Errorf("%s is %v at %s, want %v", prefix, got, cp.People, want)
	}
	return err
}

// followers gives the replicas that don't lead, once one does.
func followers(t *testing.T, all []*harness.ControlPlane) []*harness.ControlPlane {
	t.Helper()
	var out []*harness.ControlPlane
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		out = nil
		for _, cp := range all {
			leads, err := cp.Metric(ctx, "agentry_leader ")
			if err != nil {
				return err
			}
			if leads == 0 {
				out = append(out, cp)
			}
		}
		if len(out) != len(all)-1 {
			return fmt.Errorf("%d of %d replicas follow", len(out), len(all))
		}
		return nil
	})
	return out
}

// raw is an instance that does what a test tells it.
func raw(t *testing.T, cp *harness.ControlPlane, agent, id string) (*harness.PushClient, *pushv1.Hello) {
	t.Helper()
	h := &pushv1.Hello{Namespace: "default", Agent: agent, Instance: id, AgentdVersion: "test"}
	c, err := cp.DialPush(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, h
}

// serve takes the next snapshot and answers that it serves it.
func serve(t *testing.T, c *harness.PushClient, h *pushv1.Hello) {
	t.Helper()
	end := time.Now().Add(10 * time.Second)
	for {
		m, err := c.Next(time.Until(end))
		if err != nil {
			t.Fatal(err)
		}
		if cur := m.GetCurrent(); cur != nil { // a head moved, and it runs that already
			if err := c.Report(confirmed(cur)); err != nil {
				t.Fatal(err)
			}
		}
		s := m.GetSnapshot()
		if s == nil {
			continue
		}
		content := &pushv1.Content{}
		if err := proto.Unmarshal(s.GetContent(), content); err != nil {
			t.Fatal(err)
		}
		if err := c.Report(applied(s)); err != nil {
			t.Fatal(err)
		}
		h.Running, h.Held, h.Phase = s.GetToken(), content.GetManifest(), pushv1.Phase_PHASE_APPLIED
		return
	}
}

func confirmed(c *pushv1.Current) *pushv1.Report {
	return &pushv1.Report{Nonce: c.GetNonce(), Phase: pushv1.Phase_PHASE_APPLIED, Desired: c.GetToken(), Running: c.GetToken()}
}

// seen gives an instance as a replica shows it.
func (w *world) seen(ctx context.Context, cp *harness.ControlPlane, agent, id string) (harness.Instance, error) {
	st, err := w.Status(ctx, cp, agent)
	if err != nil {
		return harness.Instance{}, err
	}
	for _, i := range st.Instances {
		if i.ID == id {
			return i, nil
		}
	}
	return harness.Instance{}, fmt.Errorf("%s isn't in the status at %s", id, cp.People)
}

// shows wants an instance in a phase, running a revision, at a replica.
func (w *world) shows(ctx context.Context, cp *harness.ControlPlane, id, phase string, revision int64) error {
	i, err := w.seen(ctx, cp, "helper", id)
	if err == nil && (i.Phase != phase || i.Running == nil || i.Running.Revision != revision) {
		err = fmt.Errorf("at %s %s is %+v, want %s of revision %d", cp.People, id, i, phase, revision)
	}
	return err
}

// An instance that is connected to one replica is in the status at every other, within a second of what it answers.
func TestEveryReplicaShowsTheWholeFleet(t *testing.T) {
	t.Parallel()
	w, all := replicas(t)
	w.apply(t, plain(1))
	c, h := raw(t, all[1], "helper", "one")
	best := time.Hour
	for take := 1; take <= 4; take++ {
		if take > 1 {
			w.apply(t, plain(take))
		}
		serve(t, c, h)
		answered := time.Now()
		for _, cp := range []*harness.ControlPlane{all[0], all[2]} {
			eventually(t, 10*time.Second, func(ctx context.Context) error { return w.shows(ctx, cp, "one", "APPLIED", int64(take)) })
		}
		best = min(best, time.Since(answered))
		eventually(t, 10*time.Second, func(ctx context.Context) error {
			st, err := w.Status(ctx, all[2], "helper")
			if err == nil && (st.Condition != "Synced" || st.Revision.Stable != int64(take) || !st.FleetComplete) {
				err = fmt.Errorf("%+v", st)
			}
			return err
		})
	}
	t.Logf("shown at both other replicas after %s at best", best.Round(time.Millisecond))
	if best > time.Second { // each look is a process of agentctl on a machine that has more to do
		t.Errorf("an answer was shown at the other replicas after %s at best", best)
	}
	for i, cp := range all { // the sum over the replicas is the fleet
		want := 0.0
		if i == 1 {
			want = 1
		}
		eventually(t, 5*time.Second, func(ctx context.Context) error { return wantMetric(ctx, cp, "agentry_push_streams ", want) })
		sum, err := cp.Metric(t.Context(), "agentry_instances")
		if want == 0 {
			sum, err = 0, nil // no line where there is none
		}
		if err != nil || sum != want {
			t.Errorf("agentry_instances is %v (%v) at replica %d, want %v", sum, err, i, want)
		}
	}
	c.Close()
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		out, err := w.CtlOK(ctx, all[0], "events", "helper")
		if err == nil && !strings.Contains(out, "disconnected") {
			err = errors.New(out)
		}
		return err
	})
}

// A refusal counts wherever the instance is connected, and whoever leads.
func TestARefusalAtAFollowerRollsBack(t *testing.T) {
	t.Parallel()
	w, all := replicas(t)
	stub := harness.NewMCPStub("tools", "alpha", "beta")
	t.Cleanup(stub.Close)
	w.apply(t, helper(stub.URL, `"alpha"`))
	follower := followers(t, all)[0]
	a, err := w.StartAgent(follower, "helper", harness.AgentOptions{ModelBaseURL: w.url})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.WaitReady(t.Context(), 15*time.Second); err != nil {
		t.Fatal(err)
	}
	if n, err := follower.Metric(t.Context(), "agentry_leader "); err != nil || n != 0 {
		t.Fatalf("the follower leads: %v %v", n, err)
	}
	w.apply(t, helper(stub.URL, `"alpha", "gamma"`))
	for _, cp := range all {
		eventually(t, 10*time.Second, func(ctx context.Context) error {
			st, err := w.Status(ctx, cp, "helper")
			if err == nil && (st.LastRefusal == nil || st.LastRefusal.Action != "rolled_back" || st.LastRefusal.Instance != "helper" ||
				st.Revision.Desired != 1 || st.Condition != "Synced") {
				err = fmt.Errorf("%+v", st)
			}
			return err
		})
	}
	if n, err := follower.Metric(t.Context(), `agentry_push_snapshots_total`); err != nil || n > 3 {
		t.Errorf("%v snapshots were sent (%v), want at most 3: the first, the refused one once, and perhaps what it went back to", n, err)
	}
}

// The leader ends the retry of an instance that is connected to another replica: what it retries was applied once, so nothing is
// taken back, and nobody serves it now.
func TestADropReachesAnotherReplica(t *testing.T) {
	t.Parallel()
	w, all := replicas(t, "AGENTRY_FLEET_LEASE=1s")
	files := plain(1)
	files["helper/agent-base.json"] = `{"promptKey": "helper", "release": {"progressDeadline": "1s"}}`
	w.apply(t, files)
	two := followers(t, all)
	good, goodHello := raw(t, two[0], "helper", "good")
	serve(t, good, goodHello)
	w.settled(t, "helper")
	good.Close()
	for _, cp := range all {
		eventually(t, 10*time.Second, func(ctx context.Context) error { return w.shows(ctx, cp, "good", "OFFLINE", 1) })
	}
	bad, _ := raw(t, two[1], "helper", "bad")
	end := time.Now().Add(30 * time.Second)
	for dropped := false; !dropped; {
		m, err := bad.Next(time.Until(end))
		if err != nil {
			t.Fatalf("%v; the status is %+v", err, w.status(t, "helper"))
		}
		if s := m.GetSnapshot(); s != nil {
			if err := bad.Report(&pushv1.Report{
				Nonce: s.GetNonce(), Phase: pushv1.Phase_PHASE_RECEIVED, Desired: s.GetToken(),
				Faults: []*pushv1.Fault{{Resource: "agent/helper", Code: "unreachable", Message: "not there", Severity: pushv1.Severity_SEVERITY_ERROR, Retryable: true}},
			}); err != nil {
				t.Fatal(err)
			}
		}
		dropped = m.GetCommand().GetKind() == pushv1.CommandKind_COMMAND_KIND_DROP
	}
	for _, cp := range all {
		eventually(t, 10*time.Second, func(ctx context.Context) error {
			i, err := w.seen(ctx, cp, "helper", "bad")
			if err == nil && i.Phase != "REJECTED" {
				err = fmt.Errorf("%+v", i)
			}
			return err
		})
	}
}

// A replica dies with the streams that it holds. Nothing is concluded about its instances, they come back at another replica, and
// what they run isn't sent again.
func TestAReplicaThatDies(t *testing.T) {
	t.Parallel()
	w, all := replicas(t)
	w.apply(t, plain(1))
	dies, stays, third := all[1], all[0], all[2]
	away, awayHello := raw(t, dies, "helper", "away")
	there, thereHello := raw(t, stays, "helper", "there")
	serve(t, away, awayHello)
	serve(t, there, thereHello)
	w.settled(t, "helper")
	for _, cp := range all { // whoever leads must know of both
		for _, id := range []string{"away", "there"} {
			eventually(t, 10*time.Second, func(ctx context.Context) error { return w.shows(ctx, cp, id, "APPLIED", 1) })
		}
	}

	// A release is open when the replica dies: the instance that is away hasn't answered.
	w.apply(t, plain(2))
	serve(t, there, thereHello)
	eventually(t, 10*time.Second, func(ctx context.Context) error { return w.shows(ctx, third, "there", "APPLIED", 2) })
	dies.Kill()
	until := time.Now().Add(5 * time.Second)
	for time.Now().Before(until) {
		st, err := w.Status(t.Context(), stays, "helper")
		if err != nil {
			t.Fatal(err)
		}
		if st.Revision.Stable != 1 {
			t.Fatalf("the release was completed without the instance that is away: %+v", st)
		}
		if i, err := w.seen(t.Context(), stays, "helper", "away"); err != nil || i.Phase == "OFFLINE" {
			t.Fatalf("%+v, %v: its lease lasts 30 s", i, err)
		}
	}
	back, err := third.DialPush(t.Context(), awayHello)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	serve(t, back, awayHello)
	for _, cp := range []*harness.ControlPlane{stays, third} {
		eventually(t, 30*time.Second, func(ctx context.Context) error {
			st, err := w.Status(ctx, cp, "helper")
			if err == nil && (st.Revision.Stable != 2 || st.Condition != "Synced" || !st.FleetComplete) {
				err = fmt.Errorf("%+v", st)
			}
			return err
		})
	}

	// Nothing is on its way when the next one dies: no content is sent again.
	bytes, err := stays.Metric(t.Context(), "agentry_push_content_bytes_total")
	if err != nil {
		t.Fatal(err)
	}
	third.Kill()
	if back, err = stays.DialPush(t.Context(), awayHello); err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	if err := wantCurrent(back); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		if err := w.shows(ctx, stays, "away", "APPLIED", 2); err != nil {
			return err
		}
		if err := wantMetric(ctx, stays, `agentry_peer_links{state="down"}`, 0); err != nil {
			return err // the leases of the dead last for 10 s
		}
		return wantMetric(ctx, stays, "agentry_fleet_complete", 1)
	})
	if err := wantMetric(t.Context(), stays, "agentry_push_content_bytes_total", bytes); err != nil {
		t.Error(err)
	}
}

// Two processes of one id at different replicas: the newer stream wins, the older is told so, once.
func TestOneInstanceAtTwoReplicas(t *testing.T) {
	t.Parallel()
	w, all := replicas(t)
	w.apply(t, plain(1))
	older, h := raw(t, all[0], "helper", "twin")
	serve(t, older, h)
	eventually(t, 10*time.Second, func(ctx context.Context) error { return w.shows(ctx, all[2], "twin", "APPLIED", 1) })
	newer, err := all[1].DialPush(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	defer newer.Close()
	goodbyes := 0
	for {
		m, err := older.Next(10 * time.Second)
		if err != nil {
			break // the stream ended
		}
		if g := m.GetGoaway(); g != nil {
			goodbyes++
			if g.GetReason() != "duplicate" {
				t.Errorf("sent away with %q", g.GetReason())
			}
		}
	}
	if goodbyes != 1 {
		t.Errorf("%d goodbyes, want one", goodbyes)
	}
	if err := wantCurrent(newer); err != nil {
		t.Fatal(err)
	}
	for _, m := range newer.Collect(2 * time.Second) {
		if g := m.GetGoaway(); g != nil {
			t.Errorf("the newer stream is sent away: %s", g.GetReason())
		}
	}
	for i, want := range []float64{0, 1, 0} {
		if err := wantMetric(t.Context(), all[i], "agentry_push_streams ", want); err != nil {
			t.Error(err)
		}
	}
	for _, cp := range all {
		eventually(t, 10*time.Second, func(ctx context.Context) error { return w.shows(ctx, cp, "twin", "APPLIED", 1) })
	}
}
