package specapi

import (
	"context"
	"encoding/base64"
	"strings"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/view"
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

// List answers the objects of one kind that the caller may see, in name order.
func (s *Service) List(ctx context.Context, req *connect.Request[specv1.ListRequest]) (*connect.Response[specv1.ListResponse], error) {
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
	from := view.Page{Namespace: namespace, Limit: size + 1}
	from.AfterNamespace, from.AfterName, _ = strings.Cut(string(after), "\x00")
	resp := &specv1.ListResponse{StoreRevision: s.view.Revision()}
	err = s.each(s.caller(ctx), m.GetKind(), from, m.GetSelector(), func(o *specv1.Object) (bool, error) {
		if len(resp.Objects) < size {
			resp.Objects = append(resp.Objects, o)
			return true, nil
		}
		resp.NextPageToken = base64.RawURLEncoding.EncodeToString([]byte(orderKey(resp.GetObjects()[size-1])))
		return false, nil
	})
	if err != nil {
		return nil, err
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

// Diff compares two versions of one object, or a set of files with what is stored.
func (s *Service) Diff(ctx context.Context, req *connect.Request[specv1.DiffRequest]) (*connect.Response[specv1.DiffResponse], error) {
	m := req.Msg
	namespace := namespaceOf(m.GetNamespace())
	if len(m.GetFiles()) > 0 {
		resp, err := s.apply(ctx, applyInput{namespace: namespace, files: m.GetFiles(), dryRun: true, readOnly: true})
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(&specv1.DiffResponse{Diffs: resp.GetDiffs()}), nil
	}
	if err := checkKind(m.GetKind()); err != nil {
		return nil, err
	}
	if err := access.Check(ctx, permRead, s.objectOf(m.GetKind(), namespace, m.GetName())); err != nil {
		return nil, err
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
