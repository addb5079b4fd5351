package view

import (
	"strings"

	"github.com/agentry/agentry/internal/spec"
)

// AgentLabels gives the labels of an agent's desired revision; of one that was deleted, those it had last. nil where there is none.
func (v *View) AgentLabels(namespace, agent string) map[string]string {
	head, _, ok := v.Agent(namespace, agent)
	if !ok || head.Name != agent || len(head.State.Revisions) == 0 {
		return nil
	}
	r, ok := head.State.Find(head.State.Desired())
	if !ok {
		r = head.State.Revisions[len(head.State.Revisions)-1]
	}
	if labels, ok := v.Labels(namespace, agent, r.Spec); ok {
		out := make(map[string]string, len(labels))
		for _, l := range labels {
			key, value, _ := strings.Cut(l, "=")
			out[key] = value
		}
		return out
	}
	b, ok := v.Blob(r.Spec)
	if !ok {
		return nil
	}
	a, err := spec.DecodeAgent(b)
	if err != nil {
		return nil
	}
	return a.Labels
}
