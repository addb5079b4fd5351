package specapi

import (
	"context"
	"strings"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
)

// The types of a WatchResponse.
const (
	watchPresent  = "present"
	watchChanged  = "changed"
	watchDeleted  = "deleted"
	watchBookmark = "bookmark"
)

// Watch sends the present objects, then a bookmark, then every change of a head. It reads the store's own
// watch, so a slow reader holds up nobody and a revision resumes exactly; content comes from the view, which may
// already show a newer head: then the newer is sent, and sent again at its own change.
func (s *Service) Watch(ctx context.Context, req *connect.Request[specv1.WatchRequest], stream *connect.ServerStream[specv1.WatchResponse]) error {
	m := req.Msg
	if err := checkKind(m.GetKind()); err != nil {
		return err
	}
	namespace := scope(m.GetNamespace(), m.GetAllNamespaces())
	since := m.GetSinceRevision()
	if since == 0 {
		if err := s.writer.Current(ctx); err != nil {
			return err
		}
		since = s.view.Revision()
		if err := s.sendPresent(namespace, since, m, stream); err != nil {
			return err
		}
	}
	if err := stream.Send(nil); err != nil { // the headers: the caller knows that it is being served
		return err
	}
	return s.store.Watch(ctx, view.HeadPrefix(m.GetKind(), namespace), since, func(b store.Batch) error {
		if err := s.view.WaitFor(ctx, b.Revision); err != nil {
			return err
		}
		for _, e := range b.Events {
			ns, name, ok := headName(m.GetKind(), e.Key)
			if !ok || e.Deleted || (m.GetName() != "" && !strings.EqualFold(name, m.GetName())) {
				continue
			}
			o, err := s.nowOf(m.GetKind(), ns, name)
			if err != nil {
				return err
			}
			resp := &specv1.WatchResponse{Type: watchChanged, Object: o, StoreRevision: e.ModRevision}
			if o.GetDeleted() {
				resp.Type = watchDeleted
			}
			if err := stream.Send(resp); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Service) sendPresent(namespace string, since int64, m *specv1.WatchRequest, stream *connect.ServerStream[specv1.WatchResponse]) error {
	err := s.each(m.GetKind(), view.Page{Namespace: namespace}, nil, func(o *specv1.Object) (bool, error) {
		if m.GetName() != "" && !strings.EqualFold(o.GetName(), m.GetName()) {
			return true, nil
		}
		return true, stream.Send(&specv1.WatchResponse{Type: watchPresent, Object: o, StoreRevision: since})
	})
	if err != nil {
		return err
	}
	return stream.Send(&specv1.WatchResponse{Type: watchBookmark, StoreRevision: since})
}

// headName reads namespace and name out of a head's key; the name is in lower case.
func headName(kind, key string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(key, view.HeadPrefix(kind, ""))
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "/")
}

// nowOf gives an object by its name without case.
func (s *Service) nowOf(kind, namespace, name string) (*specv1.Object, error) {
	switch kind {
	case kindAgent:
		if h, mod, ok := s.view.Agent(namespace, name); ok {
			return s.agentObject(namespace, h, mod, 0)
		}
	case kindPrompt:
		if h, mod, ok := s.view.Prompt(namespace, name); ok {
			return s.sharedObject(sharedPrompt(namespace, h, mod), "")
		}
	case kindMCP:
		if h, mod, ok := s.view.MCP(namespace, name); ok {
			return s.sharedObject(sharedMCP(namespace, h, mod), "")
		}
	case kindCredential:
		if h, mod, ok := s.view.Credential(namespace, name); ok {
			return credentialObject(namespace, h, mod), nil
		}
	}
	return nil, notFound(kind, namespace, name)
}
