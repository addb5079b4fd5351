package specapi

import (
	"context"
	"encoding/base64"
	"strings"

	"connectrpc.com/connect"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
)

const (
	defaultPage = 500
	maxPage     = 2000
)

// Get answers one object; a deleted one is errs.NotFound unless a version is asked for.
func (s *Service) Get(_ context.Context, req *connect.Request[specv1.GetRequest]) (*connect.Response[specv1.GetResponse], error) {
	m := req.Msg
	namespace := namespaceOf(m.GetNamespace())
	o, err := s.object(namespace, m.GetKind(), m.GetName(), m.GetVersion())
	if err != nil {
		return nil, err
	}
	if o.GetDeleted() && m.GetVersion() == "" {
		return nil, errs.New(errs.NotFound, "%s %s is deleted", m.GetKind(), m.GetName())
	}
	return connect.NewResponse(&specv1.GetResponse{Object: o}), nil
}

// List answers the objects of one kind in name order.
func (s *Service) List(_ context.Context, req *connect.Request[specv1.ListRequest]) (*connect.Response[specv1.ListResponse], error) {
	m := req.Msg
	namespace := scope(m.GetNamespace(), m.GetAllNamespaces())
	if err := checkKind(m.GetKind()); err != nil {
		return nil, err
	}
	if len(m.GetSelector()) > 0 && m.GetKind() != kindAgent {
		return nil, errs.New(errs.Invalid, "a selector chooses agents only")
	}
	after, err := base64.RawURLEncoding.DecodeString(m.GetPageToken())
	if err != nil {
		return nil, errs.New(errs.Invalid, "page token: it isn't one of ours")
	}
	size := int(m.GetPageSize())
	if size <= 0 {
		size = defaultPage
	}
	size = min(size, maxPage)
	revision := s.view.Revision()
	all, err := s.objects(namespace, m.GetKind())
	if err != nil {
		return nil, err
	}
	resp := &specv1.ListResponse{StoreRevision: revision}
	for _, o := range all {
		if o.GetDeleted() || orderKey(o) <= string(after) || !selected(o, m.GetSelector()) {
			continue
		}
		if len(resp.Objects) == size {
			last := resp.Objects[size-1]
			resp.NextPageToken = base64.RawURLEncoding.EncodeToString([]byte(orderKey(last)))
			break
		}
		resp.Objects = append(resp.Objects, o)
	}
	return connect.NewResponse(resp), nil
}

// orderKey orders objects as the view lists them: by namespace, then name without case.
func orderKey(o *specv1.Object) string {
	return o.GetNamespace() + "\x00" + strings.ToLower(o.GetName())
}

func scope(namespace string, all bool) string {
	if all {
		return ""
	}
	return namespaceOf(namespace)
}

func selected(o *specv1.Object, selector []string) bool {
	for _, want := range selector {
		found := false
		for _, l := range o.GetLabels() {
			found = found || l == want
		}
		if !found {
			return false
		}
	}
	return true
}

// objects gives what counts now of every object of a kind, tombstones included.
func (s *Service) objects(namespace, kind string) ([]*specv1.Object, error) {
	var out []*specv1.Object
	add := func(o *specv1.Object, err error) error {
		if err != nil {
			return err
		}
		out = append(out, o)
		return nil
	}
	switch kind {
	case kindAgent:
		for _, e := range s.view.Agents(namespace) {
			if err := add(s.agentObject(e.Namespace, e.Head, e.ModRevision, 0)); err != nil {
				return nil, err
			}
		}
	case kindPrompt:
		for _, e := range s.view.Prompts(namespace) {
			if err := add(s.sharedObject(sharedPrompt(e.Namespace, e.Head, e.ModRevision), "")); err != nil {
				return nil, err
			}
		}
	case kindMCP:
		for _, e := range s.view.MCPs(namespace) {
			if err := add(s.sharedObject(sharedMCP(e.Namespace, e.Head, e.ModRevision), "")); err != nil {
				return nil, err
			}
		}
	case kindCredential:
		for _, e := range s.view.Credentials(namespace) {
			out = append(out, credentialObject(e.Namespace, e.Head, e.ModRevision))
		}
	}
	return out, nil
}

// Diff compares two versions of one object, or a set of files with what is stored.
func (s *Service) Diff(ctx context.Context, req *connect.Request[specv1.DiffRequest]) (*connect.Response[specv1.DiffResponse], error) {
	m := req.Msg
	namespace := namespaceOf(m.GetNamespace())
	if len(m.GetFiles()) > 0 {
		resp, err := s.apply(ctx, applyInput{namespace: namespace, files: m.GetFiles(), dryRun: true})
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(&specv1.DiffResponse{Diffs: resp.GetDiffs()}), nil
	}
	a, err := s.object(namespace, m.GetKind(), m.GetName(), m.GetVersionA())
	if err != nil {
		return nil, err
	}
	b, err := s.object(namespace, m.GetKind(), m.GetName(), m.GetVersionB())
	if err != nil {
		return nil, err
	}
	d, err := objectDiff(m.GetKind(), m.GetName(), a.GetJson(), b.GetJson())
	if err != nil {
		return nil, err
	}
	resp := &specv1.DiffResponse{}
	if d != nil {
		resp.Diffs = append(resp.Diffs, d)
	}
	return connect.NewResponse(resp), nil
}
