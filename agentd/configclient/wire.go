package configclient

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

func compareLines(a, b manifest.Line) int { return strings.Compare(a.Text(), b.Text()) }

func tokenToWire(t manifest.Token) *pushv1.Token {
	if t.Hash.IsZero() && t.Epoch == 0 && t.Generation == 0 {
		return nil
	}
	return &pushv1.Token{Epoch: t.Epoch, Generation: t.Generation, Hash: t.Hash[:]}
}

func tokenFromWire(t *pushv1.Token) (manifest.Token, bool) {
	out := manifest.Token{Epoch: t.GetEpoch(), Generation: t.GetGeneration()}
	if len(t.GetHash()) == 0 {
		return out, true
	}
	h, ok := manifest.FromBytes(t.GetHash())
	out.Hash = h
	return out, ok
}

func linesToWire(lines []manifest.Line) []*pushv1.ManifestLine {
	out := make([]*pushv1.ManifestLine, 0, len(lines))
	for _, l := range lines {
		w := &pushv1.ManifestLine{Kind: l.Kind, Name: l.Name, Version: l.Version}
		if l.Kind != manifest.KindCredential {
			w.Sha256 = l.SHA256[:]
		}
		out = append(out, w)
	}
	return out
}

func linesFromWire(lines []*pushv1.ManifestLine) ([]manifest.Line, bool) {
	out := make([]manifest.Line, 0, len(lines))
	for _, w := range lines {
		l := manifest.Line{Kind: w.GetKind(), Name: w.GetName(), Version: w.GetVersion()}
		if l.Kind != manifest.KindCredential {
			h, ok := manifest.FromBytes(w.GetSha256())
			if !ok {
				return nil, false
			}
			l.SHA256 = h
		}
		out = append(out, l)
	}
	return out, true
}

// faultsToWire puts the errors before the warnings: what a reader must act on comes first.
func faultsToWire(faults []phase.Fault) []*pushv1.Fault {
	out := make([]*pushv1.Fault, 0, len(faults))
	sorted := slices.Clone(faults)
	slices.SortStableFunc(sorted, func(a, b phase.Fault) int { return strings.Compare(string(a.Severity), string(b.Severity)) })
	for _, f := range sorted {
		sev := pushv1.Severity_SEVERITY_ERROR
		if f.Severity == phase.Warning {
			sev = pushv1.Severity_SEVERITY_WARNING
		}
		out = append(out, &pushv1.Fault{
			Resource: f.Resource, Field: f.Field, Code: string(f.Code), Message: f.Message, Severity: sev, Retryable: f.Retryable,
		})
	}
	return out
}

func phaseToWire(p phase.Phase) pushv1.Phase {
	switch p {
	case phase.Received:
		return pushv1.Phase_PHASE_RECEIVED
	case phase.Applied:
		return pushv1.Phase_PHASE_APPLIED
	case phase.Degraded:
		return pushv1.Phase_PHASE_DEGRADED
	case phase.Rejected:
		return pushv1.Phase_PHASE_REJECTED
	case phase.Fenced:
		return pushv1.Phase_PHASE_FENCED
	default:
		return pushv1.Phase_PHASE_UNSPECIFIED
	}
}

func stateToWire(s phase.ConfigState) pushv1.ConfigState {
	switch s {
	case phase.Live:
		return pushv1.ConfigState_CONFIG_STATE_LIVE
	case phase.LastGood:
		return pushv1.ConfigState_CONFIG_STATE_LAST_GOOD
	default:
		return pushv1.ConfigState_CONFIG_STATE_UNSPECIFIED
	}
}

func durationToWire(d time.Duration) *durationpb.Duration { return durationpb.New(d) }

func refusalsToWire(refusals []Refusal) []*pushv1.Refusal {
	out := make([]*pushv1.Refusal, 0, len(refusals))
	for _, r := range refusals {
		out = append(out, &pushv1.Refusal{
			Hash: r.Token.Hash[:], Epoch: r.Token.Epoch, Generation: r.Token.Generation, AgentdVersion: r.Version, Faults: faultsToWire(r.Faults),
		})
	}
	return out
}

func endpointsFromWire(in []*pushv1.Endpoint) []Endpoint {
	out := make([]Endpoint, 0, len(in))
	for _, e := range in {
		out = append(out, Endpoint{
			Agent: e.GetAgent(), Instance: e.GetInstance(), Address: e.GetAddress(), Weight: e.GetWeight(),
			Revision: e.GetRevision(), Zone: e.GetZone(), Healthy: e.GetHealthy(),
		})
	}
	return out
}
