package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/test/harness"
)

// backupWorld is five agents with one tool server that insists on a key.
type backupWorld struct {
	*world

	stub   *harness.MCPStub
	keys   *keys // that the tool server saw
	agents []*harness.Agent
}

var backupAgents = []string{"one", "two", "three", "four", "five"}

func newBackupWorld(t *testing.T) *backupWorld {
	t.Helper()
	w := &backupWorld{world: newWorld(t, insistScript), stub: harness.NewMCPStub("tools", "alpha")}
	t.Cleanup(w.stub.Close)
	w.begin(t)
	return w
}

// begin applies the five agents and starts them.
func (w *backupWorld) begin(t *testing.T) {
	t.Helper()
	w.keys = &keys{valid: map[string]bool{"the-first-key-value": true, "the-second-key-value": true, "": true}, seen: map[string]int{}}
	w.stub.Guard(w.keys.check)
	w.ctl(t, "credential", "create", "tools-key", "--from-file", w.value(t, "the-first-key-value"))
	files := harness.Files{"mcp/tools.json": fmt.Sprintf(`{"name": "tools", "endpoint": %q, "parameters": {"headers": {"X-Key": {"required": false}}}}`, w.stub.URL)}
	for _, name := range backupAgents {
		w.spec(files, name, 0)
	}
	w.apply(t, files)
	for _, name := range backupAgents {
		w.agents = append(w.agents, w.agent(t, name))
	}
	w.synced(t)
}

// spec adds an agent whose temperature says which revision it is. Only the first uses the key.
func (w *backupWorld) spec(files harness.Files, name string, n int) {
	headers := ""
	if name == "one" {
		headers = `, "headers": {"X-Key": {"credentialRef": "tools-key"}}`
	}
	files[name+"/agent-base.json"] = fmt.Sprintf(`{"promptKey": %q, "maxIterations": 4}`, name)
	files[name+"/model.json"] = fmt.Sprintf(`{"model": "scripted", "temperature": 0.%d}`, n)
	files["prompts/"+name+".json"] = fmt.Sprintf(`{"promptKey": %q, "version": "1.0.%d", "template": "be %s"}`, name, n, name)
	files[name+"/mcp-servers.json"] = `{"mcpServers": [{"mcpServerName": "tools"` + headers + `}]}`
}

func (w *backupWorld) value(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(w.Dir, "value.txt")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// synced waits until every agent serves what it should, and gives the configs.
func (w *backupWorld) synced(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range backupAgents {
		eventually(t, 60*time.Second, func(ctx context.Context) error {
			st, err := w.Status(ctx, w.cp, name)
			if err != nil {
				return err
			}
			if st.Condition != "Synced" || len(st.Instances) != 1 || st.Instances[0].Running == nil || st.Instances[0].Running.Config != st.Config {
				return fmt.Errorf("status %+v", st)
			}
			out[name] = st.Config
			return nil
		})
	}
	return out
}

// load asks 20 times a second each. Each has answered once when it returns.
func (w *backupWorld) load(t *testing.T) []*questions {
	t.Helper()
	var out []*questions
	for _, a := range w.agents {
		out = append(out, questionsTo(t.Context(), a, 50*time.Millisecond))
	}
	for _, l := range out {
		l.atLeast(t, 1)
	}
	return out
}

// told is an agent's history without what a restore renumbers.
func (w *backupWorld) told(t *testing.T, agent string) []harness.HistoryEntry {
	t.Helper()
	h, err := w.History(t.Context(), w.cp, agent)
	if err != nil {
		t.Fatal(err)
	}
	for i := range h {
		h[i].Seq = 0
	}
	return h
}

type eventLine struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

func (w *backupWorld) restoredEvents(t *testing.T) []string {
	t.Helper()
	var out []string
	var events []eventLine
	if err := json.Unmarshal([]byte(w.ctl(t, "events", "-o", "json")), &events); err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Type == "restored" {
			out = append(out, e.Message)
		}
	}
	return out
}

