package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/etcdstore"
	"github.com/agentry/agentry/controlplane/view"
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

// The sealed values of two credentials, swapped in the store, open for neither: their instances keep what they have, nobody is handed
// the other's value, the control plane serves everything else, and a rotation mends it.
func TestSwappedCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	stubs, urls, agents := map[string]*harness.MCPStub{}, map[string]string{}, map[string]*harness.Agent{}
	for _, name := range []string{"a", "b"} {
		stubs[name] = harness.NewMCPStub("tools-"+name, "alpha")
		t.Cleanup(stubs[name].Close)
		urls[name] = stubs[name].URL
		w.credential(t, "create", "key-"+name, "value-of-"+name)
	}
	set := keyed(urls)
	maps.Copy(set, plain(1))
	w.apply(t, set)
	for _, name := range []string{"a", "b", "helper"} {
		agents[name] = w.agent(t, name)
		w.settled(t, name)
	}
	if err := w.cp.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	one, two := view.HeadKey("credential", "default", "key-a"), view.HeadKey("credential", "default", "key-b")
	stored(t, w.cp.DataDir, func(values map[string][]byte) {
		heads := map[string]map[string]json.RawMessage{}
		for key, value := range values {
			var head map[string]json.RawMessage
			if err := json.Unmarshal(value, &head); err != nil || len(head["sealed"]) == 0 {
				t.Fatalf("%s: %s, %v", key, value, err)
			}
			heads[key] = head
		}
		heads[one]["sealed"], heads[two]["sealed"] = heads[two]["sealed"], heads[one]["sealed"]
		for key, head := range heads {
			value, err := json.Marshal(head)
			if err != nil {
				t.Fatal(err)
			}
			values[key] = value
		}
	}, one, two)
	if err := w.cp.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, a := range agents {
		connected(t, a.URL())
		if stub := stubs[name]; stub != nil {
			if got := shown(t, a, stub); got != "value-of-"+name {
				t.Errorf("%s shows %q", name, got)
			}
		}
	}
	// What must be sent anew with the value isn't, and everything else is.
	for _, name := range []string{"a", "b"} {
		set["prompts/"+name+".json"] = fmt.Sprintf(`{"promptKey": %q, "version": "2.0.0", "template": "second"}`, name)
	}
	maps.Copy(set, plain(2))
	w.apply(t, set)
	answers(t, 2, agents["helper"])
	late, err := w.StartAgent(w.cp, "a", harness.AgentOptions{Instance: "late", ModelBaseURL: w.url})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func(context.Context) error {
		for _, name := range []string{"key-a", "key-b"} {
			if !strings.Contains(w.cp.Output(), "credential default/"+name+" version 1: sealed value doesn't open: it was changed, or sealed for another place") {
				return errors.New("the control plane doesn't say that " + name + " was changed")
			}
		}
		return nil
	})
	for _, name := range []string{"a", "b"} {
		if got := shown(t, agents[name], stubs[name]); got != "value-of-"+name {
			t.Errorf("after an apply %s shows %q", name, got)
		}
	}
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		code, body, err := harness.Get(ctx, late.URL()+"/readyz")
		if err == nil && code != 503 {
			err = fmt.Errorf("a new instance is ready: %d %s", code, body)
		}
		return err
	})
	if out, err := w.Ctl(t.Context(), w.cp, "credential", "reseal"); err != nil || (out.Code == 0 && !strings.HasPrefix(out.Stdout, "0 of")) {
		t.Errorf("reseal: %+v, %v", out, err)
	}
	for _, name := range []string{"a", "b"} {
		w.credential(t, "rotate", "key-"+name, "new-of-"+name)
		eventually(t, 20*time.Second, func(context.Context) error {
			if got := shown(t, agents[name], stubs[name]); got != "new-of-"+name {
				return fmt.Errorf("%s shows %q", name, got)
			}
			return nil
		})
	}
	if err := late.WaitReady(t.Context(), 20*time.Second); err != nil {
		t.Error(err)
	}
	for name, stub := range stubs {
		for _, c := range stub.Calls() {
			if key := c.Headers.Get("X-Key"); !strings.HasSuffix(key, "-of-"+name) {
				t.Errorf("the server of %s was shown %q", name, key)
			}
		}
	}
}

