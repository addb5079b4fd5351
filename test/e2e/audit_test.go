package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/etcdstore"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/gen/agentry/spec/v1/specv1connect"
	"github.com/agentry/agentry/test/harness"
)

// auditEntry is the frozen JSON of `agentctl audit -o json`, as far as these tests look.
type auditEntry struct {
	Seq       int64    `json:"seq"`
	Type      string   `json:"type"`
	Actor     string   `json:"actor"`
	Method    string   `json:"method"`
	Namespace string   `json:"namespace"`
	Objects   []string `json:"objects"`
	Changes   []struct {
		Object, Path, Before, After string
	} `json:"changes"`
	Message   string `json:"message"`
	RequestID string `json:"requestId"`
	Outcome   string `json:"outcome"`
}

// changed says whether an entry tells of a change of an object's path.
func (e auditEntry) changed(object, path, before, after string) bool {
	for _, c := range e.Changes {
		if c.Object == object && c.Path == path && c.Before == before && c.After == after {
			return true
		}
	}
	return false
}

// audited gives the whole log, oldest first.
func (w *world) audited(t *testing.T) []auditEntry {
	t.Helper()
	out, err := w.CtlOK(t.Context(), w.cp, "audit", "-A", "--limit", "1000", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var entries []auditEntry
	if err := json.Unmarshal([]byte(out), &entries); err != nil {
		var list struct{ Entries []auditEntry }
		if json.Unmarshal([]byte(out), &list) != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		entries = list.Entries
	}
	slices.Reverse(entries)
	return entries
}

func find(t *testing.T, entries []auditEntry, what string, is func(auditEntry) bool) {
	t.Helper()
	if !slices.ContainsFunc(entries, is) {
		t.Errorf("no entry of %s", what)
	}
}

// D4: everything that changes something, uses a credential or is turned away is in the log with who and what, in a chain that shows
// every tampering, and the values of credentials are not.
func TestTheAuditLogTellsEverything(t *testing.T) {
	t.Parallel()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	auditFile := filepath.Join(env.Dir, "audit.jsonl")
	w := worldIn(t, env, echoScript, "--audit-file", auditFile)
	stub := harness.NewMCPStub("tools", "alpha", "beta")
	t.Cleanup(stub.Close)
	values := []string{"cnry-audit-first-5b81c2", "cnry-audit-second-93fe07"}
	value := filepath.Join(env.Dir, "value")
	for i, v := range values {
		if err := os.WriteFile(fmt.Sprint(value, i), []byte(v), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.ctl(t, "credential", "create", "tools-key", "--from-file", value+"0")
	set := helper(stub.URL, `"alpha", "beta"`)
	set["helper/mcp-servers.json"] = `{"mcpServers": [{"mcpServerName": "tools", "headers": {"X-Key": {"credentialRef": "tools-key"}}, "tools": {"allow": ["alpha", "beta"]}}]}`
	w.apply(t, set)
	w.agent(t, "helper")
	w.settled(t, "helper")
	w.ctl(t, "credential", "rotate", "tools-key", "--from-file", value+"1", "--message", "leaked on a sticker")
	w.ctl(t, "prompt", "label", "set", "helper", "prod", "1.0.0")
	w.ctl(t, "mcp", "disable", "tools", "beta", "--message", "too eager")

	// A change that is taken back by itself.
	set["helper/model.json"] = `{"model": "scripted", "temperature": 0.5}`
	set["helper/mcp-servers.json"] = strings.Replace(set["helper/mcp-servers.json"], `"beta"`, `"gamma"`, 1)
	w.apply(t, set)
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		st, err := w.Status(ctx, w.cp, "helper")
		if err == nil && (st.LastRefusal == nil || st.Revision.Desired != 1) {
			err = errors.New("not rolled back yet")
		}
		return err
	})

	// Calls that are turned away: a token that may read only, and one that nobody knows.
	viewer := strings.TrimSpace(w.ctl(t, "token", "create", "looker", "--scope", "viewer@default", "-q"))
	for range 5 {
		for token, want := range map[string]connect.Code{viewer: connect.CodePermissionDenied, "agt_nobody-knows-me-0000": connect.CodeUnauthenticated} {
			client := specv1connect.NewSpecServiceClient(http.DefaultClient, "http://"+w.cp.People)
			req := connect.NewRequest(&specv1.ApplyRequest{Files: []*specv1.File{{Path: "prompts/x.json", Content: []byte(`{"promptKey": "x", "version": "1.0.0", "template": "x"}`)}}})
			req.Header().Set("Authorization", "Bearer "+token)
			if _, err := client.Apply(t.Context(), req); connect.CodeOf(err) != want {
				t.Errorf("apply: %v, want %v", err, want)
			}
		}
	}

	entries := w.audited(t)
	const apply = "/agentry.spec.v1.SpecService/Apply"
	find(t, entries, "the apply", func(e auditEntry) bool {
		return e.Type == "change" && e.Actor == "dev" && e.Method == apply && e.RequestID != "" && e.Outcome == "ok" &&
			slices.Contains(e.Objects, "agent/helper") && slices.Contains(e.Objects, "mcp/tools") && slices.Contains(e.Objects, "prompt/helper")
	})
	find(t, entries, "the changed field", func(e auditEntry) bool {
		return e.Method == apply && e.changed("agent/helper", "model.temperature", "0", "0.5")
	})
	find(t, entries, "the label", func(e auditEntry) bool {
		return e.Actor == "dev" && e.changed("prompt/helper", "label prod", "", "1.0.0")
	})
	find(t, entries, "the tool", func(e auditEntry) bool {
		return e.Actor == "dev" && e.Message == "too eager" && e.changed("mcp/tools", "tool beta", "on", "off")
	})
	find(t, entries, "the rotation", func(e auditEntry) bool {
		return e.Actor == "dev" && e.Message == "leaked on a sticker" && e.changed("credential/tools-key", "", "1", "2")
	})
	find(t, entries, "the rollback", func(e auditEntry) bool {
		return e.Actor == "system" && e.Method == "releaser" && strings.HasPrefix(e.Message, "policy") && slices.Contains(e.Objects, "agent/helper") &&
			slices.ContainsFunc(e.Changes, func(c struct{ Object, Path, Before, After string }) bool { return c.Before == "2" && c.After == "1" })
	})
	for version := range 2 {
		find(t, entries, fmt.Sprintf("the use of version %d", version+1), func(e auditEntry) bool {
			return e.Type == "credential_use" && e.Actor == "agent:default/helper" && e.Message == "handed to helper" &&
				slices.Equal(e.Objects, []string{fmt.Sprintf("credential/tools-key@%d", version+1)})
		})
	}
	turnedAway := map[string]int{}
	for _, e := range entries {
		if e.Type == "denied" || e.Type == "unauthenticated" {
			turnedAway[e.Type]++
			if e.Method != apply || e.Actor == "" || e.Outcome == "ok" || (e.Type == "denied") != strings.HasPrefix(e.Actor, "token:") {
				t.Errorf("turned away: %+v", e)
			}
		}
	}
	if turnedAway["denied"] != 1 || turnedAway["unauthenticated"] != 1 {
		t.Errorf("entries of five calls each that were turned away, as long as repeats are counted: %v", turnedAway)
	}
	for i, e := range entries {
		if e.Seq != int64(i+1) {
			t.Fatalf("entry %d has seq %d", i, e.Seq)
		}
	}

	// The file has the same, and both are whole.
	last := entries[len(entries)-1].Seq
	eventually(t, 10*time.Second, func(context.Context) error {
		b, err := os.ReadFile(auditFile)
		if err == nil && bytes.Count(b, []byte("\n")) < int(last) {
			err = fmt.Errorf("%d lines, want %d", bytes.Count(b, []byte("\n")), last)
		}
		return err
	})
	for _, args := range [][]string{{"audit", "verify"}, {"audit", "verify", "--file", auditFile}} {
		if out, err := w.Ctl(t.Context(), w.cp, args...); err != nil || out.Code != 0 {
			t.Errorf("%v: exit %d, %v\n%s%s", args, out.Code, err, out.Stdout, out.Stderr)
		}
	}
	file, err := os.ReadFile(auditFile)
	if err != nil {
		t.Fatal(err)
	}
	all, err := json.Marshal(entries)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range append(slices.Clone(values), viewer) {
		for form, bad := range encodings(secret) {
			if bytes.Contains(file, bad) || bytes.Contains(all, bad) {
				t.Errorf("a secret's %s is in the log", form)
			}
		}
	}

	// A byte that is changed in the store is found, by its number.
	if err := w.cp.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	const victim = 2
	spoil(t, w.cp.DataDir, fmt.Sprintf("/agentry/audit/chain/%020d", victim))
	if err := w.cp.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, err := w.Ctl(t.Context(), w.cp, "audit", "verify")
	if err != nil || out.Code != 1 || !strings.Contains(out.Stdout, fmt.Sprintf("entry %d:", victim)) {
		t.Errorf("after a change in the store: exit %d, %v\n%s%s", out.Code, err, out.Stdout, out.Stderr)
	}
	if out, err := w.Ctl(t.Context(), w.cp, "audit", "verify", "--file", auditFile); err != nil || out.Code != 0 {
		t.Errorf("the file: exit %d, %v\n%s%s", out.Code, err, out.Stdout, out.Stderr)
	}
}

// spoil changes one byte of a value in a control plane's store, which must be stopped.
func spoil(t *testing.T, dir, key string) {
	t.Helper()
	s, err := etcdstore.OpenEmbedded(t.Context(), etcdstore.EmbeddedConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	kv, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(kv.Value, []byte(`"outcome":"ok"`)) + len(`"outcome":"o`)
	kv.Value[at] = 'x'
	if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: key, Value: kv.Value}}}); err != nil {
		t.Fatal(err)
	}
}

