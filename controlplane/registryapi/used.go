package registryapi

import (
	"context"
	"fmt"
	"slices"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/gen/agentry/registry/v1/registryv1connect"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

// used tells of the credentials that a probe is about to send in an agent's name.
func (s *Service) used(ctx context.Context, namespace, server string, ref spec.MCPServerRef) {
	if s.cfg.Audit == nil {
		return
	}
	var used []string
	for _, values := range []map[string]spec.Value{ref.Headers, ref.QueryParams} {
		for _, v := range values {
			head, _, err := s.credential(namespace, v.Ref)
			if object := fmt.Sprintf("%s/%s@%d", manifest.KindCredential, head.Name, head.Version); v.Ref != "" && err == nil && !slices.Contains(used, object) {
				used = append(used, object)
			}
		}
	}
	if len(used) == 0 {
		return
	}
	slices.Sort(used)
	s.cfg.Audit.Record(audit.Event{
		Type: audit.CredentialUse, Objects: used, Outcome: audit.OK, Message: "sent to mcp/" + server + " by a probe",
		Call: audit.Call{Actor: why(ctx, "", "").Actor, Method: registryv1connect.McpServiceProbeProcedure, Permission: "mcp.probe", Namespace: namespace},
	})
}
