package failpoint

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// etcdModule is the module whose own points BuildEtcd switches on.
const etcdModule = "go.etcd.io/etcd/server/v3"

// BuildEtcd makes test/etcdserver with the points that etcd's authors test it by, and answers its path, dir/bin/etcdserver. A module
// in Go's cache can't be laid over, so a copy of etcd's server is rewritten and takes its place for this build.
func BuildEtcd(ctx context.Context, root, dir string) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}} {{.Version}}", etcdModule)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", etcdModule, err)
	}
	from, version, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	to := filepath.Join(dir, "etcd-"+version)
	if _, err := os.Stat(filepath.Join(to, "go.mod")); err != nil { // go.mod is copied last
		if err := copyModule(from, to); err != nil {
			return "", err
		}
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod")) //nolint:gosec // the suite's own tree
	if err != nil {
		return "", err
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum")) //nolint:gosec // the suite's own tree
	if err != nil {
		return "", err
	}
	mod = append(mod, "\nreplace "+etcdModule+" => "+to+"\n"...)
	for name, b := range map[string][]byte{"etcd.mod": mod, "etcd.sum": sum} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return "", err
		}
	}
	bin := filepath.Join(dir, "bin", "etcdserver")
	cmd = exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-mod=mod", "-modfile", filepath.Join(dir, "etcd.mod"), "-o", bin, "./test/etcdserver") //nolint:gosec // the suite's own tree
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build etcd with failpoints: %w\n%s", err, b)
	}
	return bin, nil
}

// copyModule copies a module's sources without its tests, and rewrites those with points.
func copyModule(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") || path == filepath.Join(from, "go.mod") {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path) //nolint:gosec // G122: a module in Go's cache
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		if !strings.HasSuffix(path, ".go") || !bytes.Contains(b, []byte(mark)) {
			return put(dst, b)
		}
		s, err := rewrite(from, path, b)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		binding, err := bind(s)
		if err != nil {
			return err
		}
		if err := put(dst, s.text); err != nil {
			return err
		}
		return put(filepath.Join(to, binding.path), binding.text)
	})
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(from, "go.mod")) //nolint:gosec // a module in Go's cache
	if err != nil {
		return err
	}
	return put(filepath.Join(to, "go.mod"), b)
}

func put(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600) //nolint:gosec // G703: below the folder that the suite builds in
}
