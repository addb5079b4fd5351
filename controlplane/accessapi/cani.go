package accessapi

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/access"
	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// verbs are agentctl's, with the permission that each needs.
func verbs() map[string]string {
	out := map[string]string{}
	for permission, words := range map[string]string{
		"spec.read":         "get list watch history diff export validate",
		"spec.write":        "apply create edit update",
		"spec.delete":       "delete",
		"release.read":      "status events rollout",
		"release.write":     "rollback retry unhold abort",
		"prompt.label":      "label unlabel",
		"mcp.probe":         "probe",
		"mcp.switch":        "enable disable switch",
		"mcp.approve":       "approve",
		"credential.write":  "rotate seal",
		"credential.use":    "use",
		"credential.reseal": "reseal",
		"identity.read":     "identities",
		"identity.join":     "join",
		"identity.revoke":   "revoke",
		"identity.rotate":   "rotate-ca",
		"audit.read":        "audit",
		"access.read":       "bindings",
		"access.write":      "bind",
		"cluster.read":      "cluster members",
		"cluster.backup":    "backup",
		"cluster.restore":   "restore",
	} {
		for w := range strings.FieldsSeq(words) {
			out[w] = permission
		}
	}
	return out
}

// CanI answers whether the caller holds a permission on an object, and why.
func (s *Service) CanI(ctx context.Context, req *connect.Request[accessv1.CanIRequest]) (*connect.Response[accessv1.CanIResponse], error) {
	who, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	permission, on, err := s.question(req.Msg)
	if err != nil {
		return nil, err
	}
	if who.Admin {
		return connect.NewResponse(&accessv1.CanIResponse{Allowed: true, Reason: who.Name + " holds every permission"}), nil
	}
	d := s.cfg.Directory.Decide(who, permission, on)
	return connect.NewResponse(&accessv1.CanIResponse{Allowed: d.Allowed, Reason: s.reason(who, d, permission, on)}), nil
}

func (s *Service) question(m *accessv1.CanIRequest) (permission string, on access.Object, err error) {
	permission = m.GetPermission()
	if verb, ok := verbs()[permission]; ok {
		permission = verb
	}
	if !slices.ContainsFunc(s.permissions, func(p access.Permission) bool { return p.Name == permission }) {
		names := make([]string, 0, len(s.permissions))
		for _, p := range s.permissions {
			names = append(names, p.Name)
		}
		return "", on, errs.New(errs.Invalid, "there is no permission or verb %q; permissions are %s", m.GetPermission(), strings.Join(names, ", "))
	}
	_, on = place(m.GetNamespace())
	on.Kind, on.Name = m.GetKind(), m.GetName()
	switch {
	case on.Kind == "" && on.Name != "":
		return "", on, errs.New(errs.Invalid, "object %q: of which kind?", on.Name)
	case on.Kind != "" && !slices.Contains([]string{manifest.KindAgent, manifest.KindPrompt, manifest.KindMCP, manifest.KindCredential}, on.Kind):
		return "", on, errs.New(errs.Invalid, "kind %q: agent, prompt, mcp or credential", on.Kind)
	case on.Kind == manifest.KindAgent && on.Name != "":
		on.Labels = s.cfg.Labels.AgentLabels(on.Namespace, on.Name)
	}
	return permission, on, nil
}

// reason says by which binding something is allowed, or why it isn't.
func (s *Service) reason(who access.Principal, d access.Decision, permission string, on access.Object) string {
	switch {
	case d.By != nil:
		return fmt.Sprintf("binding %s of namespace %s gives role %s to %s", d.By.Name, d.By.Namespace, d.By.Role, strings.Join(d.By.Subjects, ", "))
	case d.Allowed:
		return "the owner of " + who.Name + " holds every permission"
	case d.Bounded:
		return fmt.Sprintf("the owner of %s holds %s on %s, but the scopes of the token leave it out", who.Name, permission, on)
	case on.Name == "" && s.cfg.Directory.Somewhere(who, permission, on.Namespace):
		return fmt.Sprintf("%s holds %s on some objects, but not on %s", who.Name, permission, on)
	}
	return fmt.Sprintf("no binding gives %s %s on %s", who.Name, permission, on)
}
