package registryapi

import (
	"context"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/view"
	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	"github.com/agentry/agentry/internal/manifest"
)

// How a tool stands to what was approved.
const (
	stateApproved = "approved"
	stateUnpinned = "unpinned"
	stateChanged  = "changed"
	stateUnseen   = "unseen"
)

// byProbe stands beside instances where it is told who reports a definition.
const byProbe = "probe"

// seenTool is one tool as it is reported now.
type seenTool struct {
	description string
	by          map[string][]string // digest -> who reports it
}

func (t *seenTool) describe() string {
	var out []string
	for _, d := range slices.Sorted(maps.Keys(t.by)) {
		who := strings.Join(t.by[d], ", ")
		if who == "" {
			who = "others"
		}
		out = append(out, short([]string{d})+" by "+who)
	}
	return strings.Join(out, "; ")
}

// seen is what is reported of one server.
type seen struct {
	tools map[string]*seenTool
	users []*registryv1.McpUser
	probe *probed // of the current version; nil: none
}

func (s *seen) add(name, description, digest, by string) {
	t := s.tools[name]
	if t == nil {
		t = &seenTool{description: description, by: map[string][]string{}}
		s.tools[name] = t
	}
	if digest != "" {
		t.by[digest] = append(t.by[digest], by)
	}
}

// seen collects what the instances of the agents that use a server report, and the last probe.
func (s *Service) seen(namespace string, head view.MCPHead) seen {
	out := seen{tools: map[string]*seenTool{}}
	for _, k := range s.cfg.View.Dependents(manifest.KindMCP, namespace, head.Name) {
		for _, r := range s.cfg.Fleet.ServerReports(namespace, k.Name, head.Name) {
			who := k.Name + "/" + r.Instance
			u := &registryv1.McpUser{Instance: who, Healthy: r.Healthy}
			if !r.Healthy {
				u.Message = r.Message
			}
			out.users = append(out.users, u)
			for _, t := range r.Tools {
				out.add(t.Name, t.Description, t.Digest, who)
			}
		}
	}
	if p, ok := s.lastProbe(namespace, head); ok {
		out.probe = &p
		for _, t := range p.result.Tools {
			out.add(t.Name, t.Description, t.Digest, byProbe)
		}
	}
	for _, t := range out.tools {
		for _, who := range t.by {
			slices.Sort(who)
		}
	}
	slices.SortFunc(out.users, func(a, b *registryv1.McpUser) int { return strings.Compare(a.GetInstance(), b.GetInstance()) })
	return out
}

// hide takes out the names of agents that the caller may not see. What they report still counts.
func (s *seen) hide(agent func(name string) bool) {
	hidden := func(who string) bool {
		name, _, isInstance := strings.Cut(who, "/")
		return isInstance && agent(name)
	}
	s.users = slices.DeleteFunc(s.users, func(u *registryv1.McpUser) bool { return hidden(u.GetInstance()) })
	for _, t := range s.tools {
		for d, who := range t.by {
			t.by[d] = slices.DeleteFunc(who, hidden)
		}
	}
}

// ListTools answers every tool that was seen or decided about.
func (s *Service) ListTools(ctx context.Context, req *connect.Request[registryv1.ListToolsRequest]) (*connect.Response[registryv1.ListToolsResponse], error) {
	namespace := namespaceOf(req.Msg.GetNamespace())
	head, mod, err := s.entry(namespace, req.Msg.GetServer())
	if err != nil {
		return nil, err
	}
	found := s.seen(namespace, head)
	found.hide(func(agent string) bool { return !s.sees(ctx, manifest.KindAgent, namespace, agent) })
	resp := &registryv1.ListToolsResponse{Enabled: isOn(head.Enabled), Users: found.users, StoreRevision: mod}
	if found.probe != nil {
		resp.Probe = found.probe.wire()
	}
	for name := range head.Tools {
		if found.tools[name] == nil {
			found.tools[name] = &seenTool{}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found.tools)) {
		resp.Tools = append(resp.Tools, wireTool(head, name, found.tools[name]))
	}
	return connect.NewResponse(resp), nil
}

func wireTool(head view.MCPHead, name string, t *seenTool) *registryv1.McpTool {
	decided := head.Tools[name]
	out := &registryv1.McpTool{
		Name: name, Description: t.description, Enabled: isOn(head.Enabled) && isOn(decided.Enabled), Approved: decided.Approved,
		State: toolState(decided.Approved, t),
	}
	if decided.Description != "" {
		out.Description = decided.Description
	}
	for _, d := range slices.Sorted(maps.Keys(t.by)) {
		out.Definitions = append(out.Definitions, &registryv1.McpDefinition{Digest: d, SeenBy: t.by[d]})
	}
	return out
}

// toolState says how what is reported stands to what was approved. One definition that isn't approved makes it changed.
func toolState(approved []string, t *seenTool) string {
	switch {
	case len(t.by) == 0:
		return stateUnseen
	case len(approved) == 0:
		return stateUnpinned
	}
	for d := range t.by {
		if !slices.Contains(approved, d) {
			return stateChanged
		}
	}
	return stateApproved
}
