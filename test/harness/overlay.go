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
	File string // relative to the module's root
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
			b, err := os.ReadFile(filepath.Join(root, c.File)) //nolint:gosec // the suite's own tree
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
		replace[filepath.Join(root, file)] = name
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
