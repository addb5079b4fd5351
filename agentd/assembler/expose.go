package assembler

import (
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
)

// expose says which doors are open, to whom, and what the card shows.
func (b *build) expose(rt *run.Runtime) {
	a := b.agent
	settings, open := a.Expose.A2ASettings()
	if !open {
		rt.Closed = append(rt.Closed, run.DoorA2A)
	}
	rt.Builtins = settings.Tools
	rt.A2A = run.A2A{
		DisplayName: a.DisplayName, Description: a.Description, Version: a.Version, V03: settings.V03,
		Streaming: settings.Streaming == nil || *settings.Streaming, Push: settings.Push == nil || *settings.Push,
	}
	if !settings.SigningKey.IsZero() {
		rt.A2A.SigningKey = b.valueOf(settings.SigningKey)
	}
	for _, s := range a.Skills {
		rt.A2A.Skills = append(rt.A2A.Skills, run.Skill(s))
	}
	e := a.Expose
	if e == nil {
		return
	}
	for door, on := range map[run.Door]*bool{run.DoorOpenAI: e.OpenAI, run.DoorREST: e.REST, run.DoorMCP: e.MCP} {
		if on != nil && !*on {
			rt.Closed = append(rt.Closed, door)
		}
	}
	rt.Inbound.MaxBody = e.MaxBodyBytes
	if e.Auth != nil {
		for _, k := range e.Auth.Keys {
			rt.Inbound.Keys = append(rt.Inbound.Keys, run.InboundKey{Name: k.Name, Value: b.valueOf(k.Key), Approver: k.Approver})
		}
	}
	if e.RateLimit != nil {
		rt.Inbound.PerMinute, rt.Inbound.Burst = e.RateLimit.RequestsPerMinute, e.RateLimit.Burst
	}
	if e.CORS != nil {
		rt.Inbound.Origins = e.CORS.Origins
	}
}

// judgeSigning warns of a key that can't sign the card, which is then given unsigned.
func (b *build) judgeSigning() {
	settings, open := b.agent.Expose.A2ASettings()
	if !open || settings.SigningKey.IsZero() || b.a.cfg.SigningKey == nil {
		return
	}
	if err := b.a.cfg.SigningKey(b.valueOf(settings.SigningKey)()); err != nil {
		b.fault(b.self, "expose.a2a.signingKey", phase.Invalid, phase.Warning, "the card is not signed: "+err.Error())
	}
}

// valueOf gives a value of this config. A rotated credential comes with a config of its own.
func (b *build) valueOf(v spec.Value) func() secret.Value {
	value := secret.NewValue(v.Literal)
	if v.Ref != "" {
		value = b.view[v.Ref]
	}
	return func() secret.Value { return value }
}
