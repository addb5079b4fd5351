package releaseapi

import (
	"context"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
)

// permission is what every answer of this service needs on the agents in it.
const permission = "release.read"

// visible reports whether the caller may see an agent.
func (s *Service) visible(ctx context.Context, namespace, agent string) bool {
	who, ok := access.From(ctx)
	if !ok || who.Admin {
		return ok
	}
	o := agentOf(namespace, agent)
	o.Labels = s.cfg.View.AgentLabels(namespace, agent)
	return who.Allowed(permission, o)
}

func agentOf(namespace, agent string) access.Object {
	return access.Object{Namespace: namespace, Kind: manifest.KindAgent, Name: agent}
}

// visibleOnly gives f the heads that the caller may see.
func (s *Service) visibleOnly(ctx context.Context, f func(namespace string, head view.AgentHead) error) func(string, view.AgentHead) error {
	return func(namespace string, head view.AgentHead) error {
		if !s.visible(ctx, namespace, head.Name) {
			return nil
		}
		return f(namespace, head)
	}
}
