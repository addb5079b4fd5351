// Package failpoint builds the module's programs with the failpoints that are comments in their sources ("// gofail: var NAME type"),
// and arms points in processes that run. The tree stays as it is: the sources are rewritten in memory and laid over it (go build
// -overlay), so the programs that are shipped hold the comments only. It is linked by the fault suite alone.
package failpoint

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/gofail/code"
)

// MutationPrefix begins the names of points that make a program do wrong, to see the suite go red.
const MutationPrefix = "mutate"

// mark is in every source with a point.
const mark = "// gofail: var "

// source is one rewritten file.
type source struct {
	path    string // below the module's root
	text    []byte
	pkg     string // its package's name
	points  []*code.Failpoint
	binding bool // one that declares the points, which the tree doesn't have
}

// Points gives the names of all points of the module at root, in order. A name that is there twice is an error: gofail knows them by
// their bare names.
func Points(root string) ([]string, error) {
	sources, err := find(root)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range sources {
		for _, p := range s.points {
			if slices.Contains(names, p.Name()) {
				return nil, fmt.Errorf("%s: failpoint %s is there already", s.path, p.Name())
			}
			names = append(names, p.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// find rewrites every source that has points.
func find(root string) ([]source, error) {
	var out []source
	for _, half := range []string{"controlplane", "agentd", "agentctl", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, half), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path) //nolint:gosec // G122: the module's own tree
			if err != nil || !bytes.Contains(b, []byte(mark)) {
				return err
			}
			s, err := rewrite(root, path, b)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			out = append(out, s)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func rewrite(root, path string, b []byte) (source, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, b, parser.PackageClauseOnly)
	if err != nil {
		return source{}, err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return source{}, err
	}
	var text bytes.Buffer
	points, err := code.ToFailpoints(&text, bytes.NewReader(b))
	if err != nil {
		return source{}, err
	}
	// gofail counts from the comments' lines on; what a reader of a stack trace sees keeps its number, since a line stays a line.
	return source{path: rel, text: text.Bytes(), pkg: file.Name.Name, points: points}, nil
}

// bind gives the file that declares a source's points.
func bind(s source) (source, error) {
	var text bytes.Buffer
	if err := code.NewBinding(s.pkg, s.points).Write(&text); err != nil {
		return source{}, err
	}
	return source{path: strings.TrimSuffix(s.path, ".go") + "_gofail.go", text: text.Bytes(), pkg: s.pkg, binding: true}, nil
}
