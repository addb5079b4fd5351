package view

import (
	"strings"

	"github.com/agentry/agentry/internal/manifest"
)

// AgentLabels gives the labels of an agent's desired revision, as selectors of bindings are matched with them; nil where the agent has
// none, was deleted or doesn't exist.
func (v *View) AgentLabels(namespace, agent string) map[string]string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	a := v.agents[idOf(manifest.KindAgent, namespace, agent)]
	if a == nil || a.head.Name != agent || a.head.Deleted {
		return nil
	}
	r, ok := a.head.State.Find(a.head.State.Desired())
	if !ok || a.active[r.Spec] == nil {
		return nil
	}
	labels := a.active[r.Spec].labels
	if len(labels) == 0 {
		return nil
	}
	out := make(map[string]string, len(labels))
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		out[key] = value
	}
	return out
}