func (w *backupWorld) backup(t *testing.T) string {
	t.Helper()
	file := filepath.Join(w.Dir, "agentry.backup")
	out := w.ctl(t, "cluster", "backup", file)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("backup: %v, mode %v", err, info.Mode())
	}
	if verified := w.ctl(t, "cluster", "verify", file); !strings.Contains(verified, "is whole") || !strings.Contains(out, "saved: cluster ") {
		t.Errorf("saved %q, verified %q", out, verified)
	}
	return file
}

// A backup is brought back under load: nobody who talks to an agent notices, and each instance moves at most once.
func TestABackupComesBackUnderLoad(t *testing.T) {
	w := newBackupWorld(t)
	w.apply(t, harness.Files{ // without an instance: it is deleted later
		"gone/agent-base.json": `{"promptKey": "gone"}`, "gone/model.json": `{"model": "scripted"}`,
		"prompts/gone.json": `{"promptKey": "gone", "version": "1.0.0", "template": "be gone"}`,
	})
	w.ctl(t, "token", "create", "ci", "--scope", "viewer")
	saved := w.synced(t)
	history := w.told(t, "one")
	file := w.backup(t)

	// 20 changes.
	w.ctl(t, "token", "revoke", "ci")
	for n := 1; n <= 3; n++ {
		files := harness.Files{}
		for _, name := range []string{"one", "two", "three", "four"} {
			w.spec(files, name, n)
		}
		w.apply(t, files)
		w.synced(t)
	}
	w.ctl(t, "delete", "agent/gone", "--yes")
	for n := range 4 {
		name := fmt.Sprintf("new-%d", n)
		files := harness.Files{}
		w.spec(files, name, 0)
		w.apply(t, files)
	}
	w.ctl(t, "credential", "rotate", "tools-key", "--from-file", w.value(t, "the-second-key-value"))
	w.ctl(t, "identity", "revoke", "gone", "--yes")
	undone := w.synced(t)

	loads := w.load(t)
	began := time.Now()
	out := w.ctl(t, "cluster", "restore", file, "--yes", "--message", "the bad import of Tuesday")
	took := time.Since(began)
	if !strings.Contains(out, "the backup of ") {
		t.Errorf("restore said %q", out)
	}
	now := w.synced(t)
	before := w.keys.used("the-first-key-value")
	eventually(t, 20*time.Second, func(context.Context) error { // the credential of then opens, and is sent again
		if w.keys.used("the-first-key-value") == before {
			return fmt.Errorf("the first key isn't used")
		}
		return nil
	})
	moves := map[string]int{}
	for name, config := range saved {
		if undone[name] != config {
			moves[name] = 1
		}
	}
	judgeLoad(t, loads, 60, moves)
	if moves["five"] != 0 || moves["one"] != 1 {
		t.Errorf("moves %v: the fifth agent must stay, the first must move", moves)
	}
	if diff := cmp.Diff(saved, now); diff != "" {
		t.Errorf("configs (-backup +now)\n%s", diff)
	}
	if diff := cmp.Diff(history, w.told(t, "one")); diff != "" {
		t.Errorf("history (-backup +now)\n%s", diff)
	}
	if events := w.restoredEvents(t); len(events) != 1 || !strings.Contains(events[0], "brought the backup of") {
		t.Errorf("events %q, want one", events)
	}
	if st := w.status(t, "gone"); st.Condition == "Deleted" {
		t.Errorf("the deleted agent isn't back: %+v", st)
	}
	if out, _ := w.Ctl(t.Context(), w.cp, "get", "agent", "new-0"); out.Code != 3 {
		t.Errorf("an agent that the backup doesn't have: exit %d %s", out.Code, out.Stdout)
	}
	if tokens := w.ctl(t, "token", "list", "--all"); strings.Contains(tokens, "ci") {
		t.Errorf("a revoked token is back: %s", tokens)
	}
	if out := w.ctl(t, "audit", "verify"); !strings.Contains(out, "whole") {
		t.Errorf("audit verify: %s", out)
	}
	log := w.ctl(t, "audit", "-A", "-o", "json")
	for _, want := range []string{"ClusterService/Backup", "ClusterService/Restore", "the bad import of Tuesday", "IdentityService/Revoke"} {
		if !strings.Contains(log, want) {
			t.Errorf("the audit log doesn't tell of %s", want)
		}
	}
	t.Logf("restore took %s", took)
}

