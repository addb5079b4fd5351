package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// doneScript answers at once.
const doneScript = `default: {text: "done | {{system}}"}`

// spread is three control planes with one store, and four agents of two instances each that may go to any of the three.
type spread struct {
	*world

	all    []*harness.ControlPlane
	agents []*harness.Agent
	round  int
}

var spreadAgents = []string{"one", "two", "three", "four"}

func newSpread(t *testing.T, w *world, all []*harness.ControlPlane) *spread {
	t.Helper()
	s := &spread{world: w, all: all}
	var runtimes []string
	for _, cp := range all {
		runtimes = append(runtimes, cp.Runtime)
		eventually(t, 20*time.Second, func(ctx context.Context) error {
			return wantMetric(ctx, cp, `agentry_peer_links{state="linked"}`, float64(len(all)-1))
		})
	}
	s.change(t, spreadAgents...)
	for _, name := range spreadAgents {
		for n := range 2 {
			a, err := w.StartAgent(w.cp, name, harness.AgentOptions{
				Instance: fmt.Sprintf("%s-%d", name, n), ModelBaseURL: w.url, Vars: []string{"CONTROL_PLANE=" + strings.Join(runtimes, ",")},
			})
			if err != nil {
				t.Fatal(err)
			}
			s.agents = append(s.agents, a)
		}
	}
	for _, a := range s.agents {
		if err := a.WaitReady(t.Context(), 30*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// threeMembers are three replicas on three etcd members.
func threeMembers(t *testing.T) *spread {
	t.Helper()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	etcd, err := env.StartEtcdCluster(t.Context(), 3, harness.EtcdOptions{NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	w := worldIn(t, env, doneScript, etcd.Flags()...)
	all := []*harness.ControlPlane{w.cp}
	for len(all) < 3 {
		cp, err := w.StartControlPlane(t.Context(), etcd.Flags()...)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, cp)
	}
	return newSpread(t, w, all)
}

// change makes another revision of agents, each by a call at the next replica.
func (s *spread) change(t *testing.T, agents ...string) {
	t.Helper()
	for _, name := range agents {
		s.round++
		api, err := s.all[s.round%len(s.all)].API()
		if err != nil {
			t.Fatal(err)
		}
		files := harness.Files{
			name + "/agent-base.json":   fmt.Sprintf(`{"promptKey": %q, "maxIterations": 4}`, name),
			name + "/model.json":        fmt.Sprintf(`{"model": "scripted", "temperature": %v}`, temperatureOf(s.round)),
			"prompts/" + name + ".json": fmt.Sprintf(`{"promptKey": %q, "version": "1.0.%d", "template": "be %s"}`, name, s.round, name),
		}
		if _, err := api.Apply(t.Context(), files); err != nil {
			t.Fatalf("apply: %v", err)
		}
	}
}

// bulk makes a restore long: each head of a prompt is a transaction of its own.
func (s *spread) bulk(t *testing.T, n int) {
	t.Helper()
	var work sync.WaitGroup
	faults := make(chan error, n)
	for part := range 4 {
		work.Go(func() {
			for i := part; i < n; i += 4 {
				_, err := s.api.Apply(t.Context(), harness.Files{fmt.Sprintf("prompts/many-%d.json", i): fmt.Sprintf(`{"promptKey": "many-%d", "version": "1.0.0", "template": "x"}`, i)})
				faults <- err
			}
		})
	}
	work.Wait()
	close(faults)
	for err := range faults {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// synced waits until every replica given shows every agent as it should be, with both instances, and gives the configs, the same at all.
func (s *spread) synced(t *testing.T, at ...*harness.ControlPlane) map[string]string {
	t.Helper()
	var out map[string]string
	for _, cp := range at {
		here := map[string]string{}
		for _, name := range spreadAgents {
			eventually(t, 60*time.Second, func(ctx context.Context) error {
				st, err := s.Status(ctx, cp, name)
				if err != nil {
					return err
				}
				here[name] = st.Config
				ok := st.Condition == "Synced" && len(st.Instances) == 2 && st.FleetComplete
				for _, i := range st.Instances {
					ok = ok && i.Phase == "APPLIED" && i.Running != nil && i.Running.Config == st.Config
				}
				if !ok {
					return fmt.Errorf("at %s: %+v", cp.People, st)
				}
				return nil
			})
		}
		if out != nil && !maps.Equal(out, here) {
			t.Errorf("%s shows %v, others %v", cp.People, here, out)
		}
		out = here
	}
	return out
}

func (s *spread) backup(t *testing.T, cp *harness.ControlPlane) string {
	t.Helper()
	file := filepath.Join(s.Dir, "agentry.backup")
	if _, err := s.CtlOK(t.Context(), cp, "cluster", "backup", file); err != nil {
		t.Fatal(err)
	}
	return file
}

// load asks 20 times a second, all instances together. Each has answered once when it returns: what it runs before the test goes on is seen.
func (s *spread) load(t *testing.T) []*questions {
	t.Helper()
	var out []*questions
	for _, a := range s.agents {
		out = append(out, questionsTo(t.Context(), a, 400*time.Millisecond))
	}
	for _, l := range out {
		l.atLeast(t, 1)
	}
	return out
}

// restoreDoc is what `agentctl cluster restore -o json` answers.
type restoreDoc struct {
	ClusterID string `json:"clusterId"`
	Epoch     uint64 `json:"epoch"`
	Revision  int64  `json:"revision"`
}

func (s *spread) restore(ctx context.Context, cp *harness.ControlPlane, file string) (restoreDoc, error) {
	var doc restoreDoc
	out, err := s.CtlOK(ctx, cp, "cluster", "restore", file, "--yes", "--message", "the bad import of Tuesday", "-o", "json")
	if err != nil {
		return doc, err
	}
	return doc, json.Unmarshal([]byte(out), &doc)
}

// alarmed wants a replica to say that a restore is under way, at /readyz and in the cluster's status.
func (s *spread) alarmed(ctx context.Context, cp *harness.ControlPlane) error {
	if err := restoring(ctx, cp); err != nil {
		return err
	}
	out, err := s.CtlOK(ctx, cp, "cluster", "status", "-o", "json")
	if err == nil && !strings.Contains(out, "RESTORING") {
		err = fmt.Errorf("cluster status of %s has no alarm: %s", cp.People, out)
	}
	return err
}

func restoring(ctx context.Context, cp *harness.ControlPlane) error {
	code, body, err := harness.Get(ctx, "http://"+cp.People+"/readyz")
	if err == nil && (code != 503 || !strings.Contains(body, "RESTORING")) {
		err = fmt.Errorf("readyz of %s: %d %s", cp.People, code, body)
	}
	return err
}

// agrees wants every replica given to show the same era without alarms, with one event that says what happened in those of told, and an
// audit log that is whole.
func (s *spread) agrees(t *testing.T, done restoreDoc, told []*harness.ControlPlane) {
	t.Helper()
	for _, cp := range s.all {
		eventually(t, 20*time.Second, func(ctx context.Context) error {
			out, err := s.CtlOK(ctx, cp, "cluster", "status", "-o", "json")
			if err != nil {
				return err
			}
			var doc struct {
				ClusterID string   `json:"clusterId"`
				Epoch     uint64   `json:"epoch"`
				Alarms    []string `json:"alarms"`
			}
			if err := json.Unmarshal([]byte(out), &doc); err != nil {
				return err
			}
			if doc.ClusterID != done.ClusterID || doc.Epoch != done.Epoch || len(doc.Alarms) > 0 {
				return fmt.Errorf("%s shows %+v, want %+v", cp.People, doc, done)
			}
			code, body, err := harness.Get(ctx, "http://"+cp.People+"/readyz")
			if err == nil && code != 200 {
				err = fmt.Errorf("readyz of %s: %d %s", cp.People, code, body)
			}
			return err
		})
		out, err := s.CtlOK(t.Context(), cp, "audit", "verify")
		if err != nil || !strings.Contains(out, "whole") {
			t.Errorf("audit verify at %s: %s %v", cp.People, out, err)
		}
		if !slices.Contains(told, cp) {
			continue
		}
		out, err = s.CtlOK(t.Context(), cp, "events", "-o", "json")
		if err != nil {
			t.Fatal(err)
		}
		var events []eventLine
		if err := json.Unmarshal([]byte(out), &events); err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, e := range events {
			if e.Type == "restored" && strings.Contains(e.Message, fmt.Sprint(done.Epoch)) {
				said = append(said, e.Message)
			}
		}
		if len(said) != 1 || !strings.Contains(said[0], "brought the backup of") {
			t.Errorf("%s tells %q, want one event of epoch %d", cp.People, said, done.Epoch)
		}
	}
}

// movesBetween tells which agents have to move from one set of configs to another.
func movesBetween(from, to map[string]string) map[string]int {
	out := map[string]int{}
	for name, config := range to {
		if from[name] != config {
			out[name] = 1
		}
	}
	return out
}

// A backup is brought back under three replicas while everybody asks and writes: no request fails, each instance moves at most once, and
// every replica says the same. With AGENTRY_SOAK the backup is ten minutes old by then.
func TestABackupComesBackUnderThreeReplicas(t *testing.T) {
	t.Parallel()
	age, after := time.Duration(0), 3*time.Second
	if os.Getenv("AGENTRY_SOAK") != "" {
		age, after = 10*time.Minute, time.Minute
	}
	s := threeMembers(t)
	s.bulk(t, 150)
	saved := s.synced(t, s.all...)
	file, taken := s.backup(t, s.all[0]), time.Now()
	loads := s.load(t)
	changes := 0
	for changes < 6 || time.Since(taken) < age {
		s.change(t, spreadAgents[changes%3]) // the fourth stays
		changes++
		if age > 0 {
			pass(t, 5*time.Second)
		}
	}
	undone := s.synced(t, s.all...)
	moves := movesBetween(undone, saved)
	if len(moves) != 3 {
		t.Fatalf("agents to move: %v", moves)
	}
	asked := 0
	for i, l := range loads { // from here on each moves once
		n, _, failures := l.end()
		asked += n
		if len(failures) > 0 || n == 0 {
			t.Errorf("before the restore: %d answers, %d failures of %s, such as %v", n, len(failures), s.agents[i].Instance, failures[:min(1, len(failures))])
		}
	}
	loads = s.load(t)
	following := s.followed(t)
	writers := []*writer{s.writes(t, s.all[1], "late-b"), s.writes(t, s.all[2], "late-c")}
	pass(t, 300*time.Millisecond)

	began := time.Now()
	done, err := s.restore(t.Context(), s.all[0], file)
	ended := time.Now()
	if err != nil {
		t.Fatal(err)
	}
	now := s.synced(t, s.all...)
	if !maps.Equal(saved, now) {
		t.Errorf("configs %v, want those of the backup %v", now, saved)
	}
	pass(t, after) // an instance that moves twice is seen to
	last := judgeFollowed(t, following, moves, done.Epoch)
	judgeLoad(t, loads, 15, moves)
	refused := 0
	for _, w := range writers {
		refused += s.judgeWrites(t, w, ended)
	}
	if refused == 0 {
		t.Error("no write met the restore")
	}
	s.agrees(t, done, s.all)
	t.Logf("the backup was %s, %d changes and %d requests old; restore %s; the last instance moved %s after its begin; %d writes refused meanwhile",
		began.Sub(taken).Round(time.Second), changes, asked, ended.Sub(began).Round(time.Millisecond), last.Sub(began).Round(time.Millisecond), refused)
}

// The replica that restores is killed in the middle. The others say so, push nothing and refuse writes, until a restore at one of them
// has ended; the one that was killed comes back to the same.
func TestARestoreIsEndedByAnotherReplica(t *testing.T) {
	t.Parallel()
	s := threeMembers(t)
	s.bulk(t, 250)
	saved := s.synced(t, s.all[0])
	file := s.backup(t, s.all[2])
	s.change(t, "one", "two", "three")
	moves := movesBetween(s.synced(t, s.all...), saved)
	loads, following := s.load(t), s.followed(t)

	killed, others := s.all[1], []*harness.ControlPlane{s.all[0], s.all[2]}
	began := time.Now()
	first := make(chan error, 1)
	go func() {
		_, err := s.restore(t.Context(), killed, file)
		first <- err
	}()
	for restoring(t.Context(), others[0]) != nil {
		select {
		case err := <-first:
			t.Fatalf("the restore ended before it could be killed: %v", err)
		default:
		}
	}
	killed.Kill()
	if err := <-first; err == nil {
		t.Fatal("a restore that was killed was answered")
	}
	for _, cp := range others {
		eventually(t, 10*time.Second, func(ctx context.Context) error { return s.alarmed(ctx, cp) })
		if out, err := s.Ctl(t.Context(), cp, "delete", "agent/two", "--yes"); err != nil || out.Code == 0 || !strings.Contains(out.Stderr, "being restored") {
			t.Errorf("a change between two restores: exit %d %s %v", out.Code, out.Stderr, err)
		}
	}
	var done restoreDoc
	eventually(t, 30*time.Second, func(ctx context.Context) error { // the registration of who was killed ends within 10 s
		var err error
		if done, err = s.restore(ctx, others[1], file); err != nil && !strings.Contains(err.Error(), "that replica lives") {
			t.Error(err)
		}
		return err
	})
	ended := time.Now()
	if err := killed.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := s.synced(t, s.all...); !maps.Equal(saved, now) {
		t.Errorf("configs %v, want those of the backup %v", now, saved)
	}
	last := judgeFollowed(t, following, moves, done.Epoch)
	judgeLoad(t, loads, 15, moves)
	s.agrees(t, done, others)
	t.Logf("killed and brought back %s later at another replica; the last instance moved %s after the begin", ended.Sub(began).Round(time.Millisecond), last.Sub(began).Round(time.Millisecond))
}

// The same where the three replicas are the members of the store themselves.
func TestABackupComesBackUnderAnEmbeddedCluster(t *testing.T) {
	t.Parallel()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	all, err := env.StartCluster(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	s := newSpread(t, worldAt(t, env, doneScript, all[0]), all)
	s.bulk(t, 100)
	saved := s.synced(t, s.all...)
	file := s.backup(t, s.all[1])
	s.change(t, "one", "two", "three")
	moves := movesBetween(s.synced(t, s.all...), saved)
	loads, following, late := s.load(t), s.followed(t), s.writes(t, s.all[0], "late")
	pass(t, 200*time.Millisecond)
	done, err := s.restore(t.Context(), s.all[2], file)
	ended := time.Now()
	if err != nil {
		t.Fatal(err)
	}
	if now := s.synced(t, s.all...); !maps.Equal(saved, now) {
		t.Errorf("configs %v, want those of the backup %v", now, saved)
	}
	judgeFollowed(t, following, moves, done.Epoch)
	judgeLoad(t, loads, 15, moves)
	if s.judgeWrites(t, late, ended) == 0 {
		t.Error("no write met the restore")
	}
	s.agrees(t, done, s.all)
}
