package doors

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// TestA2A puts @a2a-js/sdk to the agent of examples/a2a-conformance.
func TestA2A(t *testing.T) {
	t.Parallel()
	const example = "../../examples/a2a-conformance"
	read := func(path string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(example, path))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	w := newWorld(t, read("model-script.yaml"))
	files := harness.Files{}
	for _, path := range []string{"a2a-conformance/agent-base.json", "a2a-conformance/model.json", "prompts/a2a-conformance.json"} {
		files[path] = read(path)
	}
	if _, err := w.api.Apply(t.Context(), files); err != nil {
		t.Fatalf("apply: %v", err)
	}
	a, err := w.StartAgent(w.cp, "a2a-conformance", harness.AgentOptions{ModelBaseURL: w.url + "/v1", Args: []string{"--allow-internal-push"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.WaitReady(t.Context(), 20*time.Second); err != nil {
		t.Fatalf("%v\nagentd:\n%s", err, a.Output())
	}
	node(t, "a2a.mjs", "BASE_URL="+a.URL())
}
