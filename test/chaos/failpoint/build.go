package failpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/agentry/agentry/test/harness"
)

// Programs are what Build makes: those that the suite runs.
func Programs() []string { return []string{"controlplane", "agentd"} }

// Build makes the programs of the module at root, with failpoints and with further changes laid over it, and answers the folder that
// holds them, dir/bin. Go's cache makes a second build of the same sources quick. Two builds must not share a dir at a time.
func Build(ctx context.Context, root, dir string, changes []harness.Change) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	sources, err := find(root)
	if err != nil {
		return "", err
	}
	if _, err := Points(root); err != nil {
		return "", err
	}
	l := layer{dir: filepath.Join(dir, "overlay"), replace: map[string]string{}}
	if err := os.RemoveAll(l.dir); err != nil {
		return "", err
	}
	for _, s := range sources {
		b, err := bind(s)
		if err != nil {
			return "", err
		}
		for _, f := range []source{s, b} {
			if err := l.put(filepath.Join(root, f.path), f.text); err != nil {
				return "", err
			}
		}
	}
	for _, c := range changes {
		if err := l.change(root, c); err != nil {
			return "", err
		}
	}
	plan, err := l.write()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return "", err
	}
	args := []string{"build", "-buildvcs=false", "-overlay", plan, "-o", bin + string(filepath.Separator)}
	for _, p := range Programs() {
		args = append(args, "./"+p)
	}
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // the suite's own tree
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build with failpoints: %w\n%s", err, b)
	}
	return bin, nil
}

// layer is what lies over the tree.
type layer struct {
	dir     string            // of the files
	replace map[string]string // absolute path in the tree -> file
}

func (l *layer) put(path string, text []byte) error {
	name := filepath.Join(l.dir, strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "_"))
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	l.replace[path] = name
	return os.WriteFile(name, text, 0o600) //nolint:gosec // G703: below the folder that the suite builds in
}

// change lays a harness.Change over what is there, failpoints included.
func (l *layer) change(root string, c harness.Change) error {
	path := c.File
	if !filepath.IsAbs(path) {
		path = filepath.Join(root, path)
	}
	if c.Old == "" {
		return l.put(path, []byte(c.New))
	}
	from := path
	if file := l.replace[path]; file != "" {
		from = file
	}
	b, err := os.ReadFile(from) //nolint:gosec // the suite's own tree
	if err != nil {
		return err
	}
	if n := strings.Count(string(b), c.Old); n != 1 {
		return fmt.Errorf("%s holds %d times, want once: %q", c.File, n, c.Old)
	}
	return l.put(path, []byte(strings.Replace(string(b), c.Old, c.New, 1)))
}

func (l *layer) write() (string, error) {
	b, err := json.Marshal(map[string]any{"Replace": l.replace})
	if err != nil {
		return "", err
	}
	plan := filepath.Join(l.dir, "overlay.json")
	return plan, os.WriteFile(plan, b, 0o600)
}
