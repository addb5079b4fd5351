package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/test/harness"
)

// quickly makes silence short.
func quickly(t *testing.T, vars ...string) *world {
	t.Helper()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	env.Vars = map[string][]string{"controlplane": vars, "agentd": {"AGENTD_BEAT_INTERVAL=300ms"}}
	return worldIn(t, env, echoScript)
}

// plain is an agent without servers.
func plain(take int) harness.Files {
	return harness.Files{
		"helper/agent-base.json": fmt.Sprintf(`{"promptKey": "helper", "description": "take %d"}`, take),
		"helper/model.json":      `{"model": "scripted"}`,
		"prompts/helper.json":    `{"promptKey": "helper", "version": "1.0.0", "template": "be helpful"}`,
	}
}

func (w *world) instance(t *testing.T, agent, id string) *harness.Instance {
	t.Helper()
	for _, i := range w.status(t, agent).Instances {
		if i.ID == id {
			return &i
		}
	}
	return nil
}

// comes waits until an instance is in a phase; "" waits until it is forgotten.
func (w *world) comes(t *testing.T, id, phase string) {
	t.Helper()
	eventually(t, 20*time.Second, func(context.Context) error {
		i := w.instance(t, "helper", id)
		got := ""
		if i != nil {
			got = i.Phase
		}
		if got != phase {
			return fmt.Errorf("%s is in phase %q, want %q", id, got, phase)
		}
		return nil
	})
}

func (w *world) metric(ctx context.Context, prefix string, want float64) error {
	got, err := w.cp.Metric(ctx, prefix)
	if err == nil && got != want {
		err = fmt.Errorf("%s is %v, want %v", prefix, got, want)
	}
	return err
}

// event waits for an event of a type.
func (w *world) event(t *testing.T, kind, words string) {
	t.Helper()
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		out, err := w.CtlOK(ctx, w.cp, "events", "helper")
		if err == nil && (!strings.Contains(out, kind) || !strings.Contains(out, words)) {
			err = fmt.Errorf("no event %s (%s) in\n%s", kind, words, out)
		}
		return err
	})
}

func TestBeatsAreSummedByAgentAndConfig(t *testing.T) {
	w := quickly(t)
	w.apply(t, plain(1))
	var agents []*harness.Agent
	for _, id := range []string{"one", "two"} {
		a, err := w.StartAgent(w.cp, "helper", harness.AgentOptions{Instance: id, ModelBaseURL: w.url})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.WaitReady(t.Context(), 15*time.Second); err != nil {
			t.Fatal(err)
		}
		agents = append(agents, a)
	}
	var configs []string
	for take := 1; take <= 2; take++ {
		w.apply(t, plain(take))
		w.settled(t, "helper")
		for i := range 5 {
			ans, err := agents[i%2].Chat(t.Context(), "", "hello")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(configs, ans.Config) {
				configs = append(configs, ans.Config)
			}
		}
	}
	if len(configs) != 2 {
		t.Fatalf("answers came from configs %q, want two", configs)
	}
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		var all []error
		for _, c := range configs {
			labels := fmt.Sprintf(`{agent="helper",config=%q,namespace="default"}`, c)
			all = append(all, w.metric(ctx, "agentry_agent_requests_total"+labels, 5), w.metric(ctx, "agentry_agent_request_errors_total"+labels, 0),
				w.metric(ctx, "agentry_agent_request_duration_seconds_count"+labels, 5))
			if tokens, err := w.cp.Metric(ctx, "agentry_agent_output_tokens_total"+labels); err != nil || tokens == 0 {
				all = append(all, fmt.Errorf("%v tokens: %w", tokens, errors.Join(err, errors.New("none"))))
			}
		}
		return errors.Join(all...)
	})
	out, err := w.CtlOK(t.Context(), w.cp, "status", "helper", "-o", "wide")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "REQUESTS") || !strings.Contains(out, " 6 ") || !strings.Contains(out, " 4 ") {
		t.Errorf("-o wide does not tell 6 requests and 4:\n%s", out)
	}
}

