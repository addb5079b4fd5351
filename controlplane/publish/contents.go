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
	lines     []manifest.Line
	resources []snapshot.Resource
	marshals  *atomic.Uint64

	mu    sync.Mutex // guards forms; never held while marshalling
	forms map[string]*form
}

// form is one marshalled content; done is closed when it is there.
type form struct {
	done  chan struct{}
	bytes []byte
	err   error
}

func newContents(resources []snapshot.Resource, marshals *atomic.Uint64) *contents {
	c := &contents{resources: resources, marshals: marshals, forms: map[string]*form{}}
	c.lines = make([]manifest.Line, len(resources))
	for i, r := range resources {
		c.lines[i] = r.Line
	}
	return c
}

// get is snapshot.Rendered.Content.
func (c *contents) get(missing []bool) ([]byte, error) {
	if len(missing) != len(c.resources) {
		return nil, errs.New(errs.Internal, "content: %d flags for %d resources", len(missing), len(c.resources))
	}
	k := keyOfMissing(missing)
	c.mu.Lock()
	f, ok := c.forms[k]
	if !ok {
		f = &form{done: make(chan struct{}), err: errs.New(errs.Internal, "the marshalling did not end")}
		if len(c.forms) < maxContents {
			c.forms[k] = f
		}
	}
	c.mu.Unlock()
	if ok {
		<-f.done
		return f.bytes, f.err
	}
	defer close(f.done)
	f.bytes, f.err = c.marshal(missing)
	return f.bytes, f.err
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
