package specapi

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/headwrite"
	"github.com/agentry/agentry/controlplane/once"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
)

// Delete puts a tombstone. Numbers and versions go on from it when the object is made again.
func (s *Service) Delete(ctx context.Context, req *connect.Request[specv1.DeleteRequest]) (*connect.Response[specv1.DeleteResponse], error) {
	m := req.Msg
	namespace := namespaceOf(m.GetNamespace())
	if err := checkKind(m.GetKind()); err != nil {
		return nil, err
	}
	if m.CheckRevision != nil && m.GetKind() != kindAgent {
		return nil, errs.New(errs.Invalid, "check_revision is for agents only")
	}
	who := s.caller(ctx)
	if m.GetKind() == kindCredential { // an editor may delete specs, not other people's secrets
		if err := who.hold(permPut, s.objectOf(kindCredential, namespace, m.GetName())); err != nil {
			return nil, err
		}
	}
	audit.From(ctx).Because(m.GetMessage())
	resp := &specv1.DeleteResponse{}
	rev, err := s.writer.Retrying(ctx, headwrite.Why{Actor: actor(ctx), Cause: "delete", Message: m.GetMessage()}, func() (*headwrite.Change, error) {
		resp.Notes = nil
		c := headwrite.NewChange(namespace)
		if err := s.tombstone(c, m, actor(ctx)); err != nil {
			return nil, err
		}
		if users := s.usersOf(who, namespace, m.GetKind(), m.GetName()); len(users) > 0 {
			text := fmt.Sprintf("%s %s is referred to by %s", m.GetKind(), m.GetName(), strings.Join(users, ", "))
			if !m.GetForce() {
				return nil, errs.New(errs.Precondition, "%s; --force deletes it all the same", text)
			}
			resp.Notes = append(resp.Notes, text+": their instances keep what they run")
		}
		if m.GetDryRun() {
			return headwrite.NewChange(namespace), nil
		}
		once.Answer(ctx, resp)
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	resp.StoreRevision = rev
	if rev > 0 && m.GetKind() == kindAgent {
		s.notify(Notice{Namespace: namespace, Agent: m.GetName(), Type: "deleted", Message: actor(ctx) + " deleted it"})
	}
	return connect.NewResponse(resp), nil
}

// usersOf names the agents whose specs in play refer to an object; an agent that names itself doesn't count. Those that the caller may
// not see are counted.
func (s *Service) usersOf(who caller, namespace, kind, name string) []string {
	var out []string
	hidden := 0
	for _, a := range s.view.Dependents(kind, namespace, name) {
		switch {
		case kind == kindAgent && strings.EqualFold(a.Name, name):
		case who.sees(kindAgent, namespace, a.Name):
			out = append(out, "agent/"+a.Name)
		default:
			hidden++
		}
	}
	if hidden > 0 {
		out = append(out, fmt.Sprintf("%d that you may not see", hidden))
	}
	return out
}

func (s *Service) tombstone(c *headwrite.Change, m *specv1.DeleteRequest, who string) error {
	namespace, kind, name, now := c.Namespace(), m.GetKind(), m.GetName(), s.now().UTC()
	switch kind {
	case kindAgent:
		head, mod, err := s.agentHead(namespace, name)
		if err != nil {
			return err
		}
		if err := checkRevision(m.CheckRevision, name, head.State.Desired()); err != nil {
			return err
		}
		st := step(head, release.Delete{At: now})
		if err := st.err(); err != nil {
			return err
		}
		head.Deleted = true
		s.moveAgent(c, head, mod, st, who)
	case kindPrompt:
		h, mod, ok := s.view.Prompt(namespace, name)
		if !ok || h.Deleted || h.Name != name {
			return notFound(kind, namespace, name)
		}
		from := h.Labels[labelLatest]
		h.Deleted, h.Labels, h.Updated, h.By = true, map[string]string{}, now, who
		for i := range h.Versions {
			h.Versions[i].Online = false
		}
		c.Replace(kind, name, mod, view.Encode(h), view.HeadMove{Kind: kind, Name: name, From: from})
	case kindMCP:
		h, mod, ok := s.view.MCP(namespace, name)
		if !ok || h.Deleted || h.Name != name {
			return notFound(kind, namespace, name)
		}
		h.Deleted, h.Updated, h.By = true, now, who
		h.Enabled, h.Tools = nil, nil
		c.Replace(kind, name, mod, view.Encode(h), view.HeadMove{Kind: kind, Name: name, From: h.Current})
	case kindCredential:
		h, mod, ok := s.view.Credential(namespace, name)
		if !ok || h.Deleted || h.Name != name {
			return notFound(kind, namespace, name)
		}
		h.Deleted, h.Updated, h.By = true, now, who
		h.Sealed, h.Fingerprint, h.Rotated = nil, "", false
		c.Replace(kind, name, mod, view.Encode(h), view.HeadMove{Kind: kind, Name: name, From: number(h.Version)})
	}
	return nil
}
