package specapi

import (
	"context"
	"errors"
	"slices"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/headwrite"
	"github.com/agentry/agentry/controlplane/once"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/specfile"
)

// applyInput is what an Apply, a dry run or a Diff of files is made of.
type applyInput struct {
	namespace string
	files     []*specv1.File
	dryRun    bool
	readOnly  bool // only the diff is asked for, by who may not write
	check     *int64
	message   string
}

// Apply validates a whole set and writes all of it or nothing (semantics.md 12).
func (s *Service) Apply(ctx context.Context, req *connect.Request[specv1.ApplyRequest]) (*connect.Response[specv1.ApplyResponse], error) {
	m := req.Msg
	resp, err := s.apply(ctx, applyInput{
		namespace: namespaceOf(m.GetNamespace()), files: m.GetFiles(), dryRun: m.GetDryRun(), check: m.CheckRevision, message: m.GetMessage(),
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(resp), nil
}

func (s *Service) apply(ctx context.Context, in applyInput) (*specv1.ApplyResponse, error) {
	if !spec.ValidName(in.namespace) {
		return nil, errs.New(errs.Invalid, "namespace %q is no name", in.namespace)
	}
	var p *plan
	rev, err := s.writer.Retrying(ctx, headwrite.Why{Actor: actor(ctx), Cause: "apply", Message: in.message}, func() (*headwrite.Change, error) {
		var err error
		if p, err = s.planned(ctx, in); err != nil {
			return nil, err
		}
		if in.dryRun {
			return headwrite.NewChange(in.namespace), nil
		}
		p.tell(ctx, in.message)
		once.Answer(ctx, &specv1.ApplyResponse{Results: p.results, Notes: p.notes})
		return p.change, nil
	})
	if err != nil {
		return nil, err
	}
	resp := &specv1.ApplyResponse{Results: p.results, Notes: p.notes, StoreRevision: rev}
	if in.dryRun {
		resp.Diffs = p.diffs
		return resp, nil
	}
	for _, n := range p.notices {
		s.notify(n)
	}
	return resp, nil
}

// planned reads the files and plans what to write. It reads them anew each time: planning splits secrets out of what
// was read.
func (s *Service) planned(ctx context.Context, in applyInput) (*plan, error) {
	set, faults := specfile.Parse(filesOf(in.files))
	p := s.newPlan(in.namespace, s.caller(ctx), set)
	p.faults, p.readOnly = faults, in.readOnly
	if err := p.authorize(); err != nil {
		return nil, err
	}
	for _, n := range set.Notes {
		p.note("%s", n.String())
	}
	if err := p.build(); err != nil {
		return nil, err
	}
	if len(p.faults) > 0 {
		return nil, faultsError(p.faults)
	}
	if p.change.Heads() > headwrite.MaxHeads {
		return nil, errs.New(errs.Precondition, "the set changes %d objects, at most %d fit into one transaction: apply it in parts, shared things first", p.change.Heads(), headwrite.MaxHeads)
	}
	return p, s.checkSet(p, in.check)
}

// checkSet holds the set's only agent to the revision that the caller knows.
func (s *Service) checkSet(p *plan, want *int64) error {
	if want == nil {
		return nil
	}
	if len(p.set.Agents) != 1 {
		return errs.New(errs.Invalid, "check_revision needs a set with one agent; this one has %d", len(p.set.Agents))
	}
	name := p.set.Agents[0].Spec.AgentName
	head, _, ok := s.view.Agent(p.namespace, name)
	is := int64(0)
	if ok && !head.Deleted {
		is = head.State.Desired()
	}
	return checkRevision(want, name, is)
}

// Validate is Apply without the write. What the set refers to but doesn't bring need not be in the store.
func (s *Service) Validate(ctx context.Context, req *connect.Request[specv1.ValidateRequest]) (*connect.Response[specv1.ValidateResponse], error) {
	set, faults := specfile.Parse(filesOf(req.Msg.GetFiles()))
	p := s.newPlan(namespaceOf(req.Msg.GetNamespace()), s.caller(ctx), set)
	p.faults = faults
	for _, n := range set.Notes {
		p.note("%s", n.String())
	}
	for _, a := range set.Agents {
		p.unsupported(&a.Spec)
	}
	return connect.NewResponse(&specv1.ValidateResponse{Faults: wireFaults(p.faults), Notes: p.notes}), nil
}

func filesOf(files []*specv1.File) []specfile.File {
	out := make([]specfile.File, len(files))
	for i, f := range files {
		out[i] = specfile.File{Path: f.GetPath(), Content: f.GetContent()}
	}
	return out
}

func wireFaults(faults []spec.Fault) []*specv1.Fault {
	out := make([]*specv1.Fault, len(faults))
	for i, f := range faults {
		out[i] = &specv1.Fault{
			File: f.File, Line: int32(f.Line), Column: int32(f.Column), Path: f.Path, Message: f.Message, Hint: f.Hint, Snippet: f.Snippet, //nolint:gosec // a file is at most 256 KiB
		}
	}
	return out
}

// faultsError is the one error that is made as connect's here: it carries every fault as a detail.
func faultsError(faults []spec.Fault) error {
	text := spec.FaultsError(faults[:min(len(faults), 20)]).Error()
	out := connect.NewError(connect.CodeInvalidArgument, errors.New(text))
	d, err := connect.NewErrorDetail(&specv1.Faults{Faults: wireFaults(slices.Clip(faults))})
	if err != nil {
		return errs.New(errs.Internal, "describe faults: %w", err)
	}
	out.AddDetail(d)
	return out
}
