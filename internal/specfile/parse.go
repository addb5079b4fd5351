package specfile

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/agentry/agentry/internal/spec"
)

// maxFaults bounds the answer; a set with more is broken as a whole.
const maxFaults = 1000

// Parse reads a set of files and answers everything they define and every fault at once, in file and line order. With faults
// the Set holds what could be read, so that references can be checked all the same; it must not be stored then.
func Parse(files []File) (*Set, []spec.Fault) {
	p := &reader{set: &Set{}}
	for _, f := range files {
		if !Ignored(f.Path) {
			p.file(f)
		}
	}
	p.agents()
	p.twice()
	if len(p.faults) == 0 && len(p.set.Agents)+len(p.set.Prompts)+len(p.set.MCPServers)+len(p.set.Credentials) == 0 {
		p.faults = append(p.faults, spec.Fault{Message: "there is no spec file here (expected an agent's folder, prompts/, mcp/ or a manifest)"})
	}
	order := map[string]int{}
	for i, f := range files {
		order[f.Path] = i
	}
	slices.SortStableFunc(p.faults, func(a, b spec.Fault) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	slices.SortStableFunc(p.set.Notes, func(a, b Note) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if len(p.faults) > maxFaults {
		more := len(p.faults) - maxFaults
		p.faults = append(p.faults[:maxFaults:maxFaults], spec.Fault{Message: "and " + itoa(more) + " faults more"})
	}
	return p.set, p.faults
}

type reader struct {
	set     *Set
	faults  []spec.Fault
	folders []*folder
}

// folder collects the files of one agent.
type folder struct {
	path  string
	first string           // its first file, where faults of the whole stand
	parts map[string]*node // by kind; nil: the file is there but can't be read
}

func (p *reader) file(f File) {
	r := roleOf(f.Path)
	docs, ok := p.parse(f)
	if !ok {
		if part := p.part(r, f.Path); part != nil {
			part.parts[r.kind] = nil
		}
		return
	}
	if f.Path == "-" || slices.ContainsFunc(docs, isManifest) {
		p.manifest(docs)
		return
	}
	if r.kind == "" {
		p.faults = append(p.faults, unknownName(f.Path))
		return
	}
	if len(docs) != 1 {
		p.faults = append(p.faults, docs[1].fault("a second document stands here (one file holds one object)"))
		return
	}
	n := docs[0]
	n.take("$schema")
	if r.alias != "" {
		p.note(n.place(), "read as "+r.alias+", its canonical name")
	}
	switch r.kind {
	case spec.KindPrompt:
		p.prompt(n, r.name, "")
	case spec.KindMCP:
		p.mcpServer(n, r.name, "")
	default:
		part := p.part(r, f.Path)
		if before, twice := part.parts[r.kind]; twice {
			other := "another file"
			if before != nil {
				other = before.src.path
			}
			p.faults = append(p.faults, n.fault("says the same as "+other+" (only one of them is allowed)"))
			return
		}
		part.parts[r.kind] = n
	}
}

// part gives the folder to which a file belongs, nil if it is no agent's.
func (p *reader) part(r role, file string) *folder {
	if r.kind == "" || r.kind == spec.KindPrompt || r.kind == spec.KindMCP {
		return nil
	}
	for _, f := range p.folders {
		if f.path == r.folder {
			return f
		}
	}
	f := &folder{path: r.folder, first: file, parts: map[string]*node{}}
	p.folders = append(p.folders, f)
	return f
}

// parse reads one file's documents; every one of them is an object.
func (p *reader) parse(f File) ([]*node, bool) {
	if len(f.Content) > spec.MaxFileBytes {
		p.faults = append(p.faults, spec.Fault{File: f.Path, Message: "is larger than 256 KiB"})
		return nil, false
	}
	src := newSource(f.Path, strings.TrimPrefix(string(f.Content), "\ufeff"))
	if bad := invalidUTF8(src.text); bad >= 0 {
		src.text = strings.ToValidUTF8(src.text[:bad], "?") + "\n"
		src = newSource(f.Path, src.text)
		p.faults = append(p.faults, src.syntax(bad, "this byte is no UTF-8 (expected UTF-8 text)", "")...)
		return nil, false
	}
	var docs []*node
	var faults []spec.Fault
	if isJSON(f.Path, src.text) {
		var n *node
		n, faults = parseJSON(src)
		docs = []*node{n}
	} else {
		src = newSource(f.Path, strings.ReplaceAll(src.text, "\r\n", "\n"))
		src.yaml = true
		docs, faults = parseYAML(src)
	}
	if len(faults) == 0 && len(docs) == 0 {
		faults = src.syntax(0, "the file is empty (expected an object)", "")
	}
	for _, n := range docs {
		if n != nil && n.kind != object {
			faults = append(faults, n.src.syntax(n.off, "an object must stand here (fields with values)", "")...)
		}
	}
	p.faults = append(p.faults, faults...)
	return docs, len(faults) == 0
}

func isJSON(name, text string) bool {
	switch path.Ext(name) {
	case ".json", ".jsonc":
		return true
	case ".yaml", ".yml":
		return false
	default: // standard input
		return strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{")
	}
}

func (p *reader) note(at Place, text string) {
	p.set.Notes = append(p.set.Notes, Note{Place: at, Text: text})
}

// twice adds a fault for each object that the set defines a second time; names differ by more than case.
func (p *reader) twice() {
	seen := map[string]Object{}
	check := func(kind, name, path string, o Object) {
		if name == "" {
			return
		}
		key := kind + "\x00" + o.Namespace + "\x00" + strings.ToLower(name)
		if first, ok := seen[key]; ok {
			at := first.Locate(path)
			p.faults = append(p.faults, o.Fault(path, kind+" "+name+" is defined twice (first in "+at.File+":"+itoa(at.Line)+")", ""))
			return
		}
		seen[key] = o
	}
	for _, a := range p.set.Agents {
		check("agent", a.Spec.AgentName, "agentName", a.Object)
	}
	for _, x := range p.set.Prompts {
		check("prompt", x.Spec.PromptKey+" "+x.Spec.Version, "promptKey", x.Object)
	}
	for _, m := range p.set.MCPServers {
		check("mcp", m.Spec.Name, "name", m.Object)
	}
	for _, c := range p.set.Credentials {
		check("credential", c.Name, "name", c.Object)
	}
}
