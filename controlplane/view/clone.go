package view

import (
	"maps"
	"slices"

	"github.com/agentry/agentry/controlplane/release"
)

// The clones make what a reader gets its own. TestClonesShareNothing walks every field of the records, so that
// one that is added is not forgotten here.

func cloneAgent(h AgentHead) AgentHead {
	h.State = cloneState(h.State)
	return h
}

func cloneState(s release.State) release.State {
	s.Candidate = clonePointer(s.Candidate)
	s.Hold = clonePointer(s.Hold)
	s.Revisions = slices.Clone(s.Revisions)
	s.Refusals = slices.Clone(s.Refusals)
	for i := range s.Refusals {
		s.Refusals[i].Faults = slices.Clone(s.Refusals[i].Faults)
	}
	s.Vetoes = slices.Clone(s.Vetoes)
	for i := range s.Vetoes {
		s.Vetoes[i].Refused = slices.Clone(s.Vetoes[i].Refused)
	}
	if s.Pin != nil {
		s.Pin = clonePointer(s.Pin)
		s.Pin.Lines = slices.Clone(s.Pin.Lines)
	}
	if s.LastRefusal != nil {
		s.LastRefusal = clonePointer(s.LastRefusal)
		s.LastRefusal.Faults = slices.Clone(s.LastRefusal.Faults)
	}
	return s
}

func clonePrompt(h PromptHead) PromptHead {
	h.Versions = slices.Clone(h.Versions)
	h.Labels = maps.Clone(h.Labels)
	return h
}

func cloneMCP(h MCPHead) MCPHead {
	h.Versions = slices.Clone(h.Versions)
	h.Enabled = clonePointer(h.Enabled)
	h.Tools = maps.Clone(h.Tools)
	for name, t := range h.Tools {
		t.Enabled = clonePointer(t.Enabled)
		t.Approved = slices.Clone(t.Approved)
		h.Tools[name] = t
	}
	return h
}

func cloneCredential(h CredentialHead) CredentialHead {
	h.AllowedOrigins = slices.Clone(h.AllowedOrigins)
	h.Sealed = maps.Clone(h.Sealed)
	for version, sealed := range h.Sealed {
		h.Sealed[version] = slices.Clone(sealed)
	}
	return h
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
