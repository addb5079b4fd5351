package configclient

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func unmarshal(t *testing.T, b []byte, m proto.Message) {
	t.Helper()
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func openTest(tb testing.TB, dir string) *State {
	tb.Helper()
	s, err := OpenState(StateConfig{Dir: dir, Namespace: "default", Agent: "helper", Persist: PersistSealed})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// bigConfig fills a few KB, so that damage hits every part of the file.
func bigConfig(generation int64) testConfig {
	c := config(generation, "0.1")
	c.resources["prompt/p"] = `{"template":"` + strings.Repeat("x", 3000) + `","g":` + string(rune('0'+generation)) + `}`
	c.creds = map[string]string{"key": "sk-planted-secret"}
	return c
}

// twoGenerations gives a state with generations 5 and 6, and the path and bytes of the newest.
func twoGenerations(tb testing.TB) (s *State, path string, good []byte) {
	tb.Helper()
	s = openTest(tb, tb.TempDir())
	tb.Cleanup(func() { _ = s.Close() })
	for g := int64(5); g <= 6; g++ {
		if err := s.saveGood("c1", bigConfig(g).update()); err != nil {
			tb.Fatal(err)
		}
	}
	path = s.slotPath(s.generations()[0].slot)
	good, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return s, path, good
}

// previous fails the test unless the damaged newest file leads to the previous generation, whole.
func previous(t *testing.T, s *State, path string, damaged []byte, what string) {
	t.Helper()
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	got, _, faults := s.boot(testVersion, nil)
	switch {
	case got == nil || got.update.Token != bigConfig(5).token() || got.update.Credentials["key"].Value.Reveal() != "sk-planted-secret":
		t.Fatalf("%s: booted from %+v", what, got)
	case len(faults) != 1:
		t.Fatalf("%s: faults %v", what, faults)
	}
	if err := s.booted(got.sequence); err != nil {
		t.Fatal(err)
	}
}

func TestTruncatedAnywhere(t *testing.T) {
	s, path, good := twoGenerations(t)
	for n := 0; n < len(good); n += 512 {
		previous(t, s, path, good[:n], "truncated")
	}
	previous(t, s, path, good[:len(good)-1], "truncated by one")
	previous(t, s, path, append(append([]byte{}, good...), 0), "one byte more")
}

func TestBitFlips(t *testing.T) {
	s, path, good := twoGenerations(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		bad := append([]byte{}, good...)
		bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
		previous(t, s, path, bad, "bit flip")
	}
	for i := range headerSize {
		bad := append([]byte{}, good...)
		bad[i] ^= 0x80
		previous(t, s, path, bad, "bit flip in the header")
	}
}

func TestOldSchemaAndWrongKey(t *testing.T) {
	s, path, good := twoGenerations(t)
	old := append([]byte{}, good...)
	old[11]++
	previous(t, s, path, old, "old schema")
	if g := s.decodeGood(old); !errors.Is(g.err, errSchema) {
		t.Errorf("error %v", g.err)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := s.dir
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir)
	defer func() { _ = s.Close() }()
	g, _, faults := s.boot(testVersion, nil)
	if g != nil || len(faults) != 2 || !errors.Is(faults[0], errStateKey) {
		t.Errorf("with another key: %v, %v", g, faults)
	}
}

// An emptied key file, and a full disk at the first start, ended agentd for good.
func TestStartWithoutUsableKey(t *testing.T) {
	s, _, _ := twoGenerations(t)
	dir := s.dir
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir)
	if g, _, faults := s.boot(testVersion, nil); g != nil || len(faults) != 2 || !errors.Is(faults[0], errStateKey) {
		t.Errorf("with a new key: %v, %v", g, faults)
	}
	if err := s.saveGood("c1", bigConfig(7).update()); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	dir = t.TempDir()
	s = &State{dir: filepath.Join(dir, "gone"), namespace: "default", agent: "helper", persist: PersistSealed}
	if k, err := s.openKey(""); k != nil || err != nil || len(s.notes) != 1 {
		t.Fatalf("key %v, error %v, notes %v", k, err, s.notes)
	}
	if err := s.saveGood("c1", bigConfig(5).update()); err == nil {
		t.Error("secrets were saved without a key")
	}
	s.dir = dir // there is room again
	if err := s.saveGood("c1", bigConfig(5).update()); err != nil {
		t.Error(err)
	}
	if g := s.generations(); len(g) != 1 || g[0].err != nil {
		t.Errorf("generations %v", g)
	}
}

// An instance id with a flipped bit went into logs and statuses as it was.
func TestInstanceIDThatCannotBeOurs(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"empty": "", "blank inside": "vm-e2f 1323", "binary": "vm\x00\xff"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "instance"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			id, err := instanceID(dir, "")
			if err != nil || id == content || !printable(id) {
				t.Fatalf("id %q, %v", id, err)
			}
			if again, _ := instanceID(dir, ""); again != id {
				t.Errorf("then %q, want %q", again, id)
			}
		})
	}
}