// A restore whose control plane is killed in the middle: the next one says so and pushes nothing until it was run again to its end.
func TestARestoreThatDiesIsRunAgain(t *testing.T) {
	w := newBackupWorld(t)
	for n := range 300 { // each head of a prompt is a transaction of its own
		w.apply(t, harness.Files{fmt.Sprintf("prompts/many-%d.json", n): fmt.Sprintf(`{"promptKey": "many-%d", "version": "1.0.0", "template": "x"}`, n)})
	}
	saved := w.synced(t)
	file := w.backup(t)
	files := harness.Files{}
	w.spec(files, "one", 1)
	w.apply(t, files)
	w.synced(t)

	loads := w.load(t)
	restored := make(chan harness.Out, 1)
	go func() {
		out, _ := w.Ctl(t.Context(), w.cp, "cluster", "restore", file, "--yes")
		restored <- out
	}()
	restoring := func(ctx context.Context) error {
		code, body, err := harness.Get(ctx, "http://"+w.cp.People+"/readyz")
		if err == nil && (code != 503 || !strings.Contains(body, "RESTORING")) {
			err = fmt.Errorf("readyz %d %s", code, body)
		}
		return err
	}
	for restoring(t.Context()) != nil {
		select {
		case out := <-restored:
			t.Fatalf("the restore ended before it could be killed: %+v", out)
		default:
		}
	}
	w.cp.Kill()
	if out := <-restored; out.Code == 0 {
		t.Fatalf("a restore that was killed answered %q", out.Stdout)
	}
	again := make(chan error, 1)
	go func() { again <- w.cp.Restart(t.Context()) }()
	eventually(t, 20*time.Second, restoring)
	if out, _ := w.Ctl(t.Context(), w.cp, "delete", "agent/two", "--yes"); out.Code == 0 || !strings.Contains(out.Stderr, "restore") {
		t.Errorf("a change between two restores: exit %d %s", out.Code, out.Stderr)
	}
	w.ctl(t, "cluster", "restore", file, "--yes")
	if err := <-again; err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(saved, w.synced(t)); diff != "" {
		t.Errorf("configs (-backup +now)\n%s", diff)
	}
	judgeLoad(t, loads, 60, map[string]int{"one": 1})
}

