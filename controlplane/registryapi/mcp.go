package registryapi

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/headwrite"
	"github.com/agentry/agentry/controlplane/once"
	"github.com/agentry/agentry/controlplane/view"
	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

const (
	serverPart = "server" // HeadMove.Part of a whole server's switch
	toolPart   = "tool "  // begins HeadMove.Part of one tool's
	maxTool    = 128      // bytes of a tool's own name
)

var digestRule = regexp.MustCompile(`^[0-9a-f]{64}$`)

// checkTool says whether a text can be a tool's own name. "*" stands for the whole server in deny lists.
func checkTool(name string) error {
	if name == "" || len(name) > maxTool || name == "*" || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) }) {
		return errs.New(errs.Invalid, "tool %q: a name of 1 to %d printable characters", name, maxTool)
	}
	return nil
}

func (s *Service) entry(namespace, name string) (view.MCPHead, int64, error) {
	h, mod, ok := s.cfg.View.MCP(namespace, name)
	if !ok || h.Deleted || h.Name != name {
		return view.MCPHead{}, 0, notFound(manifest.KindMCP, namespace, name)
	}
	return h, mod, nil
}

func (s *Service) putEntry(ctx context.Context, c *headwrite.Change, head view.MCPHead, mod int64, moves []view.HeadMove) {
	head.Updated, head.By = s.cfg.Now().UTC(), why(ctx, "", "").Actor
	c.Put(manifest.KindMCP, head.Name, mod, view.Encode(head))
	for _, m := range moves {
		m.Kind, m.Name = manifest.KindMCP, head.Name
		c.Move(m)
	}
}