func TestNoSecretOnDisk(t *testing.T) {
	s, _, _ := twoGenerations(t)
	files, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(s.dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if contains(string(b), "sk-planted") || contains(string(b), "c2stcGxhbnRlZC") {
			t.Errorf("%s holds the secret", f.Name())
		}
		st, err := f.Info()
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", f.Name(), st.Mode(), err)
		}
	}
}

func TestPersistNone(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenState(StateConfig{Dir: dir, Namespace: "default", Agent: "helper", Persist: PersistNone})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.saveGood("c1", bigConfig(5).update()); err != nil {
		t.Fatal(err)
	}
	g, _, faults := s.boot(testVersion, nil)
	if g != nil || len(faults) != 1 || !errors.Is(faults[0], errNoSecrets) {
		t.Errorf("boot without secrets: %v, %v", g, faults)
	}
}

func TestStateInUseAndOfAnotherAgent(t *testing.T) {
	s, _, _ := twoGenerations(t)
	_, err := OpenState(StateConfig{Dir: s.dir, Namespace: "default", Agent: "helper"})
	if !errs.Is(err, errs.Precondition) || !contains(err.Error(), "in use") {
		t.Errorf("a second agentd: %v", err)
	}
	id := s.Instance()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := OpenState(StateConfig{Dir: s.dir, Namespace: "default", Agent: "other", Persist: PersistSealed})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if g, _, _ := other.boot(testVersion, nil); g != nil {
		t.Error("another agent's last good was taken")
	}
	if other.Instance() != id {
		t.Errorf("instance %q, was %q", other.Instance(), id)
	}
}

func TestLastGoodThatCannotBeWritten(t *testing.T) {
	f, dir := newFakeServer(t), filepath.Join(t.TempDir(), "state")
	start(t, dir, f, newFakeApplier())
	st := f.accept(t, "c1")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	st.snapshot(config(5, "0.1").snapshot(t, 1))
	if r := st.want(1, degraded); r.GetFaults()[0].GetCode() != "not_persisted" {
		t.Errorf("report %v", r)
	}
	st.snapshot(config(4, "0.2").snapshot(t, 2)) // the fence holds in memory
	st.want(2, fenced)
}

func TestRefusalsAreBounded(t *testing.T) {
	s, _, _ := twoGenerations(t)
	for g := range int64(12) {
		if err := s.refuse(Refusal{Token: config(g+1, "0."+string(rune('a'+g))).token(), Version: testVersion}); err != nil {
			t.Fatal(err)
		}
	}
	got := s.recall().Refusals
	if len(got) != maxRefusals || got[7].Token.Generation != 12 {
		t.Errorf("%d refusals, newest %+v", len(got), got[len(got)-1])
	}
	tok := got[7].Token
	if _, ok := s.refused(tok, "2.0.0"); ok {
		t.Error("another agentd version is bound by the refusal")
	}
	if _, ok := s.refused(tok, testVersion); !ok {
		t.Error("the refusal is forgotten")
	}
}

// FuzzLoad: no bytes make the reader panic or give half a config, not even with a right checksum.
func FuzzLoad(f *testing.F) {
	s, _, good := twoGenerations(f)
	f.Add(good, false)
	f.Add(good[headerSize:], true)
	f.Add([]byte(`{"namespace":"default","agent":"helper","lines":[{"kind":"agent"}]}`), true)
	f.Add([]byte(`null`), true)
	f.Fuzz(func(t *testing.T, raw []byte, frame bool) {
		if frame {
			body := raw
			raw = make([]byte, headerSize, headerSize+len(body))
			copy(raw, good[:sumOffset])
			raw[12], raw[13], raw[14], raw[15] = byte(len(body)>>24), byte(len(body)>>16), byte(len(body)>>8), byte(len(body))
			raw = append(raw, body...)
			sum := frameSum(raw)
			copy(raw[sumOffset:], sum[:])
		}
		g := s.decodeGood(raw)
		if g.err != nil {
			return
		}
		u := g.update
		if manifest.Of(u.Lines) != u.Token.Hash {
			t.Fatal("a manifest that does not match its hash was taken")
		}
		for _, l := range u.Lines {
			if l.Kind != manifest.KindCredential && manifest.Sum(u.Resources[l.Resource()]) != l.SHA256 {
				t.Fatalf("%s does not match its hash", l.Resource())
			}
		}
	})
}
