package e2e

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var demoLine = regexp.MustCompile(`^ok ([a-z-]+) (\d+) \S.*\.$`)

// `make demo` prints one line per step and exits 0; scripts read the lines.
func TestDemoLines(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "run", "./test/demo", "--bin", "bin")
	cmd.Dir = "../.."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("demo: %v\n%s%s", err, out, stderr.String())
	}
	var steps []string
	for line := range strings.Lines(string(out)) {
		m := demoLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			t.Errorf("not a step's line: %q", line)
			continue
		}
		steps = append(steps, m[1])
	}
	want := []string{
		"control-plane", "apply", "agent-ready", "question", "prompt-push", "tool-added", "tool-removed",
		"refused", "rolled-back", "last-good", "resume", "stop",
	}
	if !slices.Equal(steps, want) {
		t.Errorf("steps %v, want %v", steps, want)
	}
}
