package view_test

import (
	"testing"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
)

func appliedKV(agent string, revision int64, lines ...manifest.Line) store.KV {
	manifest.Sort(lines)
	h := manifest.Of(lines)
	return kv(view.AppliedKey("default", agent, h), view.Encode(view.Applied{Revision: revision, Config: manifest.ConfigName(revision, h), Lines: lines}))
}

func sealedKV(name string, versions ...int64) store.KV {
	h := view.CredentialHead{Name: name, Sealed: map[int64][]byte{}}
	for _, v := range versions {
		h.Version, h.Sealed[v] = v, []byte("sealed")
	}
	return kv(view.HeadKey(manifest.KindCredential, "default", name), view.Encode(h))
}

func credentialLine(name, version string) manifest.Line {
	return manifest.Line{Kind: manifest.KindCredential, Name: name, Version: version}
}

// What a head pins and vetoes comes with its heads, whether a spec refers to them or not, and a change of them touches the agent.
func TestHeadsThatAreHeld(t *testing.T) {
	w := newWorld(t)
	raw := agentSpec(t, "Helper", "p", "key")
	w.put(blob(raw))
	head := agentHead("Helper", 1, 0, raw)
	line := manifest.Line{Kind: manifest.KindPrompt, Name: "old", Version: "1", SHA256: manifest.Sum([]byte("old"))}
	head.State.Pin = &release.Pin{Revision: 1, Hash: manifest.Sum(raw), Lines: []manifest.Line{line}}
	head.State.Vetoes = []release.Veto{{Kind: manifest.KindPolicy, Name: "tools", Refused: []string{"aa"}, Use: "bb"}}
	w.put(agentKV("default", head))
	w.put(mcpKV("default", view.MCPHead{Name: "tools", Current: "1"}))
	sub := w.view.Subscribe()
	defer sub.Close()
	w.put(promptKV("default", "old", "1"))
	same(t, keys("Helper"), w.touched(sub))

	got, _ := w.view.Heads("default", "Helper")
	same(t, map[string]manifest.Line{"prompt/old": line}, got.Pins)
	same(t, map[string]snapshot.Veto{"policy/tools": {Refused: []string{"aa"}, Use: "bb"}}, got.Vetoes)
	if _, ok := got.Prompts["old"]; !ok || len(got.MCP) != 1 {
		t.Errorf("the heads of pin and veto are not there: %+v", got)
	}

	head.State.Pin, head.State.Vetoes = nil, nil
	w.put(agentKV("default", head))
	w.touched(sub)
	w.put(promptKV("default", "old", "1", "2"))
	same(t, keys(), w.touched(sub))
}

func TestPinnable(t *testing.T) {
	w := newWorld(t)
	own := manifest.Line{Kind: manifest.KindAgent, Name: "a", Version: "-", SHA256: manifest.Sum([]byte("spec"))}
	prompt := manifest.Line{Kind: manifest.KindPrompt, Name: "p", Version: "1", SHA256: manifest.Sum([]byte("p"))}
	key, gone := credentialLine("key", "1"), credentialLine("token", "1")
	w.put(sealedKV("key", 1, 2), sealedKV("token", 2, 3), appliedKV("a", 8, own, prompt, key, gone))
	hash := w.view.AppliedConfigs("default", "a")[0].Hash
	pin, lost, ok := w.view.Pinnable("default", "a", 8, hash.String()[:8])
	if !ok || pin.Config() != manifest.ConfigName(8, hash) {
		t.Fatalf("pin %+v, %v", pin, ok)
	}
	same(t, []manifest.Line{key, prompt}, pin.Lines)
	same(t, []string{"token"}, lost)
	for name, c := range map[string]struct {
		revision int64
		digits   string
	}{"another revision": {7, hash.String()[:8]}, "other digits": {8, "00000000"}, "too few digits": {8, hash.String()[:7]}} {
		if _, _, ok := w.view.Pinnable("default", "a", c.revision, c.digits); ok {
			t.Errorf("%s: found", name)
		}
	}
}

// The values that a veto, a pin or a base may fall back to are not dropped by a rotation.
func TestNeededVersions(t *testing.T) {
	w := newWorld(t)
	raw := agentSpec(t, "a", "p", "key")
	head := agentHead("a", 1, 0, raw)
	head.State.Vetoes = []release.Veto{{Kind: manifest.KindCredential, Name: "key", Refused: []string{"9"}, Use: "3"}}
	head.State.Pin = &release.Pin{Lines: []manifest.Line{credentialLine("key", "2")}}
	w.put(blob(raw), agentKV("default", head))
	for _, v := range []string{"1", "4", "5", "6"} { // only the newest few count
		w.put(appliedKV("a", 1, credentialLine("key", v)))
	}
	same(t, []string{"2", "3", "4", "5", "6"}, w.view.NeededVersions(manifest.KindCredential, "default", "KEY"))
	same(t, []string(nil), w.view.NeededVersions(manifest.KindCredential, "default", "token"))
	head.Deleted = true
	w.put(agentKV("default", head))
	same(t, []string(nil), w.view.NeededVersions(manifest.KindCredential, "default", "key"))
}
