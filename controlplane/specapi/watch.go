package specapi

import (
	"context"
	"strings"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
)

// The types of a WatchResponse.
const (
	watchPresent  = "present"
	watchChanged  = "changed"
	watchDeleted  = "deleted"
	watchBookmark = "bookmark"
)

// Watch sends the present objects, then a bookmark, then every change of a head. It reads the store's own
// watch, so a slow reader holds up nobody and a revision resumes exactly (one of several changes: see WatchResponse.more); content
// comes from the view, which may already show a newer head: then the newer is sent, and sent again at its own change. What the caller
// may not see isn't sent; what it may not see any more is deleted for it.
func (s *Service) Watch(ctx context.Context, req *connect.Request[specv1.WatchRequest], stream *connect.ServerStream[specv1.WatchResponse]) error {
	m := req.Msg
	if err := checkKind(m.GetKind()); err != nil {
		return err
	}
	namespace := scope(m.GetNamespace(), m.GetAllNamespaces())
	shown := watching{who: s.caller(ctx), sent: map[headKey]string{}}
	since := m.GetSinceRevision()
	if since == 0 {
		if err := s.writer.Current(ctx); err != nil {
			return err
		}
		since = s.view.Revision()
		if err := s.sendPresent(shown, namespace, since, m, stream); err != nil {
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
		changes, err := s.changes(shown, m, b.Events)
		if err != nil {
			return err
		}
		for i, resp := range changes {
			resp.More = i+1 < len(changes) && changes[i+1].GetStoreRevision() == resp.GetStoreRevision()
			if err := stream.Send(resp); err != nil {
				return err
			}
		}
		return nil
	})
}

// changes gives what a caller is told of events.
func (s *Service) changes(shown watching, m *specv1.WatchRequest, events []store.Event) ([]*specv1.WatchResponse, error) {
	var out []*specv1.WatchResponse
	for _, e := range events {
		ns, name, ok := headName(m.GetKind(), e.Key)
		if !ok || (m.GetName() != "" && !strings.EqualFold(name, m.GetName())) {
			continue
		}
		o, err := s.nowOf(m.GetKind(), ns, name)
		if errs.Is(err, errs.NotFound) { // a delete leaves a tombstone, a restore doesn't
			o, err = &specv1.Object{Kind: m.GetKind(), Namespace: ns, Name: name, Deleted: true}, nil
		}
		if err != nil {
			return nil, err
		}
		if resp := shown.change(o); resp != nil {
			resp.StoreRevision = e.ModRevision
			out = append(out, resp)
		}
	}
	return out, nil
}

// headKey is an object of the kind that is watched.
type headKey struct{ namespace, name string }

// watching is what one caller of Watch was sent: names as they are written, by their names in lower case.
type watching struct {
	who  caller
	sent map[headKey]string
}

func (w watching) key(o *specv1.Object) headKey {
	return headKey{o.GetNamespace(), strings.ToLower(o.GetName())}
}

// change gives what to send of an object as it is now; nil: nothing.
func (w watching) change(o *specv1.Object) *specv1.WatchResponse {
	k := w.key(o)
	name, was := w.sent[k]
	if !was {
		name = o.GetName()
	}
	sees := w.who.sees(o.GetKind(), k.namespace, name)
	switch {
	case !sees && !was:
		return nil
	case !sees:
		delete(w.sent, k)
		gone := &specv1.Object{Kind: o.GetKind(), Namespace: k.namespace, Name: name, Deleted: true}
		return &specv1.WatchResponse{Type: watchDeleted, Object: gone}
	case o.GetDeleted():
		delete(w.sent, k)
		o.Name = name // a head that is gone can't tell how it was written
		return &specv1.WatchResponse{Type: watchDeleted, Object: o}
	}
	w.sent[k] = o.GetName()
	return &specv1.WatchResponse{Type: watchChanged, Object: o}
}

func (s *Service) sendPresent(shown watching, namespace string, since int64, m *specv1.WatchRequest, stream *connect.ServerStream[specv1.WatchResponse]) error {
	err := s.each(shown.who, m.GetKind(), view.Page{Namespace: namespace}, nil, func(o *specv1.Object) (bool, error) {
		if m.GetName() != "" && !strings.EqualFold(o.GetName(), m.GetName()) {
			return true, nil
		}
		shown.sent[shown.key(o)] = o.GetName()
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