// A backup moves a control plane from its embedded etcd to another one: the same cluster, its identities, its agents.
func TestABackupMovesToAnotherEtcd(t *testing.T) {
	w := newBackupWorld(t)
	saved := w.synced(t)
	file := w.backup(t)
	id := clusterOf(t, w)
	etcd, err := w.StartEtcdCluster(t.Context(), 3, harness.EtcdOptions{NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	loads := w.load(t)
	if err := w.cp.Stop(15 * time.Second); err != nil {
		t.Fatal(err)
	}
	w.cp.AddFlags(etcd.Flags()...)
	if err := w.cp.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, _ := w.Ctl(t.Context(), w.cp, "cluster", "restore", file, "--yes"); out.Code == 0 || !strings.Contains(out.Stderr, "--other-cluster") {
		t.Errorf("another cluster's backup: exit %d %s", out.Code, out.Stderr)
	}
	w.ctl(t, "cluster", "restore", file, "--other-cluster", "--yes")
	if diff := cmp.Diff(saved, w.synced(t)); diff != "" {
		t.Errorf("configs (-before +after)\n%s", diff)
	}
	judgeLoad(t, loads, 60, nil)
	if now := clusterOf(t, w); now != id {
		t.Errorf("cluster %s, was %s", now, id)
	}
	if out := w.ctl(t, "audit", "verify"); !strings.Contains(out, "whole") {
		t.Errorf("audit verify: %s", out)
	}
	if log := w.ctl(t, "audit", "-A", "-o", "json"); !strings.Contains(log, "CredentialService/Create") || !strings.Contains(log, "ClusterService/Restore") {
		t.Errorf("the audit log doesn't go on from the backup's: %s", w.ctl(t, "audit", "-A"))
	}
}

func clusterOf(t *testing.T, w *backupWorld) string {
	t.Helper()
	var doc struct {
		ClusterID string `json:"clusterId"`
	}
	if err := json.Unmarshal([]byte(w.ctl(t, "cluster", "verify", w.backup(t), "-o", "json")), &doc); err != nil || doc.ClusterID == "" {
		t.Fatalf("cluster %+v, %v", doc, err)
	}
	return doc.ClusterID
}

// etcd itself is brought back to an older state under running agents: nothing is pushed, until somebody says that this is how it is.
func TestAStoreThatWentBackIsTakenAsItIs(t *testing.T) {
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	etcd, err := env.StartEtcdCluster(t.Context(), 1, harness.EtcdOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := &backupWorld{world: worldIn(t, env, insistScript, etcd.Flags()...), stub: harness.NewMCPStub("tools", "alpha")}
	t.Cleanup(w.stub.Close)
	w.begin(t)
	saved := w.synced(t)
	m := etcd.Members[0]
	copied := filepath.Join(w.Dir, "etcd-copy")
	copyDir := func(from, to string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput(); err != nil {
			t.Fatalf("copy: %v %s", err, out)
		}
	}
	if err := m.Stop(15 * time.Second); err != nil {
		t.Fatal(err)
	}
	copyDir(m.Dir, copied)
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := m.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2; n++ {
		files := harness.Files{}
		for _, name := range []string{"one", "two", "three"} {
			w.spec(files, name, n)
		}
		eventually(t, 20*time.Second, func(ctx context.Context) error {
			_, err := w.api.Apply(ctx, files)
			return err
		})
		w.synced(t)
	}
	loads := w.load(t)
	if err := m.Stop(15 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(m.Dir); err != nil {
		t.Fatal(err)
	}
	copyDir(copied, m.Dir)
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := m.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The process finds that the store is behind what it has shown, and ends.
	if err := w.cp.Wait(30 * time.Second); !strings.Contains(w.cp.Output(), "STORE_WENT_BACK") {
		t.Fatalf("the control plane ended with %v:\n%s", err, w.cp.Output())
	}
	again := make(chan error, 1)
	go func() { again <- w.cp.Restart(t.Context()) }()
	eventually(t, 60*time.Second, func(ctx context.Context) error {
		code, body, err := harness.Get(ctx, "http://"+w.cp.People+"/readyz")
		if err == nil && (code != 503 || !strings.Contains(body, "nothing is pushed")) {
			err = fmt.Errorf("readyz %d %s", code, body)
		}
		return err
	})
	if status := w.ctl(t, "cluster", "status", "-o", "json"); !strings.Contains(status, "STORE_WENT_BACK") {
		t.Errorf("cluster status has no alarm: %s", status)
	}
	w.ctl(t, "cluster", "restore", "--as-is", "--yes", "--message", "etcd came from its snapshot")
	<-again // it may have given up waiting before the alarm was over
	if diff := cmp.Diff(saved, w.synced(t)); diff != "" {
		t.Errorf("configs (-copied +now)\n%s", diff)
	}
	if err := w.cp.WaitReady(t.Context()); err != nil {
		t.Error(err)
	}
	moves := map[string]int{"one": 1, "two": 1, "three": 1}
	judgeLoad(t, loads, 60, moves)
	if events := w.restoredEvents(t); !slices.ContainsFunc(events, func(e string) bool { return strings.Contains(e, "as it is") }) {
		t.Errorf("events %q", events)
	}
}
