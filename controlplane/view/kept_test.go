package view_test

import (
	"runtime"
	"testing"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
)

// What one reader of an agent's heads builds, the next one is given, until something that it is built of changes. Which lines
// are proven is asked each time.
func TestReadersShareWhatIsBuilt(t *testing.T) {
	w := newWorld(t)
	raw := agentSpec(t, "helper", "p", "key")
	w.put(blob(raw), blob([]byte("p1")), blob([]byte("p2")))
	w.put(agentKV("default", agentHead("helper", 1, 0, raw)), sealedKV("key", 1), labelledKV("p", "p1"))
	build := func() (snapshot.Snapshot, snapshot.Immutables) {
		t.Helper()
		heads, im := w.view.Heads("default", "helper")
		s, err := snapshot.BuildFor(heads, im, snapshot.Key{Namespace: "default", Agent: "helper", Target: 1})
		if err != nil {
			t.Fatal(err)
		}
		return s, im
	}
	shares := func(a, b snapshot.Snapshot) bool { return &a.Resources[0] == &b.Resources[0] }

	first, held := build()
	again, _ := build()
	if !shares(first, again) || len(first.Proven) != 0 {
		t.Errorf("built twice, or proven: %v", first.Proven)
	}
	w.put(appliedKV("helper", 1, append([]manifest.Line(nil), first.Lines()...)...))
	proven, _ := build()
	same(t, []string{"agent/helper", "credential/key", "prompt/p"}, proven.Proven)
	if !shares(first, proven) {
		t.Error("built again for proven lines")
	}
	runtime.KeepAlive(held)

	w.put(labelledKV("p", "p2"))
	next, _ := build()
	if shares(first, next) || next.Token.Hash == first.Token.Hash || next.Token.Generation != w.view.Revision() {
		t.Errorf("after a change: %+v", next.Token)
	}
	same(t, []string{"agent/helper", "credential/key"}, next.Proven)
}

// labelledKV is a prompt whose only version is labelled latest.
func labelledKV(key, text string) store.KV {
	h := view.PromptHead{Name: key, Labels: map[string]string{"latest": text}, Versions: []view.VersionRef{
		{Version: text, Ordinal: 1, Hash: manifest.Sum([]byte(text)), Online: true},
	}}
	return kv(view.HeadKey(manifest.KindPrompt, "default", key), view.Encode(h))
}
