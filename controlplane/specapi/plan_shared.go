package specapi

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/specfile"
)

const firstVersion = "1.0.0"

// given reports whether a file names a field of an object itself: a field that isn't there is located at what is
// around it.
func given(o specfile.Object, field string) bool {
	at, root := o.Locate(field), o.Locate("")
	return at.Line != root.Line || at.Column != root.Column
}

// versioned is a shared head's list of versions with the content that a file brings for it.
type versioned struct {
	kind, name, version string
	explicit            bool // the file names the version
	versions            []view.VersionRef
	current             string
	// content gives the canonical bytes under a version.
	content func(version string) ([]byte, error)
}

// settle decides which version a file's content is: the one it names, the current one where nothing but an unnamed
// version differs, else the next. clash is true when the named version has other content.
func (p *plan) settle(v versioned) (version string, hash manifest.Hash, isNew, clash bool, err error) {
	version = v.version
	if !v.explicit {
		version = firstVersion
		if v.current != "" {
			version = v.current
		} else if n := len(v.versions); n > 0 {
			version = v.versions[n-1].Version
		}
	}
	b, err := v.content(version)
	if err != nil {
		return "", manifest.Hash{}, false, false, err
	}
	old, ok := findVersion(v.versions, version)
	switch {
	case ok && old.Hash == manifest.Sum(b):
		return version, old.Hash, false, false, nil
	case ok && v.explicit:
		return version, old.Hash, false, true, nil
	case ok:
		version = nextVersion(v.versions, version)
		if b, err = v.content(version); err != nil {
			return "", manifest.Hash{}, false, false, err
		}
	}
	return version, p.change.Keep(b), true, false, nil
}

// nextVersion gives the next patch version that isn't there yet; after a version that is no semantic one, an ordinal.
func nextVersion(versions []view.VersionRef, version string) string {
	for {
		if head, patch, ok := cutLast(version); ok && spec.ValidVersion(version) {
			version = head + "." + strconv.Itoa(patch+1)
		} else {
			version = strconv.Itoa(len(versions) + 1)
			versions = append(slices.Clone(versions), view.VersionRef{})
		}
		if _, taken := findVersion(versions, version); !taken {
			return version
		}
	}
}

func cutLast(version string) (head string, patch int, ok bool) {
	i := strings.LastIndexByte(version, '.')
	if i < 0 {
		return "", 0, false
	}
	patch, err := strconv.Atoi(version[i+1:])
	return version[:i], patch, err == nil
}

func (p *plan) newRef(versions []view.VersionRef, version string, hash manifest.Hash) view.VersionRef {
	return view.VersionRef{Version: version, Ordinal: int64(len(versions)) + 1, Hash: hash, Online: true, Time: p.now, Author: p.who}
}

// verb says what happened to a shared object.
func verb(existed, deleted bool) string {
	if !existed || deleted {
		return actionCreated
	}
	return actionUpdated
}

// prompt publishes a prompt's version: it is online at once, and latest moves to it (semantics.md 12).
func (p *plan) prompt(x *specfile.Prompt) error {
	name := x.Spec.PromptKey
	was, existed := p.promptHead(name)
	head := was.head
	v := versioned{
		kind: kindPrompt, name: name, version: x.Spec.Version, explicit: x.Spec.Version != "", versions: head.Versions, current: head.Labels[labelLatest],
		content: func(version string) ([]byte, error) {
			c := x.Spec
			c.Version = version
			return spec.Canonical(c)
		},
	}
	version, hash, isNew, clash, err := p.settle(v)
	if err != nil {
		p.fault(x.Object, "", err.Error(), "")
		return nil
	}
	if clash {
		p.fault(x.Object, "version", fmt.Sprintf("prompt %s %s exists with other content (a published version never changes)", name, version), "give the change a new version, such as "+nextVersion(head.Versions, version))
		return nil
	}
	old, _ := findVersion(head.Versions, version)
	latest := version
	if existed && !head.Deleted && p.followed(x) {
		latest = head.Labels[labelLatest]
	}
	if !isNew && existed && !head.Deleted && old.Online && head.Labels[labelLatest] == latest {
		p.result(kindPrompt, name, old.Ordinal, actionUnchanged, "")
		return nil
	}
	before := p.contentOf(head.Versions, head.Labels[labelLatest])
	action := verb(existed, head.Deleted)
	from := head.Labels[labelLatest]
	head.Name, head.Deleted, head.Updated, head.By = name, false, p.now, p.who
	head.Labels = maps.Clone(head.Labels)
	if head.Labels == nil {
		head.Labels = map[string]string{}
	}
	head.Labels[labelLatest] = latest
	head.Versions = slices.Clone(head.Versions)
	ref := p.newRef(head.Versions, version, hash)
	if isNew {
		head.Versions = append(head.Versions, ref)
	} else {
		for i := range head.Versions {
			if head.Versions[i].Version == version {
				head.Versions[i].Online = true
				ref = head.Versions[i]
			}
		}
	}
	move := view.HeadMove{Kind: kindPrompt, Name: name, From: from, To: latest}
	if isNew {
		move.Revision = ref.Ordinal
	}
	p.prompts[strings.ToLower(name)] = planned[view.PromptHead]{head: head, mod: was.mod}
	p.change.Replace(kindPrompt, name, was.mod, view.Encode(head), move)
	p.result(kindPrompt, name, ref.Ordinal, action, "")
	return p.diff(kindPrompt, name, before, p.contentOf(head.Versions, version))
}

