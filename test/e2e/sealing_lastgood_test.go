package e2e

import (
	"bytes"
	"context"
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

	"github.com/agentry/agentry/test/harness"
)

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
