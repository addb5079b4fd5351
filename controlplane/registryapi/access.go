package registryapi

import (
	"context"
	"slices"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/internal/manifest"
)

// read is what the caller must hold on whatever an answer names beside the object that the request is about.
const read = "spec.read"

// sees reports whether the caller may read an object.
func (s *Service) sees(ctx context.Context, kind, namespace, name string) bool {
	who, ok := access.From(ctx)
	if !ok || who.Admin {
		return ok
	}
	o := access.Object{Namespace: namespace, Kind: kind, Name: name}
	if kind == manifest.KindAgent {
		o.Labels = s.cfg.View.AgentLabels(namespace, name)
	}
	return who.Allowed(read, o)
}

// seenBy leaves of some revisions those whose agents the caller may read.
func (s *Service) seenBy(ctx context.Context, namespace string, users []inPlay) []inPlay {
	return slices.DeleteFunc(users, func(u inPlay) bool { return !s.sees(ctx, manifest.KindAgent, namespace, u.agent) })
}

// tell completes the audit entry of a change.
func tell(ctx context.Context, kind, name, message string) {
	d := audit.From(ctx)
	d.On(kind + "/" + name)
	d.Because(message)
}
