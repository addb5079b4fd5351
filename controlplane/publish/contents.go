package publish

import (
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/snapshot"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
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
	marshals  *atomic.Uint64

	mu    sync.Mutex // guards forms; never held while marshalling
	forms []*form    // one or two, but for instances that were away
}

// form is one marshalled content.
type form struct {
	missing string // as keyOfMissing gives it

	once  sync.Once
	bytes []byte
	err   error
}

func newContents(s snapshot.Snapshot, marshals *atomic.Uint64) *contents {
	return &contents{hash: s.Token.Hash, lines: s.Lines(), resources: s.Resources, marshals: marshals}
}

// get is snapshot.Rendered.Content.
func (c *contents) get(missing []bool) ([]byte, error) {
	if len(missing) != len(c.resources) {
		return nil, errs.New(errs.Internal, "content: %d flags for %d resources", len(missing), len(c.resources))
	}
	f := c.form(keyOfMissing(missing))
	f.once.Do(func() { f.bytes, f.err = c.marshal(missing) })
	return f.bytes, f.err
}

func (c *contents) form(missing string) *form {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.forms {
		if f.missing == missing {
			return f
		}
	}
	f := &form{missing: missing, err: errs.New(errs.Internal, "the marshalling did not end")}
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

func (c *contents) marshal(missing []bool) ([]byte, error) {
	c.marshals.Add(1)
	out := &pushv1.Content{Manifest: make([]*pushv1.ManifestLine, len(c.lines))}
	for i, l := range c.lines {
		line := &pushv1.ManifestLine{Kind: l.Kind, Name: l.Name, Version: l.Version}
		if l.Kind != manifest.KindCredential {
			line.Sha256 = l.SHA256[:]
		}
		out.Manifest[i] = line
		if missing[i] && l.Kind != manifest.KindCredential {
			out.Resources = append(out.Resources, &pushv1.Resource{
				Kind: l.Kind, Name: l.Name, Version: l.Version, Json: c.resources[i].JSON,
			})
		}
	}
	b, err := proto.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("marshal content: %w", err)
	}
	return b, nil
}
