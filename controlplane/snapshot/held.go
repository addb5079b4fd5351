package snapshot

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"slices"
	"strconv"
	"sync"

	"github.com/agentry/agentry/internal/manifest"
)

// resolution is one spec being resolved. A shared reference resolves by the first that exists: pin, explicit version, label (or
// the head's current version); then a veto of the result counts, unless it came of a pin (semantics.md 1).
type resolution struct {
	Heads

	im        Immutables
	resources []Resource
	vetoed    []string
	pinned    []string
	hash      manifest.Hash // of the resources' lines, once they are sorted
}

func (o *resolution) add(r Resource) { o.resources = append(o.resources, r) }

// seen reports whether a reference to a head was resolved before: each leaves its resource.
func (o *resolution) seen(kind, name string) bool {
	for i := range o.resources {
		if l := &o.resources[i].Line; l.Kind == kind && l.Name == name {
			return true
		}
	}
	return false
}

// sorting is the memory that sorting one config's resources takes. It is used again: a shared head's move resolves thousands of agents.
type sorting struct {
	texts     []byte // of all lines, each with LF
	order     []sorted
	resources []Resource
	sum       hash.Hash
}

// sorted is one line's place.
type sorted struct {
	from, to int // in texts, with LF
	at       int // among the resources
}

var sortings sync.Pool //nolint:gochecknoglobals // of *sorting: memory that counts for nothing

// sort brings the resources into manifest order and hashes them, each line's text made once.
func (o *resolution) sort() {
	m, ok := sortings.Get().(*sorting)
	if !ok {
		m = &sorting{sum: sha256.New()}
	}
	defer sortings.Put(m)
	m.texts, m.order = m.texts[:0], m.order[:0]
	for i := range o.resources {
		from := len(m.texts)
		m.texts = append(o.resources[i].Line.AppendText(m.texts), '\n')
		m.order = append(m.order, sorted{from: from, to: len(m.texts), at: i})
	}
	slices.SortFunc(m.order, func(a, b sorted) int { return bytes.Compare(m.texts[a.from:a.to-1], m.texts[b.from:b.to-1]) })
	m.resources = append(m.resources[:0], o.resources...)
	m.sum.Reset()
	for i, s := range m.order {
		o.resources[i] = m.resources[s.at]
		m.sum.Write(m.texts[s.from:s.to])
	}
	m.sum.Sum(o.hash[:0])
	clear(m.resources)
}

// addBlob adds a resource whose bytes are immutable.
func (o *resolution) addBlob(l manifest.Line) error {
	b, ok := o.im.Blob(l.SHA256)
	if !ok {
		return &MissingError{Resource: l.Resource(), Version: l.Version}
	}
	o.add(Resource{Line: l, JSON: b})
	return nil
}

// pin gives the pinned line of a resource.
func (o *resolution) pin(kind, name string) (manifest.Line, bool) {
	if len(o.Pins) == 0 { // nearly always: no text for the key
		return manifest.Line{}, false
	}
	l, ok := o.Pins[kind+"/"+name]
	return l, ok
}

// pinnedBlob adds the pinned line of a resource, if there is one. It is resolved by content: what the head lists today
// doesn't matter.
func (o *resolution) pinnedBlob(kind, name string) (bool, error) {
	l, ok := o.pin(kind, name)
	if !ok {
		return false, nil
	}
	o.pinned = append(o.pinned, l.Resource())
	return true, o.addBlob(l)
}

// unvetoed gives the version that takes the place of a resolved one, which is that one itself where no veto counts. A veto whose Use
// isn't there any more (taken offline, or a value no longer kept) doesn't count.
func (o *resolution) unvetoed(kind, name, version string, there func(version string) bool) string {
	if len(o.Vetoes) == 0 {
		return version
	}
	v, ok := o.Vetoes[kind+"/"+name]
	if !ok || !slices.Contains(v.Refused, version) || slices.Contains(v.Refused, v.Use) || !there(v.Use) {
		return version
	}
	o.vetoed = append(o.vetoed, kind+"/"+name)
	return v.Use
}

