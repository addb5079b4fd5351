package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/etcdstore"
	"github.com/agentry/agentry/test/harness"
)

// keyed is agents with a tool server each, which they show a credential of their own.
func keyed(urls map[string]string) harness.Files {
	files := harness.Files{}
	for name, url := range urls {
		for path, text := range helper(url, `"alpha"`) {
			path = strings.NewReplacer("helper", name, "tools", "tools-"+name).Replace(path)
			files[path] = strings.NewReplacer(`"helper"`, `"`+name+`"`, `"tools"`, `"tools-`+name+`"`).Replace(text)
		}
		files[name+"/mcp-servers.json"] = fmt.Sprintf(`{"mcpServers": [{"mcpServerName": "tools-%s", "headers": {"X-Key": {"credentialRef": "key-%s"}}}]}`, name, name)
	}
	return files
}

// shown gives the newest key that a tool server was shown.
func shown(t *testing.T, a *harness.Agent, stub *harness.MCPStub) string {
	t.Helper()
	if _, err := a.Chat(t.Context(), "", "call"); err != nil {
		t.Fatalf("%v\n%s", err, a.Output())
	}
	calls := stub.Calls()
	if len(calls) == 0 {
		t.Fatal("the tool wasn't called")
	}
	return calls[len(calls)-1].Headers.Get("X-Key")
}

// credential writes a credential's value.
func (w *world) credential(t *testing.T, word, name, value string) {
	t.Helper()
	w.ctl(t, "credential", word, name, "--from-file", valueFile(t, value))
}

func valueFile(t *testing.T, value string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "value")
	write(t, path, []byte(value))
	return path
}

// sealingKey makes a line for a key file.
func sealingKey() []byte {
	var key [32]byte
	_, _ = rand.Read(key[:])
	return []byte(base64.StdEncoding.EncodeToString(key[:]) + "\n")
}

// startFault starts a control plane that must not start, and gives what it says.
func (w *world) startFault(t *testing.T) string {
	t.Helper()
	if err := w.cp.Restart(t.Context()); err == nil {
		t.Fatal("it started")
	}
	if w.cp.Running() {
		t.Fatal("it runs, but isn't ready")
	}
	lines := strings.Split(strings.TrimSpace(w.cp.Output()), "\n")
	return lines[len(lines)-1]
}

// stored edits values in the store of a stopped control plane.
func stored(t *testing.T, dir string, edit func(values map[string][]byte), keys ...string) {
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
	values := map[string][]byte{}
	for _, key := range keys {
		kv, err := s.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		values[key] = kv.Value
	}
	edit(values)
	var txn store.Txn
	for _, key := range keys {
		txn.Puts = append(txn.Puts, store.KV{Key: key, Value: values[key]})
	}
	if _, err := s.Commit(t.Context(), txn); err != nil {
		t.Fatal(err)
	}
}

// The sealing key is changed under load: a new one on top of the file, everything sealed anew, the former one gone. Credentials, the
// authority and identities go on, no request fails, and a control plane without the right key doesn't start and says what to do.
func TestTheSealingKeyIsChangedUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	stub := harness.NewMCPStub("tools-a", "alpha")
	t.Cleanup(stub.Close)
	w.credential(t, "create", "key-a", "value-one")
	w.apply(t, keyed(map[string]string{"a": stub.URL}))
	a := w.agent(t, "a")
	w.settled(t, "a")
	l := w.asks(t, a)
	kek := filepath.Join(w.cp.DataDir, "kek")
	former, err := os.ReadFile(kek)
	if err != nil {
		t.Fatal(err)
	}
	fresh := sealingKey()
	stop := func() {
		t.Helper()
		if err := w.cp.Stop(20 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	restart := func(keys []byte) {
		t.Helper()
		write(t, kek, keys)
		if err := w.cp.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, keys []byte, want ...string) {
		t.Helper()
		if err := os.Remove(kek); err != nil {
			t.Fatal(err)
		}
		if keys != nil {
			write(t, kek, keys)
		}
		said := w.startFault(t)
		for _, words := range want {
			if !strings.Contains(said, words) {
				t.Errorf("%s: it says %q, want %q", what, said, words)
			}
		}
		if keys == nil {
			if _, err := os.Stat(kek); !os.IsNotExist(err) {
				t.Errorf("%s: a key file was made: %v", what, err)
			}
			write(t, kek, nil)
		}
	}
	reseal := func() (key string, sealed, resealed int) {
		t.Helper()
		var d struct {
			KeyID            string
			Sealed, Resealed int
		}
		if err := json.Unmarshal([]byte(w.ctl(t, "credential", "reseal", "-o", "json")), &d); err != nil {
			t.Fatal(err)
		}
		return d.KeyID, d.Sealed, d.Resealed
	}
	before, all, changed := reseal()
	if all != 3 || changed != 0 { // the fingerprint key, the authority, the credential
		t.Errorf("before: %d of %d sealed anew", changed, all)
	}

	stop()
	refused("no key file", nil, "key file", "is missing: put it back", "--kek-file")
	refused("another key", fresh, "doesn't open what the store has sealed", "put the right one back", "--kek-file")
	refused("half a key", former[:20], "want a base64 key of 32 bytes")
	restart(slices.Concat(fresh, former))
	connected(t, a.URL())
	w.credential(t, "rotate", "key-a", "value-two") // sealed with the new key already
	key, all, changed := reseal()
	if key == before || all != 4 || changed != 3 {
		t.Errorf("%d of %d sealed anew with %s, before %s", changed, all, key, before)
	}
	if _, all, changed = reseal(); all != 4 || changed != 0 {
		t.Errorf("again: %d of %d sealed anew", changed, all)
	}
	stop()
	refused("the former key alone", former, "doesn't open what the store has sealed")
	restart(fresh)

	eventually(t, 15*time.Second, func(context.Context) error {
		if got := shown(t, a, stub); got != "value-two" {
			return fmt.Errorf("the running instance shows %q", got)
		}
		return nil
	})
	// The authority signs and renews, and what was sealed with the former key opens: version 1, by going back.
	if id := connected(t, a.URL()); id.Problem != "" {
		t.Errorf("identity %+v", id)
	}
	b, err := w.StartAgent(w.cp, "a", harness.AgentOptions{Instance: "b", ModelBaseURL: w.url})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.WaitReady(t.Context(), 20*time.Second); err != nil {
		t.Fatalf("%v\n%s", err, b.Output())
	}
	if got := shown(t, b, stub); got != "value-two" {
		t.Errorf("a new instance shows %q", got)
	}
	w.credential(t, "rotate", "key-a", "value-three")
	eventually(t, 15*time.Second, func(context.Context) error {
		for _, i := range []*harness.Agent{a, b} {
			if got := shown(t, i, stub); got != "value-three" {
				return fmt.Errorf("%s shows %q", i.Instance, got)
			}
		}
		return nil
	})
	l.end()
	if len(l.failed) > 0 {
		t.Errorf("%d of %d requests failed: %v", len(l.failed), l.asked, l.failed[0])
	}
	t.Logf("%d requests", l.asked)
}
