package stream

import (
	"math"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// Bounds of what an instance may say about itself; more is INVALID_ARGUMENT.
const (
	maxID           = 128
	maxVersion      = 64
	maxCapabilities = 64
	maxLabels       = 32
	maxEndpoints    = 8
	maxText         = 256
	maxRefusals     = 8
	maxHeld         = 4096
	maxUsage        = 256 // configs and variants in one beat
	// Faults beyond these are cut, not refused: a report must never get lost for being long.
	maxFaults  = 64
	maxMessage = 2048
)

func tokenToWire(t manifest.Token) *pushv1.Token {
	if t.IsZero() {
		return nil
	}
	w := &pushv1.Token{Epoch: t.Epoch, Generation: t.Generation}
	if !t.Hash.IsZero() {
		w.Hash = t.Hash[:]
	}
	return w
}

func tokenOf(t *pushv1.Token) (manifest.Token, error) {
	out := manifest.Token{Epoch: t.GetEpoch(), Generation: t.GetGeneration()}
	if len(t.GetHash()) == 0 {
		return out, nil
	}
	h, ok := manifest.FromBytes(t.GetHash())
	if !ok {
		return out, errs.New(errs.Invalid, "a token's hash has %d bytes", len(t.GetHash()))
	}
	out.Hash = h
	return out, nil
}

func phaseOf(p pushv1.Phase) phase.Phase {
	switch p {
	case pushv1.Phase_PHASE_RECEIVED:
		return phase.Received
	case pushv1.Phase_PHASE_APPLIED:
		return phase.Applied
	case pushv1.Phase_PHASE_DEGRADED:
		return phase.Degraded
	case pushv1.Phase_PHASE_REJECTED:
		return phase.Rejected
	case pushv1.Phase_PHASE_FENCED:
		return phase.Fenced
	default:
		return ""
	}
}

func stateOf(s pushv1.ConfigState) phase.ConfigState {
	switch s {
	case pushv1.ConfigState_CONFIG_STATE_LIVE:
		return phase.Live
	case pushv1.ConfigState_CONFIG_STATE_LAST_GOOD:
		return phase.LastGood
	default:
		return ""
	}
}

func faultsOf(in []*pushv1.Fault) []phase.Fault {
	if len(in) == 0 {
		return nil
	}
	out := make([]phase.Fault, 0, min(len(in), maxFaults))
	for _, f := range in[:min(len(in), maxFaults)] {
		severity := phase.Error
		if f.GetSeverity() == pushv1.Severity_SEVERITY_WARNING {
			severity = phase.Warning
		}
		out = append(out, phase.Fault{
			Resource: cut(f.GetResource(), maxText), Field: cut(f.GetField(), maxText), Code: phase.Code(cut(f.GetCode(), maxVersion)),
			Message: cut(f.GetMessage(), maxMessage), Severity: severity, Retryable: f.GetRetryable(),
		})
	}
	return out
}

// cut shortens text without splitting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

func linesOf(in []*pushv1.ManifestLine) ([]manifest.Line, error) {
	out := make([]manifest.Line, 0, len(in))
	for _, w := range in {
		l := manifest.Line{Kind: w.GetKind(), Name: w.GetName(), Version: w.GetVersion()}
		if len(l.Kind)+len(l.Name)+len(l.Version) > 2*maxText {
			return nil, errs.New(errs.Invalid, "a held line is too long")
		}
		if l.Kind != manifest.KindCredential {
			h, ok := manifest.FromBytes(w.GetSha256())
			if !ok {
				return nil, errs.New(errs.Invalid, "the hash of held %s has %d bytes", l.Resource(), len(w.GetSha256()))
			}
			l.SHA256 = h
		}
		out = append(out, l)
	}
	return out, nil
}

// introduction is a checked Hello.
type introduction struct {
	fleet.Hello

	fence manifest.Fence
	held  []manifest.Line
}

// introduce checks a Hello. Errors are errs.Invalid.
func introduce(w *pushv1.Hello) (introduction, error) {
	in := introduction{
		Hello: fleet.Hello{
			ID:      snapshot.InstanceID{Namespace: w.GetNamespace(), Agent: w.GetAgent(), Instance: w.GetInstance()},
			Version: w.GetAgentdVersion(), Capabilities: w.GetCapabilities(), Labels: w.GetLabels(), Endpoints: w.GetEndpoints(),
			Phase: phaseOf(w.GetPhase()), ConfigState: stateOf(w.GetConfigState()), Faults: faultsOf(w.GetFaults()),
		},
		fence: manifest.Fence{
			ClusterID: w.GetFence().GetClusterId(), Epoch: w.GetFence().GetEpoch(), Generation: w.GetFence().GetGeneration(),
		},
	}
	if err := bounds(w); err != nil {
		return in, err
	}
	running, err := tokenOf(w.GetRunning())
	if err != nil {
		return in, err
	}
	in.Running = fleet.Ref{Token: running}
	for _, r := range w.GetRefusals() {
		h, ok := manifest.FromBytes(r.GetHash())
		if !ok || len(r.GetAgentdVersion()) > maxVersion {
			return in, errs.New(errs.Invalid, "a refusal is malformed")
		}
		in.Refusals = append(in.Refusals, fleet.Refusal{
			Token:   manifest.Token{Epoch: r.GetEpoch(), Generation: r.GetGeneration(), Hash: h},
			Version: r.GetAgentdVersion(), Faults: faultsOf(r.GetFaults()),
		})
	}
	in.held, err = linesOf(w.GetHeld())
	return in, err
}

func bounds(w *pushv1.Hello) error {
	switch {
	case !isName(w.GetNamespace(), 64):
		return errs.New(errs.Invalid, "namespace %q is no name", cut(w.GetNamespace(), maxText))
	case !isName(w.GetAgent(), 64):
		return errs.New(errs.Invalid, "agent %q is no name", cut(w.GetAgent(), maxText))
	case !isName(w.GetInstance(), maxID):
		return errs.New(errs.Invalid, "instance %q is no id", cut(w.GetInstance(), maxText))
	case len(w.GetAgentdVersion()) > maxVersion:
		return errs.New(errs.Invalid, "the agentd version is too long")
	case len(w.GetCapabilities()) > maxCapabilities || tooLong(w.GetCapabilities()):
		return errs.New(errs.Invalid, "too many capabilities, or one is too long")
	case len(w.GetEndpoints()) > maxEndpoints || tooLong(w.GetEndpoints()):
		return errs.New(errs.Invalid, "too many endpoints, or one is too long")
	case len(w.GetLabels()) > maxLabels:
		return errs.New(errs.Invalid, "%d labels, at most %d", len(w.GetLabels()), maxLabels)
	case len(w.GetRefusals()) > maxRefusals:
		return errs.New(errs.Invalid, "%d refusals, at most %d", len(w.GetRefusals()), maxRefusals)
	case len(w.GetHeld()) > maxHeld:
		return errs.New(errs.Invalid, "%d held lines, at most %d", len(w.GetHeld()), maxHeld)
	case len(w.GetFence().GetClusterId()) > maxVersion:
		return errs.New(errs.Invalid, "the fence's cluster id is too long")
	}
	for k, v := range w.GetLabels() {
		if len(k) > maxText || len(v) > maxText {
			return errs.New(errs.Invalid, "label %q is too long", cut(k, maxText))
		}
	}
	return nil
}

func tooLong(list []string) bool {
	for _, s := range list {
		if len(s) > maxText {
			return true
		}
	}
	return false
}

// isName follows semantics.md 14: letters and digits, with - _ . between.
func isName(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i, r := range s {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		inner := i > 0 && i < len(s)-1 && (r == '-' || r == '_' || r == '.')
		if !alnum && !inner {
			return false
		}
	}
	return true
}

func causeToWire(c snapshot.Cause) *pushv1.Cause {
	if c == (snapshot.Cause{}) {
		return nil
	}
	w := &pushv1.Cause{Actor: c.Actor, Reason: c.Reason, Head: c.Head}
	if !c.Time.IsZero() {
		w.Time = timestamppb.New(c.Time)
	}
	return w
}

// serversOf reads what an instance says of the MCP servers that it uses. A definition without a whole digest is told
// as a tool without one.
func serversOf(deps []*pushv1.Dependency) []fleet.Server {
	var out []fleet.Server
	for _, d := range deps {
		name, ok := strings.CutPrefix(d.GetResource(), manifest.KindMCP+"/")
		if !ok || name == "" || len(name) > maxID {
			continue
		}
		s := fleet.Server{Name: name, Healthy: d.GetHealthy(), Message: d.GetMessage()}
		for _, t := range d.GetTools() {
			tool := fleet.ServerTool{Name: t.GetName(), Description: t.GetDescription()}
			if h, whole := manifest.FromBytes(t.GetDefinitionSha256()); whole {
				tool.Digest = h.String()
			}
			s.Tools = append(s.Tools, tool)
		}
		out = append(out, s)
	}
	return out
}

// usageOf reads what a beat counted; what is beyond the bounds is not counted.
func usageOf(in []*pushv1.Usage) []fleet.ConfigUsage {
	if len(in) == 0 {
		return nil
	}
	out := make([]fleet.ConfigUsage, 0, min(len(in), maxUsage))
	for _, u := range in[:min(len(in), maxUsage)] {
		c := fleet.ConfigUsage{Config: cut(u.GetConfig(), maxVersion), Usage: fleet.Usage{
			Requests: u.GetRequests(), Errors: u.GetErrors(), InputTokens: u.GetInputTokens(), OutputTokens: u.GetOutputTokens(),
		}}
		if cost := u.GetCostUsd(); cost > 0 && !math.IsInf(cost, 0) {
			c.CostUSD = cost
		}
		copy(c.Latency[:], u.GetLatencyBuckets())
		out = append(out, c)
	}
	return out
}
