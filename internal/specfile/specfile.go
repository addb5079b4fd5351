// Package specfile reads the files that a person writes (folders, JSON with comments, YAML manifests, foreign spellings) into the
// nouns of package spec, and writes them back in canonical spelling. The control plane and agentctl call it; agentd never does. It
// talks to nobody, and no fault, note or snippet of it ever holds a secret's value.
package specfile

import (
	"fmt"

	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
)

// File is one file of a set. Path has forward slashes and begins with the name of the folder that was given, so that an agent's folder
// keeps its name; "-" is standard input.
type File struct {
	Path    string
	Content []byte
}

// Set is everything that a set of files defines, each list in file order.
type Set struct {
	Agents      []*Agent
	Prompts     []*Prompt
	MCPServers  []*MCPServer
	Credentials []*Credential
	Notes       []Note
}

// Agent is one agent of a set. Literal secrets are still in it (see Literals).
type Agent struct {
	Object
	Spec spec.Agent
}

// Prompt is one version of a prompt.
type Prompt struct {
	Object
	Spec spec.Prompt
}

// MCPServer is one version of an MCP entry, and what its file says about the head.
type MCPServer struct {
	Object
	Spec spec.MCPServer
	Head spec.MCPHead
}

// Credential is a credential with its value, from a manifest.
type Credential struct {
	Object
	Name  string
	Value secret.Value // zero: unchanged
	// AllowedOrigins is nil where the document doesn't say it.
	AllowedOrigins []string
}

// Note is a reading of a foreign spelling with its canonical form, or a warning about a value.
type Note struct {
	Place
	Text string
}

// String gives file:line: path: text.
func (n Note) String() string {
	if n.Path == "" {
		return fmt.Sprintf("%s:%d: %s", n.File, n.Line, n.Text)
	}
	return fmt.Sprintf("%s:%d: %s: %s", n.File, n.Line, n.Path, n.Text)
}

// Place is where something stands in a file. Path is the JSON path within that file; Line and Column are 1-based, in bytes.
type Place struct {
	File   string
	Line   int
	Column int
	Path   string
}

// Object is what every member of a Set has: the namespace its manifest gave ("" if none), and where each part stands.
type Object struct {
	Namespace string
	root      *node
}

// Locate finds where a path of the object's document (such as "model.apiKey" of an agent) stands in the files: its value, else
// the nearest part around it. The zero Place is answered for an object that came from no file.
func (o Object) Locate(path string) Place { return locate(o.root, path, false) }

// Fault makes a fault at a path of the object's document.
func (o Object) Fault(path, message, hint string) spec.Fault {
	return o.Place(spec.Fault{Path: path, Message: message, Hint: hint})
}

// Place gives a fault of the object's document (as packages spec and prompt make them) its file, line and column.
func (o Object) Place(f spec.Fault) spec.Fault {
	if o.root == nil {
		return f
	}
	at := locate(o.root, f.Path, f.AtKey)
	f.File, f.Line, f.Column, f.Path = at.File, at.Line, at.Column, at.Path
	return f
}
