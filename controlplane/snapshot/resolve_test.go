package snapshot

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

// What broke: the credentials of callers' keys and of the card's signature were in no snapshot, so that no caller was let in.
func TestEveryCredentialIsReferredTo(t *testing.T) {
	t.Parallel()
	a := spec.Agent{
		AgentName: "helper", PromptKey: "p",
		Model:         spec.Model{Model: "m", APIKey: spec.Value{Ref: "model"}, Fallbacks: []spec.Model{{Model: "n", APIKey: spec.Value{Ref: "fallback"}}}},
		MCPServers:    []spec.MCPServerRef{{MCPServerName: "tools", Headers: map[string]spec.Value{"X-Key": {Ref: "header"}}, QueryParams: map[string]spec.Value{"key": {Ref: "query"}}}},
		PartnerAgents: []spec.PartnerRef{{AgentName: "other", Headers: map[string]spec.Value{"X-Key": {Ref: "partner"}}}},
		Memory:        spec.Memory{Credential: spec.Value{Ref: "memory"}},
		Expose: &spec.Expose{
			A2A:  []byte(`{"signingKey": {"credentialRef": "signature"}}`),
			Auth: &spec.InboundAuth{Keys: []spec.InboundKey{{Name: "ci", Key: spec.Value{Ref: "caller"}}, {Name: "other", Key: spec.Value{Ref: "caller-2"}}}},
		},
	}
	got := map[string]string{}
	for _, r := range references(a) {
		if r.kind == manifest.KindCredential {
			got[r.name] = r.field
		}
	}
	want := map[string]string{
		"model": "model.apiKey", "fallback": "model.fallbacks[0].apiKey", "header": "mcpServers[0].headers.X-Key", "query": "mcpServers[0].queryParams.key",
		"partner": "partnerAgents[0].headers.X-Key", "memory": "memory.credential", "signature": "expose.a2a.signingKey",
		"caller": "expose.auth.keys[0].key", "caller-2": "expose.auth.keys[1].key",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
