package v03

import (
	old "github.com/a2aproject/a2a-go/a2apb"
	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/internal/a2a"
)

// ToCard gives a card. Its signatures are left out: they are over other bytes.
func ToCard(card *pb.AgentCard, at Places) *old.AgentCard {
	out := &old.AgentCard{
		ProtocolVersion: Version, Name: card.GetName(), Description: card.GetDescription(), Version: card.GetVersion(),
		Url: at.JSONRPC, PreferredTransport: a2a.BindingJSONRPC,
		AdditionalInterfaces: []*old.AgentInterface{
			{Url: at.JSONRPC, Transport: a2a.BindingJSONRPC}, {Url: at.HTTP, Transport: a2a.BindingHTTP}, {Url: at.GRPC, Transport: a2a.BindingGRPC},
		},
		Capabilities:      &old.AgentCapabilities{Streaming: card.GetCapabilities().GetStreaming(), PushNotifications: card.GetCapabilities().GetPushNotifications()},
		DefaultInputModes: card.GetDefaultInputModes(), DefaultOutputModes: card.GetDefaultOutputModes(),
		SupportsAuthenticatedExtendedCard: card.GetCapabilities().GetExtendedAgentCard(),
	}
	for _, x := range card.GetCapabilities().GetExtensions() {
		out.Capabilities.Extensions = append(out.Capabilities.Extensions, &old.AgentExtension{Uri: x.GetUri(), Description: x.GetDescription(), Required: x.GetRequired(), Params: x.GetParams()})
	}
	for _, s := range card.GetSkills() {
		out.Skills = append(out.Skills, &old.AgentSkill{Id: s.GetId(), Name: s.GetName(), Description: s.GetDescription(), Tags: s.GetTags(), Examples: s.GetExamples()})
	}
	for name, s := range card.GetSecuritySchemes() {
		if was := toScheme(s); was != nil {
			if out.SecuritySchemes == nil {
				out.SecuritySchemes = map[string]*old.SecurityScheme{}
			}
			out.SecuritySchemes[name] = was
		}
	}
	for _, r := range card.GetSecurityRequirements() {
		was := &old.Security{Schemes: map[string]*old.StringList{}}
		for name, scopes := range r.GetSchemes() {
			was.Schemes[name] = &old.StringList{List: scopes.GetList()}
		}
		out.Security = append(out.Security, was)
	}
	return out
}

func toScheme(s *pb.SecurityScheme) *old.SecurityScheme {
	switch s := s.GetScheme().(type) {
	case *pb.SecurityScheme_HttpAuthSecurityScheme:
		return &old.SecurityScheme{Scheme: &old.SecurityScheme_HttpAuthSecurityScheme{HttpAuthSecurityScheme: &old.HTTPAuthSecurityScheme{Scheme: s.HttpAuthSecurityScheme.GetScheme()}}}
	case *pb.SecurityScheme_ApiKeySecurityScheme:
		k := s.ApiKeySecurityScheme
		return &old.SecurityScheme{Scheme: &old.SecurityScheme_ApiKeySecurityScheme{ApiKeySecurityScheme: &old.APIKeySecurityScheme{Location: k.GetLocation(), Name: k.GetName()}}}
	default:
		return nil
	}
}
