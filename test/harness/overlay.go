package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Change is one change of the tree for BuildVariant: Old, which must be there exactly once, becomes New; an empty Old makes New a whole
// new file.
type Change struct {
	File string // relative to the module's root, or absolute
	Old  string
	New  string
}

// BuildVariant builds the module's program (such as "agentd") with changes laid over the tree, which stays as it is, into dir
// and answers its path.
func BuildVariant(ctx context.Context, root, dir, program string, changes []Change) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	contents := map[string]string{}
	for _, c := range changes {
		text, seen := contents[c.File]
		if !seen && c.Old != "" {
			b, err := os.ReadFile(within(root, c.File))
			if err != nil {
				return "", err
			}
			text = string(b)
		}
		if n := strings.Count(text, c.Old); c.Old != "" && n != 1 {
			return "", fmt.Errorf("%s holds %d times, want once: %q", c.File, n, c.Old)
		}
		if c.Old == "" {
			text = c.New
		} else {
			text = strings.Replace(text, c.Old, c.New, 1)
		}
		contents[c.File] = text
	}
	replace := map[string]string{}
	for file, text := range contents {
		name := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[within(root, file)] = name
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	plan, out := filepath.Join(dir, "overlay.json"), filepath.Join(dir, program)
	if err := os.WriteFile(plan, overlay, 0o600); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", plan, "-o", out, "./"+program) //nolint:gosec // the suite's own tree
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build -overlay %s: %w\n%s", program, err, b)
	}
	return out, nil
}

func within(root, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(root, file)
}

// SkewVar is the variable by which a program built with SkewedClock has a wrong clock, in seconds.
const SkewVar = "TEST_SKEW_SECONDS"

// SkewedClock gives the changes of the standard library that make a program's clock wrong; what is measured between two moments stays
// right.
func SkewedClock(ctx context.Context) ([]Change, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "src", "time")
	now := "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	return []Change{
		{File: filepath.Join(dir, "time.go"), Old: now, New: now + "\tsec += testSkew\n"},
		{File: filepath.Join(dir, "testskew.go"), New: `package time

import "syscall"

var testSkew = func() int64 {
	text, _ := syscall.Getenv("` + SkewVar + `")
	n, negative := int64(0), false
	for i := range len(text) {
		if text[i] == '-' {
			negative = true
			continue
		}
		n = n*10 + int64(text[i]-'0')
	}
	if negative {
		return -n
	}
	return n
}()
`},
	}, nil
}
