package registryapi

import (
	"context"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/headwrite"
	"github.com/agentry/agentry/controlplane/once"
	"github.com/agentry/agentry/controlplane/view"
	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

const (
	labelLatest = "latest"
	labelPart   = "label " // begins HeadMove.Part
)

// checkLabel says whether people may move a label of this name.
func checkLabel(label string) error {
	switch {
	case label == labelLatest:
		return errs.New(errs.Precondition, "the label latest is the server's: it is the version most recently put online; publish one to move it, or give agents a label of your own")
	case !spec.ValidName(label):
		return errs.New(errs.Invalid, "label %q is no name (1 to 64 of letters, digits and inner - _ .)", label)
	case spec.ValidVersion(label):
		return errs.New(errs.Invalid, "label %q looks like a version", label)
	}
	return nil
}

func (s *Service) prompt(namespace, key string) (view.PromptHead, int64, error) {
	h, mod, ok := s.cfg.View.Prompt(namespace, key)
	if !ok || h.Deleted || h.Name != key {
		return view.PromptHead{}, 0, notFound(manifest.KindPrompt, namespace, key)
	}
	return h, mod, nil
}

// labelUsers gives the revisions in play that refer to a prompt by a label.
func (s *Service) labelUsers(namespace, prompt, label string) []inPlay {
	return slices.DeleteFunc(s.users(manifest.KindPrompt, namespace, prompt), func(p inPlay) bool {
		return !slices.ContainsFunc(p.spec.References(), func(r spec.Reference) bool {
			return r.Kind == manifest.KindPrompt && r.Name == prompt && r.Version == "" && r.Label == label
		})
	})
}

// SetLabel points a label at a version.
func (s *Service) SetLabel(ctx context.Context, req *connect.Request[registryv1.SetLabelRequest]) (*connect.Response[registryv1.SetLabelResponse], error) {
	m := req.Msg
	namespace, label := namespaceOf(m.GetNamespace()), m.GetLabel()
	if err := checkLabel(label); err != nil {
		return nil, err
	}
	tell(ctx, manifest.KindPrompt, m.GetPrompt(), m.GetMessage())
	var resp *registryv1.SetLabelResponse
	rev, err := s.writer.Retrying(ctx, why(ctx, "label", m.GetMessage()), func() (*headwrite.Change, error) {
		c := headwrite.NewChange(namespace)
		head, mod, err := s.prompt(namespace, m.GetPrompt())
		if err != nil {
			return nil, err
		}
		if err := unmoved(m.CheckRevision, "prompt "+head.Name, mod); err != nil {
			return nil, err
		}
		i := slices.IndexFunc(head.Versions, func(v view.VersionRef) bool { return v.Version == m.GetVersion() })
		if i < 0 {
			return nil, errs.New(errs.NotFound, "prompt %s has no version %q", head.Name, m.GetVersion())
		}
		if !head.Versions[i].Online {
			return nil, errs.New(errs.Precondition, "prompt %s version %s is not online", head.Name, m.GetVersion())
		}
		from := head.Labels[label]
		resp = &registryv1.SetLabelResponse{From: from, To: m.GetVersion(), Agents: agents(s.seenBy(ctx, namespace, s.labelUsers(namespace, head.Name, label)))}
		if from == m.GetVersion() || m.GetDryRun() {
			return c, nil
		}
		if head.Labels == nil {
			head.Labels = map[string]string{}
		}
		head.Labels[label] = m.GetVersion()
		once.Answer(ctx, resp)
		s.putPrompt(ctx, c, head, mod, view.HeadMove{Part: labelPart + label, From: from, To: m.GetVersion()})
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	resp.StoreRevision = rev
	return connect.NewResponse(resp), nil
}

// UnsetLabel removes a label.
func (s *Service) UnsetLabel(ctx context.Context, req *connect.Request[registryv1.UnsetLabelRequest]) (*connect.Response[registryv1.UnsetLabelResponse], error) {
	m := req.Msg
	namespace, label := namespaceOf(m.GetNamespace()), m.GetLabel()
	if err := checkLabel(label); err != nil {
		return nil, err
	}
	tell(ctx, manifest.KindPrompt, m.GetPrompt(), m.GetMessage())
	var resp *registryv1.UnsetLabelResponse
	rev, err := s.writer.Retrying(ctx, why(ctx, "label", m.GetMessage()), func() (*headwrite.Change, error) {
		c := headwrite.NewChange(namespace)
		head, mod, err := s.prompt(namespace, m.GetPrompt())
		if err != nil {
			return nil, err
		}
		if err := unmoved(m.CheckRevision, "prompt "+head.Name, mod); err != nil {
			return nil, err
		}
		from, ok := head.Labels[label]
		if !ok {
			return nil, errs.New(errs.NotFound, "prompt %s has no label %s", head.Name, label)
		}
		users := s.labelUsers(namespace, head.Name, label)
		used := len(users) > 0
		resp = &registryv1.UnsetLabelResponse{From: from, Agents: agents(s.seenBy(ctx, namespace, users))}
		if used && !m.GetForce() {
			who := strings.Join(resp.GetAgents(), ", ")
			if who == "" {
				who = "that isn't yours"
			}
			return nil, errs.New(errs.Precondition, "label %s of prompt %s is referred to by agent %s; force removes it all the same", label, head.Name, who)
		}
		if m.GetDryRun() {
			return c, nil
		}
		once.Answer(ctx, resp)
		delete(head.Labels, label)
		s.putPrompt(ctx, c, head, mod, view.HeadMove{Part: labelPart + label, From: from})
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	resp.StoreRevision = rev
	return connect.NewResponse(resp), nil
}

func (s *Service) putPrompt(ctx context.Context, c *headwrite.Change, head view.PromptHead, mod int64, move view.HeadMove) {
	head.Updated, head.By = s.cfg.Now().UTC(), why(ctx, "", "").Actor
	move.Kind, move.Name = manifest.KindPrompt, head.Name
	c.Replace(manifest.KindPrompt, head.Name, mod, view.Encode(head), move)
}

// LabelHistory answers where a prompt's labels pointed, newest first. Publishing and deleting move latest.
func (s *Service) LabelHistory(_ context.Context, req *connect.Request[registryv1.LabelHistoryRequest]) (*connect.Response[registryv1.LabelHistoryResponse], error) {
	m := req.Msg
	namespace := namespaceOf(m.GetNamespace())
	if h, _, ok := s.cfg.View.Prompt(namespace, m.GetPrompt()); !ok || h.Name != m.GetPrompt() {
		return nil, notFound(manifest.KindPrompt, namespace, m.GetPrompt())
	}
	resp := &registryv1.LabelHistoryResponse{}
	for _, move := range s.cfg.View.Moves(namespace, manifest.KindPrompt, m.GetPrompt()) {
		for _, h := range slices.Backward(move.Heads) {
			if h.Kind != manifest.KindPrompt || !strings.EqualFold(h.Name, m.GetPrompt()) {
				continue
			}
			label, named := strings.CutPrefix(h.Part, labelPart)
			if !named {
				label = labelLatest
			}
			if (m.GetLabel() != "" && m.GetLabel() != label) || h.From == h.To {
				continue
			}
			resp.Moves = append(resp.Moves, &registryv1.LabelMove{
				Seq: move.Seq, Label: label, From: h.From, To: h.To, Actor: move.Actor, Message: move.Message, Time: timestamppb.New(move.Time),
			})
		}
	}
	return connect.NewResponse(resp), nil
}