func (o *resolution) prompt(r reference) error {
	if ok, err := o.pinnedBlob(r.kind, r.name); ok {
		return err
	}
	head, ok := o.Prompts[r.name]
	switch {
	case !ok:
		return r.dangling("doesn't exist")
	case head.Deleted:
		return r.dangling("is deleted")
	}
	version := r.version
	if version == "" {
		label := r.label
		if label == "" {
			label = "latest"
		}
		if version = head.Labels[label]; version == "" {
			return r.dangling("has no label %q", label)
		}
	}
	version = o.unvetoed(r.kind, r.name, version, has(head.Versions))
	hash, ok := head.Versions[version]
	if !ok {
		return r.dangling("has no version %q online", version)
	}
	return o.addBlob(manifest.Line{Kind: r.kind, Name: r.name, Version: version, SHA256: hash})
}

// mcp also adds what the head decides about the server's tools: its policy.
func (o *resolution) mcp(r reference) error {
	if ok, err := o.pinnedBlob(r.kind, r.name); ok {
		if err != nil {
			return err
		}
		// The pinned config is run as it was: its policy too, or none.
		_, err := o.pinnedBlob(manifest.KindPolicy, r.name)
		return err
	}
	head, ok := o.MCP[r.name]
	switch {
	case !ok:
		return r.dangling("doesn't exist")
	case head.Deleted:
		return r.dangling("is deleted")
	}
	version := r.version
	if version == "" {
		version = head.Current
	}
	version = o.unvetoed(r.kind, r.name, version, has(head.Versions))
	hash, ok := head.Versions[version]
	if !ok {
		return r.dangling("has no version %q", version)
	}
	if err := o.addBlob(manifest.Line{Kind: r.kind, Name: r.name, Version: version, SHA256: hash}); err != nil {
		return err
	}
	return o.policy(r.name, head.Policy)
}

func (o *resolution) policy(name string, now []byte) error {
	if len(now) == 0 {
		return nil
	}
	sum := manifest.Sum(now)
	line := manifest.Line{Kind: manifest.KindPolicy, Name: name, Version: "-", SHA256: sum}
	use := o.unvetoed(manifest.KindPolicy, name, sum.String(), func(use string) bool {
		var h manifest.Hash
		if h.UnmarshalText([]byte(use)) != nil {
			return false
		}
		_, ok := o.im.Blob(h)
		return ok
	})
	if use == sum.String() {
		o.add(Resource{Line: line, JSON: now})
		return nil
	}
	if err := line.SHA256.UnmarshalText([]byte(use)); err != nil {
		return err
	}
	return o.addBlob(line)
}

// credential resolves to a version whose value is kept: a pinned or used one that isn't any more doesn't count.
func (o *resolution) credential(r reference) error {
	head, ok := o.Credentials[r.name]
	switch {
	case !ok:
		return r.dangling("doesn't exist")
	case head.Deleted:
		return r.dangling("is deleted")
	}
	line := manifest.Line{Kind: manifest.KindCredential, Name: r.name, Version: strconv.FormatInt(head.Version, 10)}
	if pinned, ok := o.pin(r.kind, r.name); ok && head.keeps(pinned.Version) {
		o.pinned = append(o.pinned, pinned.Resource())
		line = pinned
	} else {
		line.Version = o.unvetoed(r.kind, r.name, line.Version, head.keeps)
	}
	o.add(Resource{Line: line})
	return nil
}

func (h CredentialHead) keeps(version string) bool {
	n, err := strconv.ParseInt(version, 10, 64)
	return err == nil && slices.Contains(h.Kept, n)
}

// has gives the test whether a version is there.
func has(versions map[string]manifest.Hash) func(version string) bool {
	return func(version string) bool {
		_, ok := versions[version]
		return ok
	}
}
