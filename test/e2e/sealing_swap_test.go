package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/test/harness"
)

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
