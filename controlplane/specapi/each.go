package specapi

import (
	"context"
	"slices"
	"time"

	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

const (
	// eachPage is how many heads are read from the view at once where the caller names no number.
	eachPage = 500
	// contentWait bounds reading one old version from the store.
	contentWait = 5 * time.Second
)

// each gives what counts now of every object of a kind that isn't deleted and has the labels of selector (agents), in name
// order, until f answers false; what the caller may not see is left out. It costs what it gives: the view is read a page (from.Limit)
// at a time.
func (s *Service) each(who caller, kind string, from view.Page, selector []string, f func(*specv1.Object) (more bool, err error)) error {
	if from.Limit == 0 {
		from.Limit = eachPage
	}
	give := func(o *specv1.Object, err error) (bool, error) {
		if err != nil {
			return false, err
		}
		return f(o)
	}
	switch kind {
	case kindAgent:
		return eachHead(s.view.AgentPage, from, func(e view.Entry[view.AgentHead]) (string, bool, error) {
			if e.Head.Deleted || !s.selected(e, selector) || !who.sees(kindAgent, e.Namespace, e.Head.Name) {
				return e.Head.Name, true, nil
			}
			more, err := give(s.agentObject(e.Namespace, e.Head, e.ModRevision, 0))
			return e.Head.Name, more, err
		})
	case kindPrompt:
		return eachHead(s.view.PromptPage, from, func(e view.Entry[view.PromptHead]) (string, bool, error) {
			if e.Head.Deleted || !who.sees(kindPrompt, e.Namespace, e.Head.Name) {
				return e.Head.Name, true, nil
			}
			more, err := give(s.sharedObject(sharedPrompt(e.Namespace, e.Head, e.ModRevision), ""))
			return e.Head.Name, more, err
		})
	case kindMCP:
		return eachHead(s.view.MCPPage, from, func(e view.Entry[view.MCPHead]) (string, bool, error) {
			if e.Head.Deleted || !who.sees(kindMCP, e.Namespace, e.Head.Name) {
				return e.Head.Name, true, nil
			}
			more, err := give(s.sharedObject(sharedMCP(e.Namespace, e.Head, e.ModRevision), ""))
			return e.Head.Name, more, err
		})
	default:
		return eachHead(s.view.CredentialPage, from, func(e view.Entry[view.CredentialHead]) (string, bool, error) {
			if e.Head.Deleted || !who.sees(kindCredential, e.Namespace, e.Head.Name) {
				return e.Head.Name, true, nil
			}
			more, err := give(credentialObject(e.Namespace, e.Head, e.ModRevision), nil)
			return e.Head.Name, more, err
		})
	}
}

// eachHead pages through the heads of a kind until f, which gives a head's name too, has enough.
func eachHead[H any](read func(view.Page) []view.Entry[H], page view.Page, f func(view.Entry[H]) (name string, more bool, err error)) error {
	for {
		entries := read(page)
		for _, e := range entries {
			name, more, err := f(e)
			if err != nil || !more {
				return err
			}
			page.AfterNamespace, page.AfterName = e.Namespace, name
		}
		if len(entries) < page.Limit {
			return nil
		}
	}
}

// selected reports whether what counts of an agent has all labels of a selector.
func (s *Service) selected(e view.Entry[view.AgentHead], selector []string) bool {
	if len(selector) == 0 {
		return true
	}
	r, ok := e.Head.State.Find(e.Head.State.Desired())
	if !ok {
		return false
	}
	labels, err := s.labels(e.Namespace, e.Head.Name, r.Spec)
	return err == nil && !slices.ContainsFunc(selector, func(want string) bool { return !slices.Contains(labels, want) })
}

// labels gives an agent's labels in one of its specs as key=value, sorted. The view knows them for the specs in play.
func (s *Service) labels(namespace, agent string, sum manifest.Hash) ([]string, error) {
	if labels, ok := s.view.Labels(namespace, agent, sum); ok {
		return labels, nil
	}
	b, err := s.content(sum)
	if err != nil {
		return nil, err
	}
	a, err := spec.DecodeAgent(b)
	if err != nil {
		return nil, errs.New(errs.Internal, "content of agent %s: %w", agent, err)
	}
	var labels []string
	for k, v := range a.Labels {
		labels = append(labels, k+"="+v)
	}
	slices.Sort(labels)
	return labels, nil
}

// content gives immutable bytes, read from the store when no head names them now.
func (s *Service) content(h manifest.Hash) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), contentWait)
	defer cancel()
	b, err := s.view.ReadBlob(ctx, h)
	if errs.Is(err, errs.NotFound) {
		return nil, errs.New(errs.Internal, "its content is missing in the store")
	}
	if err != nil {
		return nil, errs.New(errs.Unavailable, "read content: %w", err)
	}
	return b, nil
}