// A certificate authority that was changed in the store is a start error that says so; put back, everything goes on.
func TestASpoiledAuthorityIsAStartError(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	w.apply(t, plain(1))
	a := w.agent(t, "helper")
	w.settled(t, "helper")
	const authority, setting = "/agentry/identity/trust/authority", "/agentry/settings/fingerprint-key"
	var good []byte
	if err := w.cp.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func(values map[string][]byte) []byte{
		"cut off": func(v map[string][]byte) []byte { return v[authority][:len(v[authority])/2] },
		"empty":   func(map[string][]byte) []byte { return nil },
		"swapped": func(v map[string][]byte) []byte { return v[setting] },
		"changed": func(v map[string][]byte) []byte {
			at := bytes.Index(v[authority], []byte(`"data":"`)) + 40
			out := slices.Clone(v[authority])
			out[at] = 'A' + (out[at]-'A'+1)%26
			return out
		},
	} {
		stored(t, w.cp.DataDir, func(v map[string][]byte) {
			good = v[authority]
			v[authority] = spoil(v)
		}, authority, setting)
		said := w.startFault(t)
		for _, words := range []string{"certificate authority", "sealed value", "backup"} {
			if !strings.Contains(said, words) {
				t.Errorf("%s: it says %q, want %q", what, said, words)
			}
		}
		stored(t, w.cp.DataDir, func(v map[string][]byte) { v[authority] = good }, authority)
	}
	if err := w.cp.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if id := connected(t, a.URL()); id.Problem != "" {
		t.Errorf("identity %+v", id)
	}
	w.apply(t, plain(2))
	answers(t, 2, a)
}

// A last good copy is of one instance: that of another agent, that of another instance of the same agent, and one whose sealed value was
// changed and its checksum made right are all refused.
func TestLastGoodIsOfOneInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	stub := harness.NewMCPStub("tools-a", "alpha")
	t.Cleanup(stub.Close)
	w.credential(t, "create", "key-a", "value-of-a")
	set := keyed(map[string]string{"a": stub.URL})
	maps.Copy(set, plain(1))
	w.apply(t, set)
	a, other := w.agent(t, "a"), w.agent(t, "helper")
	second, err := w.StartAgent(w.cp, "a", harness.AgentOptions{Instance: "second", ModelBaseURL: w.url})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.WaitReady(t.Context(), 20*time.Second); err != nil {
		t.Fatal(err)
	}
	w.settled(t, "a")
	w.settled(t, "helper")
	w.cp.Kill()
	copies := func(of *harness.Agent) map[string][]byte {
		t.Helper()
		of.Kill()
		files, err := filepath.Glob(filepath.Join(of.StateDir, "lastgood.*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%v, %v", files, err)
		}
		out := map[string][]byte{}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.Base(f)] = b
		}
		return out
	}
	own := copies(a)
	put := func(files map[string][]byte) {
		t.Helper()
		for name := range own {
			if err := os.Remove(filepath.Join(a.StateDir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		for name, b := range files {
			write(t, filepath.Join(a.StateDir, name), b)
		}
		if err := a.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	forged := map[string][]byte{}
	for name, b := range own {
		forged[name] = forgeSealed(t, b)
	}
	for what, c := range map[string]struct {
		files map[string][]byte
		want  string
	}{
		"another agent":    {copies(other), "of agent default/helper"},
		"another instance": {copies(second), "state key"},
		"changed":          {forged, "credential key-a: sealed value doesn't open"},
	} {
		put(c.files)
		eventually(t, 10*time.Second, func(ctx context.Context) error {
			code, body, err := harness.Get(ctx, a.URL()+"/readyz")
			if err == nil && (code != 503 || !strings.Contains(body+a.Output(), c.want)) {
				err = fmt.Errorf("%s: readyz %d %q, want 503 and %q in\n%s", what, code, body, c.want, a.Output())
			}
			return err
		})
		a.Kill()
	}
	put(own)
	if err := a.WaitReady(t.Context(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, a, stub); got != "value-of-a" {
		t.Errorf("it shows %q", got)
	}
}

// forgeSealed changes one byte of a sealed value in a last good copy, and makes the checksum right.
func forgeSealed(t *testing.T, frame []byte) []byte {
	t.Helper()
	const sum, header = 40, 72
	var body struct {
		Credentials map[string]struct{ Sealed []byte }
	}
	if err := json.Unmarshal(frame[header:], &body); err != nil || len(body.Credentials) == 0 {
		t.Fatalf("%d credentials, %v", len(body.Credentials), err)
	}
	out := slices.Clone(frame)
	for _, c := range body.Credentials {
		changed := slices.Clone(c.Sealed)
		at := bytes.Index(changed, []byte(`"data":"`)) + 24
		changed[at] = 'A' + (changed[at]-'A'+1)%26
		out = bytes.Replace(out, []byte(base64.StdEncoding.EncodeToString(c.Sealed)), []byte(base64.StdEncoding.EncodeToString(changed)), 1)
	}
	h := sha256.New()
	_, _ = h.Write(out[:sum])
	_, _ = h.Write(out[header:])
	copy(out[sum:], h.Sum(nil))
	return out
}
