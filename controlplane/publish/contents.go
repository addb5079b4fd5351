package publish

import (
	"sync"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// maxContents bounds the distinct contents kept of one config; more are marshalled for whoever needs them and forgotten.
const maxContents = 64

// contents is the wire forms of one config: one per distinct set of resources that instances lack.
type contents struct {
	hash      manifest.Hash
	lines     []manifest.Line
	resources []snapshot.Resource
	writer    *writer

	mu    sync.Mutex // guards forms; never held while marshalling
	forms []*form    // one or two, but for instances that were away
}

// form is one marshalled content.
type form struct {
	missing string // as keyOfMissing gives it

	mu    sync.Mutex // guards what follows; held while marshalling: who asks for the same waits for it
	done  bool
	bytes []byte
	err   error
}

func newContents(s snapshot.Snapshot, w *writer) *contents {
	return &contents{hash: s.Token.Hash, lines: s.Lines(), resources: s.Resources, writer: w}
}

// get is snapshot.Rendered.Content.
func (c *contents) get(missing []bool) ([]byte, error) {
	if len(missing) != len(c.resources) {
		return nil, errs.New(errs.Internal, "content: %d flags for %d resources", len(missing), len(c.resources))
	}
	f := c.form(keyOfMissing(missing))
	b, fresh, err := f.get(func() ([]byte, error) { return c.marshal(missing) })
	if fresh && err == nil {
		c.writer.wrote(f, len(b))
	}
	return b, err
}

// get gives the bytes, and whether they had to be made.
func (f *form) get(marshal func() ([]byte, error)) (b []byte, fresh bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.done {
		f.bytes, f.err = marshal()
		f.done, fresh = true, true
	}
	return f.bytes, fresh, f.err
}

// forget makes the next who asks marshal again.
func (f *form) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done, f.bytes, f.err = false, nil, nil
}

func (c *contents) form(missing string) *form {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.forms {
		if f.missing == missing {
			return f
		}
	}
	f := &form{missing: missing}
	if len(c.forms) < maxContents {
		c.forms = append(c.forms, f)
	}
	return f
}

func keyOfMissing(missing []bool) string {
	bits := make([]byte, (len(missing)+7)/8)
	for i, m := range missing {
		if m {
			bits[i/8] |= 1 << (i % 8)
		}
	}
	return string(bits)
}

// marshal writes a pushv1.Content: by hand, because a shared head's move needs one for each of thousands of agents, and the message's
// structs are several times as large as its bytes.
func (c *contents) marshal(missing []bool) ([]byte, error) {
	c.writer.marshals.Add(1)
	size := 0
	for i := range c.lines {
		e := c.line(i)
		if !e.valid() {
			return nil, errs.New(errs.Internal, "content: %q is no text", c.lines[i].Resource())
		}
		size += e.size()
		if c.sends(i, missing) {
			size += c.resource(i).size()
		}
	}
	b := make([]byte, 0, size)
	for i := range c.lines {
		b = c.line(i).appendTo(b, fieldManifest)
	}
	for i := range c.lines {
		if c.sends(i, missing) {
			b = c.resource(i).appendTo(b, fieldResources)
		}
	}
	return b, nil
}

func (c *contents) sends(i int, missing []bool) bool {
	return missing[i] && c.lines[i].Kind != manifest.KindCredential
}

func (c *contents) line(i int) entry {
	l := &c.lines[i]
	e := entry{kind: l.Kind, name: l.Name, version: l.Version}
	if l.Kind != manifest.KindCredential {
		e.bytes = l.SHA256[:]
	}
	return e
}

func (c *contents) resource(i int) entry {
	l := &c.lines[i]
	return entry{kind: l.Kind, name: l.Name, version: l.Version, bytes: c.resources[i].JSON}
}
