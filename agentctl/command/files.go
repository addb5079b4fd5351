package command

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/specfile"
)

// maxHeads is how many heads the server writes in one Apply.
const maxHeads = 100

// fileSet is what -f named: the files as they go to the server, and what a person called them.
type fileSet struct {
	files []specfile.File
	shown map[string]string // path in the set -> path as typed
}

func bindFiles(cmd *cobra.Command, names *[]string) {
	cmd.Flags().StringArrayVarP(names, "filename", "f", nil, `file or folder (with all below it); "-": standard input; may be repeated`)
	_ = cmd.MarkFlagFilename("filename", "json", "jsonc", "yaml", "yml")
}

// readFiles reads everything that -f names.
func (c *cli) readFiles(names []string) (fileSet, error) {
	set := fileSet{shown: map[string]string{}}
	var below *fs.PathError // of a file or folder below the named one
	for _, name := range names {
		files, err := specfile.ReadTree(name, c.env.Stdin)
		switch {
		case errors.Is(err, fs.ErrNotExist) && errs.Is(err, errs.NotFound):
			return set, failf(exitUsage, "", "%s: no such file or folder", name)
		case errs.Is(err, errs.NotFound):
			return set, failf(exitUsage, "", "-f %s: %w", name, err)
		case errs.Is(err, errs.Invalid):
			return set, failf(exitData, "", "-f %s: %w", name, err)
		case errors.As(err, &below):
			return set, failf(exitFailure, "", "read %s: %w", below.Path, below.Err)
		case err != nil:
			return set, fmt.Errorf("-f %s: %w", name, err)
		}
		for _, f := range files {
			set.shown[f.Path] = shownPath(name, f.Path)
		}
		set.files = append(set.files, files...)
	}
	if len(set.files) == 0 {
		if len(names) == 0 {
			return set, failf(exitUsage, "name a file or folder with -f", "no file to read")
		}
		return set, failf(exitUsage, "spec files end in .json, .jsonc, .yaml or .yml; agentctl explain lists their fields", "%s: no spec file in it", strings.Join(names, ", "))
	}
	return set, nil
}

// shownPath gives a file's path as the person who typed name would write it. Paths in a set begin with the folder's own name, those
// of a single file with its folder's.
func shownPath(name, file string) string {
	_, below, nested := strings.Cut(file, "/")
	switch {
	case name == "-":
		return "-"
	case path.Base(file) == filepath.Base(name) && path.Ext(file) != "":
		return name
	case !nested:
		return file
	default:
		return filepath.Join(name, filepath.FromSlash(below))
	}
}

func (s fileSet) show(file string) string { return first(s.shown[file], file) }

func wireFiles(files []specfile.File) []*specv1.File {
	out := make([]*specv1.File, 0, len(files))
	for _, f := range files {
		out = append(out, &specv1.File{Path: f.Path, Content: f.Content})
	}
	return out
}

// faultsOf gives the faults in files that an answer carries; none when it failed for another reason.
func faultsOf(err error) []spec.Fault {
	var rpc *connect.Error
	if !errors.As(err, &rpc) {
		return nil
	}
	for _, d := range rpc.Details() {
		v, err := d.Value()
		if err != nil {
			continue
		}
		if m, ok := v.(*specv1.Faults); ok {
			return fromWire(m.GetFaults())
		}
	}
	return nil
}

func fromWire(in []*specv1.Fault) []spec.Fault {
	out := make([]spec.Fault, 0, len(in))
	for _, f := range in {
		out = append(out, spec.Fault{
			File: f.GetFile(), Line: int(f.GetLine()), Column: int(f.GetColumn()), Path: f.GetPath(),
			Message: f.GetMessage(), Hint: f.GetHint(), Snippet: f.GetSnippet(),
		})
	}
	return out
}

// refuse prints faults: as a document on stdout where one was asked for, else for people on stderr, with what follows from them after
// their number. The answer is exit 65.
func (c *cli) refuse(out output, set fileSet, faults []spec.Fault, after string) error {
	if out.machine() {
		if err := printDoc(c.env.Stdout, out, faultsDoc{Faults: set.faultDocs(faults)}); err != nil {
			return err
		}
		return answered(exitData)
	}
	for _, f := range faults {
		_, _ = fmt.Fprintln(c.env.Stderr, set.line(f))
		if source, _, _ := strings.Cut(f.Snippet, "\n"); strings.TrimSpace(source) != "" { // a caret below an empty line shows nothing
			_, _ = fmt.Fprintf(c.env.Stderr, "    %s\n", strings.ReplaceAll(strings.TrimRight(f.Snippet, "\n"), "\n", "\n    "))
		}
	}
	c.note("%d fault(s)%s", len(faults), after)
	return answered(exitData)
}

func (s fileSet) faultDocs(faults []spec.Fault) []fileFaultDoc {
	docs := make([]fileFaultDoc, 0, len(faults))
	for _, f := range faults {
		docs = append(docs, fileFaultDoc{File: s.show(f.File), Line: f.Line, Column: f.Column, Path: f.Path, Message: f.Message, Hint: f.Hint})
	}
	return docs
}

// line gives file:line:col: path: message (hint).
func (s fileSet) line(f spec.Fault) string {
	f.File = s.show(f.File)
	hint := f.Hint
	f.Hint = ""
	if hint != "" {
		return f.String() + " (" + hint + ")"
	}
	return f.String()
}

// unit is files that go to the server together: an agent's folder, or one other file.
type unit struct {
	files  []specfile.File
	heads  int
	agents bool
}

// parts splits a set so that each part writes at most maxHeads heads, shared things first. A set that fits stays whole, in its order.
func (s fileSet) parts(parsed *specfile.Set) [][]specfile.File {
	units := s.units(parsed)
	total := 0
	for _, u := range units {
		total += u.heads
	}
	if total <= maxHeads {
		return [][]specfile.File{s.files}
	}
	var out [][]specfile.File
	var part []specfile.File
	heads := 0
	for _, agents := range []bool{false, true} {
		for _, u := range units {
			if u.agents != agents {
				continue
			}
			if heads+u.heads > maxHeads && len(part) > 0 {
				out, part, heads = append(out, part), nil, 0
			}
			part, heads = append(part, u.files...), heads+u.heads
		}
	}
	if len(part) > 0 {
		out = append(out, part)
	}
	return out
}

// units counts the heads of each unit: agents with the credentials made of their literals, prompts, MCP entries, credentials.
func (s fileSet) units(parsed *specfile.Set) []*unit {
	shared, manifests := map[string]int{}, map[string]bool{}
	for _, p := range parsed.Prompts {
		shared[p.Locate("").File]++
	}
	for _, m := range parsed.MCPServers {
		shared[m.Locate("").File]++
	}
	for _, cr := range parsed.Credentials {
		shared[cr.Locate("").File]++
	}
	agents := map[string]int{} // by unit
	for _, a := range parsed.Agents {
		file := a.Locate("promptKey").File
		key := path.Dir(file)
		if a.Locate("model").File == file {
			key, manifests[file] = file, true // one document of a manifest
		}
		agents[key] += 1 + len(specfile.Literals(&a.Spec))
	}
	byKey := map[string]*unit{}
	var out []*unit
	for _, f := range s.files {
		key := path.Dir(f.Path)
		if shared[f.Path] > 0 || manifests[f.Path] {
			key = f.Path
		}
		u := byKey[key]
		if u == nil {
			u = &unit{heads: agents[key], agents: agents[key] > 0}
			byKey[key] = u
			out = append(out, u)
		}
		u.heads += shared[f.Path]
		u.files = append(u.files, f)
	}
	return out
}