func TestSilenceIsShownAndForgotten(t *testing.T) {
	w := quickly(t, "AGENTRY_FLEET_STALE_AFTER=2s", "AGENTRY_FLEET_LEASE=2s", "AGENTRY_FLEET_REMOVE_AFTER=5s", "AGENTRY_FLEET_SETTLE=1s")
	w.apply(t, plain(1))
	a := w.agent(t, "helper")
	w.settled(t, "helper")
	if err := a.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.comes(t, "helper", "STALE")
	if err := a.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.comes(t, "helper", "APPLIED")
	a.Kill()
	w.comes(t, "helper", "OFFLINE")
	if st := w.status(t, "helper"); st.Condition != "Offline" {
		t.Errorf("condition %s, want Offline", st.Condition)
	}
	w.comes(t, "helper", "")
	for _, kind := range []string{"stale", "offline", "gone"} {
		w.event(t, kind, "")
	}
	if err := a.Restart(); err != nil {
		t.Fatal(err)
	}
	w.comes(t, "helper", "APPLIED")
	w.settled(t, "helper")
	// A clean end is no silence: it is gone at once.
	if err := a.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if i := w.instance(t, "helper", "helper"); i != nil {
		t.Errorf("after a clean end: %+v", i)
	}
}

func TestAnIDUsedByTwoProcesses(t *testing.T) {
	w := quickly(t)
	w.apply(t, plain(1))
	first := w.agent(t, "helper")
	second, err := w.StartAgent(w.cp, "helper", harness.AgentOptions{
		Instance: "helper", ModelBaseURL: w.url, Args: []string{"--state-dir", w.Dir + "/second"},
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func(context.Context) error {
		if !strings.Contains(first.Output(), "sent away: duplicate") {
			return errors.New("the older stream was not sent away")
		}
		return nil
	})
	w.event(t, "duplicate", "AGENTD_INSTANCE_ID")
	if out, err := w.CtlOK(t.Context(), w.cp, "status", "helper", "-o", "wide"); err != nil || !strings.Contains(out, "id used twice") {
		t.Errorf("status says nothing (%v):\n%s", err, out)
	}
	for _, a := range []*harness.Agent{first, second} {
		if ans, err := a.Chat(t.Context(), "", "hello"); err != nil || ans.Revision != "1" {
			t.Errorf("they go on serving: %+v, %v", ans, err)
		}
	}
	if n := len(w.status(t, "helper").Instances); n != 1 {
		t.Errorf("%d instances, want 1", n)
	}
	second.Kill()
	w.comes(t, "helper", "APPLIED")
}

// A beat that names another config than the one acknowledged.
func TestAPlantedDivergenceIsFoundShownAndHealed(t *testing.T) {
	w := quickly(t)
	w.apply(t, plain(1))
	c, err := w.cp.DialPush(t.Context(), &pushv1.Hello{Namespace: "default", Agent: "helper", Instance: "raw", AgentdVersion: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, _, err := c.NextSnapshot(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Report(applied(s)); err != nil {
		t.Fatal(err)
	}
	if err := wantCurrent(c); err != nil { // of the head's move: the revision is proven now
		t.Fatal(err)
	}
	w.settled(t, "helper")
	other := &pushv1.Token{Epoch: s.GetToken().GetEpoch(), Generation: s.GetToken().GetGeneration(), Hash: slices.Repeat([]byte{7}, 32)}
	if err := c.Beat(&pushv1.Beat{Running: other}); err != nil {
		t.Fatal(err)
	}
	again, content, err := c.NextSnapshot(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if string(again.GetToken().GetHash()) != string(s.GetToken().GetHash()) || len(content.GetResources()) != 2 {
		t.Errorf("offered again: %v with %d resources, want the same config whole", again.GetToken(), len(content.GetResources()))
	}
	if st := w.status(t, "helper"); st.Condition != "Degraded" || len(st.Instances) != 1 || st.Instances[0].Phase != "PENDING" || !strings.HasPrefix(st.Instances[0].Running.Config, "?-07070707") {
		t.Errorf("status %+v %+v, want Degraded with PENDING on an unknown config", st, st.Instances[0].Running)
	}
	if err := w.metric(t.Context(), "agentry_push_adrift_total", 1); err != nil {
		t.Error(err)
	}
	w.event(t, "drift", "offered again")
	if err := c.Report(applied(again)); err != nil {
		t.Fatal(err)
	}
	w.settled(t, "helper")
	if out, err := w.CtlOK(t.Context(), w.cp, "status", "helper", "-o", "wide"); err != nil || !strings.Contains(out, "drifted 1 times") {
		t.Errorf("status -o wide (%v):\n%s", err, out)
	}
}

// An agentd whose set is swapped back behind its own back, by a build that has a failpoint.
func TestARealDivergenceIsHealed(t *testing.T) {
	w := quickly(t)
	trigger := w.Dir + "/diverge"
	w.Programs = map[string]string{"agentd": variant(t, w.Dir+"/failpoint", "agentd", []harness.Change{
		{
			File: "agentd/configclient/driver.go", Old: "\td.beat.Reset(jittered(d.pace.beat))\n\tb := &pushv1.Beat",
			New: "\td.diverge(ctx)\n\td.beat.Reset(jittered(d.pace.beat))\n\tb := &pushv1.Beat",
		},
		{File: "agentd/configclient/failpoint.go", New: fmt.Sprintf(`package configclient

import (
	"context"
	"os"
)

// diverge goes back to the oldest config held once the trigger is there, and tells nobody.
func (d *driver) diverge(ctx context.Context) {
	if os.Remove(%q) != nil {
		return
	}
	old := d.held[0]
	old.Commit = func(context.Context) error { return nil }
	d.verdict = d.cfg.Applier.Apply(ctx, old)
	d.running = &old
}
`, trigger)},
	})}
	w.apply(t, plain(1))
	a := w.agent(t, "helper")
	w.settled(t, "helper")
	w.apply(t, plain(2))
	w.settled(t, "helper")
	if err := os.WriteFile(trigger, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.event(t, "drift", "offered again")
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		ans, err := a.Chat(ctx, "", "hello")
		if err == nil && ans.Revision != "2" {
			err = fmt.Errorf("answered by revision %s", ans.Revision)
		}
		return err
	})
	w.settled(t, "helper")
	if err := w.metric(t.Context(), "agentry_push_adrift_total", 1); err != nil {
		t.Error(err)
	}
}

// After a restart nothing is concluded from who isn't there, until who may be alive had time to come back.
func TestNothingIsConcludedBeforeTheFleetIsComplete(t *testing.T) {
	w := quickly(t, "AGENTRY_FLEET_SETTLE=8s")
	w.apply(t, plain(1))
	hellos := map[string]*pushv1.Hello{}
	for _, id := range []string{"back", "away"} {
		hellos[id] = &pushv1.Hello{Namespace: "default", Agent: "helper", Instance: id, AgentdVersion: "test"}
		c, err := w.cp.DialPush(t.Context(), hellos[id])
		if err != nil {
			t.Fatal(err)
		}
		s, content, err := c.NextSnapshot(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Report(applied(s)); err != nil {
			t.Fatal(err)
		}
		hellos[id].Running, hellos[id].Held, hellos[id].Phase = s.GetToken(), content.GetManifest(), pushv1.Phase_PHASE_APPLIED
		defer c.Close()
	}
	w.settled(t, "helper")
	if st := w.status(t, "helper"); !st.FleetComplete {
		t.Error("a store that nobody greeted before this start is complete at once")
	}

	w.cp.Kill()
	if err := w.cp.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := w.cp.DialPush(t.Context(), hellos["back"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := wantCurrent(c); err != nil {
		t.Fatal(err)
	}
	w.apply(t, plain(2))
	s, _, err := c.NextSnapshot(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Report(applied(s)); err != nil {
		t.Fatal(err)
	}
	w.comes(t, "back", "APPLIED")
	w.concludedOnlyWhenComplete(t, 2)

	// Nobody at all: that isn't concluded either.
	c.Close()
	w.cp.Kill()
	if err := w.cp.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := w.status(t, "helper"); !st.FleetComplete && st.Condition == "Offline" {
		t.Errorf("Offline was concluded: %+v", st)
	}
	w.apply(t, plain(3))
	w.concludedOnlyWhenComplete(t, 3)
}

// concludedOnlyWhenComplete watches until a revision is stable: never while the fleet isn't complete.
func (w *world) concludedOnlyWhenComplete(t *testing.T, revision int64) {
	t.Helper()
	early := 0
	eventually(t, 20*time.Second, func(context.Context) error {
		st := w.status(t, "helper")
		switch {
		case st.Revision.Desired != revision:
			t.Fatalf("desired %d, want %d", st.Revision.Desired, revision)
		case !st.FleetComplete && st.Revision.Stable == revision:
			t.Fatalf("revision %d became stable before the fleet was complete", revision)
		case !st.FleetComplete:
			early++
		}
		if st.Revision.Stable != revision {
			return fmt.Errorf("stable %d, want %d", st.Revision.Stable, revision)
		}
		return nil
	})
	if early == 0 {
		t.Error("the fleet was complete at once, so this shows nothing")
	}
}