// followed reports whether the set brings another version of the same prompt after x: then that one becomes latest.
func (p *plan) followed(x *specfile.Prompt) bool {
	i := slices.Index(p.set.Prompts, x)
	return slices.ContainsFunc(p.set.Prompts[i+1:], func(y *specfile.Prompt) bool { return y.Spec.PromptKey == x.Spec.PromptKey })
}

func (p *plan) contentOf(versions []view.VersionRef, version string) string {
	v, ok := findVersion(versions, version)
	if !ok {
		return ""
	}
	b, _ := p.blob(v.Hash)
	return string(b)
}

// mcpServer publishes an MCP entry's version, and writes what its file decides about tools to the head.
func (p *plan) mcpServer(x *specfile.MCPServer) error {
	name := x.Spec.Name
	was, existed := p.mcpHead(name)
	head := was.head
	v := versioned{
		kind: kindMCP, name: name, version: x.Spec.Version, explicit: given(x.Object, "version"), versions: head.Versions, current: head.Current,
		content: func(version string) ([]byte, error) {
			c := x.Spec
			c.Version = version
			return spec.Canonical(c)
		},
	}
	version, hash, isNew, clash, err := p.settle(v)
	if err != nil {
		p.fault(x.Object, "", err.Error(), "")
		return nil
	}
	if clash {
		p.fault(x.Object, "version", fmt.Sprintf("mcp %s %s exists with other content (a published version never changes)", name, version), "give the change a new version, such as "+nextVersion(head.Versions, version))
		return nil
	}
	decided := decide(head, x.Head)
	if !isNew && !decided.differs && existed && !head.Deleted && head.Current == version {
		old, _ := findVersion(head.Versions, version)
		p.result(kindMCP, name, old.Ordinal, actionUnchanged, "")
		return nil
	}
	before, err := p.shownMCP(head)
	if err != nil {
		return err
	}
	action, from := verb(existed, head.Deleted), head.Current
	head.Name, head.Deleted, head.Updated, head.By, head.Current = name, false, p.now, p.who, version
	head.Enabled, head.Tools = decided.enabled, decided.tools
	move := view.HeadMove{Kind: kindMCP, Name: name, From: from, To: version}
	if isNew {
		head.Versions = append(slices.Clone(head.Versions), p.newRef(head.Versions, version, hash))
		move.Revision = int64(len(head.Versions))
	}
	p.mcp[strings.ToLower(name)] = planned[view.MCPHead]{head: head, mod: was.mod}
	p.change.Replace(kindMCP, name, was.mod, view.Encode(head), move)
	ref, _ := findVersion(head.Versions, version)
	p.result(kindMCP, name, ref.Ordinal, action, "")
	after, err := p.shownMCP(head)
	if err != nil {
		return err
	}
	return p.diff(kindMCP, name, before, after)
}

// decisions are an entry's switches as a file leaves them.
type decisions struct {
	enabled *bool
	tools   map[string]spec.ToolSwitch
	differs bool
}

// decide merges what a file says about tools into a head: what it doesn't mention stays as it is.
func decide(head view.MCPHead, file spec.MCPHead) decisions {
	d := decisions{enabled: head.Enabled, tools: map[string]spec.ToolSwitch{}}
	maps.Copy(d.tools, head.Tools)
	if file.Enabled != nil && (head.Enabled == nil || *head.Enabled != *file.Enabled) {
		on := head.Enabled == nil || *head.Enabled
		d.differs = on != *file.Enabled
		if d.differs {
			d.enabled = file.Enabled
		}
	}
	for name, t := range file.Tools {
		now := d.tools[name]
		if t.Enabled != nil {
			now.Enabled = t.Enabled
		}
		if t.Description != "" {
			now.Description = t.Description
		}
		if t.Approved != nil {
			now.Approved = t.Approved
		}
		if !sameSwitch(now, d.tools[name]) {
			d.tools[name], d.differs = now, true
		}
	}
	if len(d.tools) == 0 {
		d.tools = nil
	}
	return d
}

func sameSwitch(a, b spec.ToolSwitch) bool {
	on := func(t spec.ToolSwitch) bool { return t.Enabled == nil || *t.Enabled }
	return on(a) == on(b) && a.Description == b.Description && slices.Equal(a.Approved, b.Approved)
}

// shownMCP gives an entry's current content together with its switches, as a diff shows it; "" for none.
func (p *plan) shownMCP(head view.MCPHead) (string, error) {
	content := p.contentOf(head.Versions, head.Current)
	if content == "" || head.Deleted {
		return "", nil
	}
	s, err := spec.DecodeMCPServer([]byte(content))
	if err != nil {
		return "", err
	}
	b, err := spec.Canonical(struct {
		*spec.MCPServer

		Enabled *bool                      `json:"enabled,omitempty"`
		Tools   map[string]spec.ToolSwitch `json:"tools,omitempty"`
	}{s, head.Enabled, head.Tools})
	return string(b), err
}