// kill -9 at any moment: every acknowledged change has its entry, once, the chain is whole, and file and collector get every entry.
func TestTheAuditLogSurvivesKills(t *testing.T) {
	t.Parallel()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	var collected sinkBuffer
	otlp := httptest.NewServer(&collected)
	t.Cleanup(otlp.Close)
	auditFile := filepath.Join(env.Dir, "audit.jsonl")
	w := worldIn(t, env, echoScript, "--audit-file", auditFile, "--audit-otlp", otlp.URL)
	acked := map[string]bool{}
	for round := range 4 {
		for i := range 15 {
			key := fmt.Sprintf("p%d-%d", round, i)
			w.apply(t, harness.Files{"prompts/" + key + ".json": fmt.Sprintf(`{"promptKey": %q, "version": "1.0.0", "template": "x"}`, key)})
			acked["prompt/"+key] = true
			if i%5 == 4 {
				w.audited(t) // what waits is chained, and on its way to the sinks when the kill comes
			}
		}
		w.cp.Kill()
		if err := w.cp.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	entries := w.audited(t)
	seen := map[string]int{}
	for _, e := range entries {
		for _, o := range e.Objects {
			seen[o]++
		}
	}
	for object := range acked {
		if seen[object] != 1 {
			t.Errorf("%s has %d entries", object, seen[object])
		}
	}
	last := entries[len(entries)-1].Seq
	eventually(t, 20*time.Second, func(context.Context) error {
		b, err := os.ReadFile(auditFile)
		got := collected.Bytes()
		if n := bytes.Count(b, []byte("\n")); err == nil && n != int(last) {
			err = fmt.Errorf("%d lines, want %d", n, last)
		}
		for object := range acked {
			if err == nil && !bytes.Contains(got, []byte(object+`"`)) {
				err = fmt.Errorf("the collector has no %s", object)
			}
		}
		return err
	})
	for _, args := range [][]string{{"audit", "verify"}, {"audit", "verify", "--file", auditFile}} {
		if out, err := w.Ctl(t.Context(), w.cp, args...); err != nil || out.Code != 0 {
			t.Errorf("%v: exit %d, %v\n%s%s", args, out.Code, err, out.Stdout, out.Stderr)
		}
	}
}
