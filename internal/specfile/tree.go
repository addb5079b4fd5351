package specfile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/spec"
)

const (
	maxFiles     = 4096
	maxTreeDepth = 32
)

// ReadTree collects the files of a folder (recursively) or one file; "-" reads stdin. Dotfiles, node_modules, and what is clearly no
// spec (Ignored) are left out. Paths begin with the given folder's own name; a single file's with its folder's name, from prompts/ or
// mcp/ on. Errors are of package errs: NotFound, Invalid (a file over 256 KiB, too many files, too deep).
func ReadTree(root string, stdin io.Reader) ([]File, error) {
	if root == "-" {
		content, err := readLimited(stdin, "-")
		if err != nil {
			return nil, err
		}
		return []File{{Path: "-", Content: content}}, nil
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("resolve %q: %w", root, err)
	}
	info, err := os.Stat(abs)
	if err != nil {
		return nil, errs.New(errs.NotFound, "%w", err)
	}
	if !info.IsDir() {
		content, err := readFile(abs)
		if err != nil {
			return nil, err
		}
		return []File{{Path: singlePath(filepath.ToSlash(abs)), Content: content}}, nil
	}
	return readFolder(abs)
}

func readFolder(abs string) ([]File, error) {
	var files []File
	err := filepath.WalkDir(abs, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(abs, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if rel == "." {
			return nil
		}
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" {
				return fs.SkipDir
			}
			if strings.Count(rel, "/") >= maxTreeDepth {
				return errs.New(errs.Invalid, "%s: is nested deeper than %d folders", rel, maxTreeDepth)
			}
			return nil
		}
		name := path.Join(filepath.Base(abs), rel)
		if Ignored(name) {
			return nil
		}
		if info, err := os.Stat(p); err != nil || !info.Mode().IsRegular() {
			return err // a socket or a link to a folder is no spec
		}
		if len(files) == maxFiles {
			return errs.New(errs.Invalid, "more than %d files", maxFiles)
		}
		content, err := readFile(p)
		if err != nil {
			return err
		}
		files = append(files, File{Path: name, Content: content})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Base(abs), err)
	}
	return files, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(filepath.Clean(name))
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	defer func() { _ = f.Close() }()
	return readLimited(f, filepath.Base(name))
}

// readLimited reads one byte more than allowed, so that Parse names the fault with the others.
func readLimited(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, spec.MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// singlePath keeps as much of a file's path as says what it is.
func singlePath(abs string) string {
	parts := strings.Split(strings.Trim(abs, "/"), "/")
	from := max(0, len(parts)-2)
	if !agentStem(stem(abs)) {
		for i := len(parts) - 2; i >= max(0, len(parts)-6); i-- {
			if parts[i] == "prompts" || parts[i] == "mcp" {
				from = i
				break
			}
		}
	}
	return strings.Join(parts[from:], "/")
}

// Ignored reports whether a path is clearly no spec file: a dotfile, up.yaml or up.json, a readme, a model script, and everything that
// doesn't end in .json, .jsonc, .yaml or .yml.
func Ignored(name string) bool {
	if name == "-" {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") && part != "." && part != ".." || strings.HasPrefix(part, "model-script") {
			return true
		}
	}
	s := stem(name)
	switch path.Ext(name) {
	case ".json", ".jsonc", ".yaml", ".yml":
		return s == "up" || strings.HasPrefix(s, "README")
	default:
		return true
	}
}

// stem gives a path's last part without its ending.
func stem(name string) string {
	base := path.Base(name)
	return strings.TrimSuffix(base, path.Ext(base))
}
