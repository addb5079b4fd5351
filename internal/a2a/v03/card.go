package v03

import (
	"encoding/json"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/internal/a2a"
)

// Places are the addresses at which 0.3 is spoken.
type Places struct {
	JSONRPC string
	HTTP    string // clients put /v1/... behind it
	GRPC    string // host:port
}

// Interfaces gives the places as a card of 1.0 lists them.
func (p Places) Interfaces() []*pb.AgentInterface {
	return []*pb.AgentInterface{
		{Url: p.JSONRPC, ProtocolBinding: a2a.BindingJSONRPC, ProtocolVersion: a2a.Legacy},
		{Url: p.HTTP, ProtocolBinding: a2a.BindingHTTP, ProtocolVersion: a2a.Legacy},
		{Url: p.GRPC, ProtocolBinding: a2a.BindingGRPC, ProtocolVersion: a2a.Legacy},
	}
}

type wireInterface struct {
	URL       string `json:"url"`
	Transport string `json:"transport"`
}

// WriteCard gives a card that clients of both versions read: the members of 1.0, and beside them those of 0.3. The card's signatures are left out.
func WriteCard(card *pb.AgentCard, at Places) (json.RawMessage, error) {
	today, err := a2a.Marshal(card)
	if err != nil {
		return nil, err
	}
	var both map[string]any
	if err := json.Unmarshal(today, &both); err != nil {
		return nil, err
	}
	delete(both, "signatures")
	both["protocolVersion"] = Version
	both["url"], both["preferredTransport"] = at.JSONRPC, a2a.BindingJSONRPC
	both["additionalInterfaces"] = []wireInterface{{at.JSONRPC, a2a.BindingJSONRPC}, {at.HTTP, a2a.BindingHTTP}, {at.GRPC, a2a.BindingGRPC}}
	both["supportsAuthenticatedExtendedCard"] = card.GetCapabilities().GetExtendedAgentCard()
	if len(card.GetSecurityRequirements()) > 0 {
		both["security"] = security(card.GetSecurityRequirements())
	}
	if schemes, ok := both["securitySchemes"].(map[string]any); ok {
		for name, s := range card.GetSecuritySchemes() {
			if of, ok := schemes[name].(map[string]any); ok {
				describe(of, s)
			}
		}
	}
	return json.Marshal(both)
}

func security(requirements []*pb.SecurityRequirement) []map[string][]string {
	out := make([]map[string][]string, len(requirements))
	for i, r := range requirements {
		out[i] = map[string][]string{}
		for name, scopes := range r.GetSchemes() {
			out[i][name] = append([]string{}, scopes.GetList()...)
		}
	}
	return out
}

// describe adds to a scheme what 0.3 calls it. The door's cards have two kinds.
func describe(of map[string]any, s *pb.SecurityScheme) {
	switch s := s.GetScheme().(type) {
	case *pb.SecurityScheme_HttpAuthSecurityScheme:
		of["type"], of["scheme"] = "http", s.HttpAuthSecurityScheme.GetScheme()
	case *pb.SecurityScheme_ApiKeySecurityScheme:
		of["type"], of["in"], of["name"] = "apiKey", s.ApiKeySecurityScheme.GetLocation(), s.ApiKeySecurityScheme.GetName()
	}
}