// isOn reads a switch: nil is on.
func isOn(p *bool) bool { return p == nil || *p }

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// SetEnabled switches a server, or one tool of it.
func (s *Service) SetEnabled(ctx context.Context, req *connect.Request[registryv1.SetEnabledRequest]) (*connect.Response[registryv1.SetEnabledResponse], error) {
	m := req.Msg
	namespace, tool, on := namespaceOf(m.GetNamespace()), m.GetTool(), m.GetEnabled()
	if tool != "" {
		if err := checkTool(tool); err != nil {
			return nil, err
		}
	}
	cause := "disable"
	if on {
		cause = "enable"
	}
	tell(ctx, manifest.KindMCP, m.GetServer(), m.GetMessage())
	var resp *registryv1.SetEnabledResponse
	rev, err := s.writer.Retrying(ctx, why(ctx, cause, m.GetMessage()), func() (*headwrite.Change, error) {
		c := headwrite.NewChange(namespace)
		head, mod, err := s.entry(namespace, m.GetServer())
		if err != nil {
			return nil, err
		}
		if err := unmoved(m.CheckRevision, "mcp "+head.Name, mod); err != nil {
			return nil, err
		}
		resp = &registryv1.SetEnabledResponse{Agents: agents(s.seenBy(ctx, namespace, s.users(manifest.KindMCP, namespace, head.Name))), Notes: s.switchNotes(namespace, head, tool, on)}
		was := setSwitch(&head, tool, on)
		resp.Changed = was != on
		if !resp.GetChanged() || m.GetDryRun() {
			return c, nil
		}
		part := serverPart
		if tool != "" {
			part = toolPart + tool
		}
		once.Answer(ctx, resp)
		s.putEntry(ctx, c, head, mod, []view.HeadMove{{Part: part, From: onOff(was), To: onOff(on)}})
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	resp.StoreRevision = rev
	return connect.NewResponse(resp), nil
}

// setSwitch sets a switch of a head and gives what it was. On is written as nothing at all.
func setSwitch(head *view.MCPHead, tool string, on bool) (was bool) {
	value := &on
	if on {
		value = nil
	}
	if tool == "" {
		was = isOn(head.Enabled)
		head.Enabled = value
		return was
	}
	t := head.Tools[tool]
	was = isOn(t.Enabled)
	t.Enabled = value
	setTool(head, tool, t)
	return was
}

// setTool writes what is decided about a tool; nothing decided is nothing kept.
func setTool(head *view.MCPHead, tool string, t spec.ToolSwitch) {
	if t.Enabled == nil && t.Description == "" && len(t.Approved) == 0 {
		delete(head.Tools, tool)
		return
	}
	if head.Tools == nil {
		head.Tools = map[string]spec.ToolSwitch{}
	}
	head.Tools[tool] = t
}

// switchNotes says what a person should know about a switch.
func (s *Service) switchNotes(namespace string, head view.MCPHead, tool string, on bool) []string {
	if tool == "" {
		return nil
	}
	var out []string
	if on && !isOn(head.Enabled) {
		out = append(out, fmt.Sprintf("the whole server %s is switched off: its tools stay off until it is enabled", head.Name))
	}
	seen := s.seen(namespace, head)
	if len(seen.tools) > 0 && seen.tools[tool] == nil {
		out = append(out, fmt.Sprintf("nobody reports a tool %s of %s now", tool, head.Name))
	}
	return out
}

// ApproveTools pins definitions of tools.
func (s *Service) ApproveTools(ctx context.Context, req *connect.Request[registryv1.ApproveToolsRequest]) (*connect.Response[registryv1.ApproveToolsResponse], error) {
	m := req.Msg
	namespace := namespaceOf(m.GetNamespace())
	if err := checkApproval(m); err != nil {
		return nil, err
	}
	tell(ctx, manifest.KindMCP, m.GetServer(), m.GetMessage())
	var resp *registryv1.ApproveToolsResponse
	rev, err := s.writer.Retrying(ctx, why(ctx, "approve", m.GetMessage()), func() (*headwrite.Change, error) {
		c := headwrite.NewChange(namespace)
		head, mod, err := s.entry(namespace, m.GetServer())
		if err != nil {
			return nil, err
		}
		if err := unmoved(m.CheckRevision, "mcp "+head.Name, mod); err != nil {
			return nil, err
		}
		pins, err := s.pins(ctx, namespace, head, m.GetTools(), m.GetDigests())
		if err != nil {
			return nil, err
		}
		resp = &registryv1.ApproveToolsResponse{Agents: agents(s.seenBy(ctx, namespace, s.users(manifest.KindMCP, namespace, head.Name)))}
		var moves []view.HeadMove
		for _, name := range slices.Sorted(maps.Keys(pins)) {
			t := head.Tools[name]
			resp.Tools = append(resp.Tools, &registryv1.ApprovedTool{Name: name, Before: t.Approved, Digests: pins[name]})
			if slices.Equal(slices.Sorted(slices.Values(t.Approved)), pins[name]) {
				continue
			}
			moves = append(moves, view.HeadMove{Part: toolPart + name, From: short(t.Approved), To: short(pins[name])})
			t.Approved = pins[name]
			setTool(&head, name, t)
		}
		if len(moves) > 0 && !m.GetDryRun() {
			once.Answer(ctx, resp)
			s.putEntry(ctx, c, head, mod, moves)
		}
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	resp.StoreRevision = rev
	return connect.NewResponse(resp), nil
}

func checkApproval(m *registryv1.ApproveToolsRequest) error {
	for _, t := range m.GetTools() {
		if err := checkTool(t); err != nil {
			return err
		}
	}
	if len(m.GetDigests()) > 0 && len(m.GetTools()) != 1 {
		return errs.New(errs.Invalid, "digests are for exactly one tool")
	}
	for _, d := range m.GetDigests() {
		if !digestRule.MatchString(d) {
			return errs.New(errs.Invalid, "digest %q: 64 hex digits in lower case, as `agentctl mcp tools` shows them", d)
		}
	}
	return nil
}

// pins gives the digests to approve, sorted, by tool.
func (s *Service) pins(ctx context.Context, namespace string, head view.MCPHead, tools, digests []string) (map[string][]string, error) {
	if len(digests) > 0 {
		return map[string][]string{tools[0]: slices.Compact(slices.Sorted(slices.Values(digests)))}, nil
	}
	seen := s.seen(namespace, head)
	seen.hide(func(agent string) bool { return !s.sees(ctx, manifest.KindAgent, namespace, agent) })
	if len(tools) == 0 {
		if len(seen.tools) == 0 {
			return nil, errs.New(errs.NotFound, "nobody reports tools of %s: start an agent that uses it, or probe it (agentctl mcp probe %s)", head.Name, head.Name)
		}
		tools = slices.Collect(maps.Keys(seen.tools))
	}
	out := map[string][]string{}
	for _, name := range slices.Sorted(slices.Values(tools)) {
		t := seen.tools[name]
		switch {
		case t == nil || len(t.by) == 0:
			return nil, errs.New(errs.NotFound, "nobody reports a tool %s of %s (agentctl mcp tools %s shows what is reported)", name, head.Name, head.Name)
		case len(t.by) > 1:
			return nil, errs.New(errs.Precondition, "tool %s of %s is reported with %d definitions (%s): name the ones to approve by their digests", name, head.Name, len(t.by), t.describe())
		}
		out[name] = slices.Collect(maps.Keys(t.by))
	}
	return out, nil
}

// short names digests for the log.
func short(digests []string) string {
	var out []string
	for _, d := range digests {
		out = append(out, d[:min(len(d), 8)])
	}
	return strings.Join(out, ",")
}
