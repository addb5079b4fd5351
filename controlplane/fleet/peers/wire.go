package peers

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
	peerv1 "github.com/agentry/agentry/gen/agentry/peer/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// maxInstance bounds one instance in a message, in bytes. What it says of its servers has no bound of its own.
const maxInstance = 2 << 20

func tokenToWire(t manifest.Token) *peerv1.Ref { return refToWire(fleet.Ref{Token: t}) }

func refToWire(r fleet.Ref) *peerv1.Ref {
	if r == (fleet.Ref{}) {
		return nil
	}
	w := &peerv1.Ref{Epoch: r.Token.Epoch, Generation: r.Token.Generation, Revision: r.Revision}
	if !r.Token.Hash.IsZero() {
		w.Hash = r.Token.Hash[:]
	}
	return w
}

func refOf(w *peerv1.Ref) (fleet.Ref, error) {
	out := fleet.Ref{Token: manifest.Token{Epoch: w.GetEpoch(), Generation: w.GetGeneration()}, Revision: w.GetRevision()}
	if len(w.GetHash()) == 0 {
		return out, nil
	}
	h, ok := manifest.FromBytes(w.GetHash())
	if !ok {
		return out, errs.New(errs.Invalid, "a config's hash has %d bytes", len(w.GetHash()))
	}
	out.Token.Hash = h
	return out, nil
}

func faultsToWire(in []phase.Fault) []*peerv1.Fault {
	var out []*peerv1.Fault
	for _, f := range in {
		out = append(out, &peerv1.Fault{
			Resource: f.Resource, Field: f.Field, Code: string(f.Code), Message: f.Message, Severity: string(f.Severity), Retryable: f.Retryable,
		})
	}
	return out
}

func faultsOf(in []*peerv1.Fault) []phase.Fault {
	var out []phase.Fault
	for _, f := range in {
		out = append(out, phase.Fault{
			Resource: f.GetResource(), Field: f.GetField(), Code: phase.Code(f.GetCode()), Message: f.GetMessage(),
			Severity: phase.Severity(f.GetSeverity()), Retryable: f.GetRetryable(),
		})
	}
	return out
}

func keyToWire(id snapshot.InstanceID, stamp uint64) *peerv1.InstanceKey {
	return &peerv1.InstanceKey{Namespace: id.Namespace, Agent: id.Agent, Instance: id.Instance, Stamp: stamp}
}

func idOf(k *peerv1.InstanceKey) snapshot.InstanceID {
	return snapshot.InstanceID{Namespace: k.GetNamespace(), Agent: k.GetAgent(), Instance: k.GetInstance()}
}

func removedToWire(gone []fleet.Gone) []*peerv1.InstanceKey {
	var out []*peerv1.InstanceKey
	for _, g := range gone {
		out = append(out, keyToWire(g.ID, g.Stamp))
	}
	return out
}

// ago tells a time as how long it is past; nil: never.
func ago(t, now time.Time) *durationpb.Duration {
	if t.IsZero() {
		return nil
	}
	return durationpb.New(max(0, now.Sub(t)))
}

// at is a time that was so long ago.
func at(d *durationpb.Duration, now time.Time) time.Time {
	if d == nil {
		return time.Time{}
	}
	return now.Add(-max(0, d.AsDuration()))
}

func instanceToWire(i fleet.Told, now time.Time) *peerv1.Instance {
	w := &peerv1.Instance{
		Key: keyToWire(i.ID, i.Stamp), Version: i.Version, Capabilities: i.Capabilities, Labels: i.Labels, Endpoints: i.Endpoints,
		Phase: string(i.Phase), ConfigState: string(i.ConfigState), Desired: refToWire(i.Desired), Running: refToWire(i.Running),
		Faults: faultsToWire(i.Faults), SinceAgo: ago(i.Since, now), SeenAgo: ago(i.Seen, now), OfferedAgo: ago(i.Offered, now),
		Connected: i.Connected, InFlight: i.InFlight, Requests: i.Requests, Errors: i.Errors, Drifts: i.Drifts, Takeovers: i.Takeovers,
		ServersTold: i.ServersTold,
	}
	for _, r := range i.Refusals {
		w.Refused = append(w.Refused, &peerv1.Refusal{Config: tokenToWire(r.Token), Version: r.Version, Faults: faultsToWire(r.Faults)})
	}
	for _, s := range i.Servers {
		server := &peerv1.Server{Name: s.Name, Healthy: s.Healthy, Message: s.Message}
		for _, t := range s.Tools {
			server.Tools = append(server.Tools, &peerv1.Tool{Name: t.Name, Description: t.Description, Digest: t.Digest})
		}
		w.Servers = append(w.Servers, server)
	}
	fit(w)
	return w
}

// fit makes room in an instance that says too much of its servers: digests count most, then what is said of the first servers.
func fit(w *peerv1.Instance) {
	if proto.Size(w) <= maxInstance {
		return
	}
	for _, s := range w.GetServers() {
		for _, t := range s.GetTools() {
			t.Description = ""
		}
	}
	for n := len(w.GetServers()); n > 0 && proto.Size(w) > maxInstance; n /= 2 {
		w.Servers = w.GetServers()[:n/2]
	}
}

func instanceOf(w *peerv1.Instance, now time.Time) (fleet.Told, error) {
	desired, err := refOf(w.GetDesired())
	if err != nil {
		return fleet.Told{}, err
	}
	running, err := refOf(w.GetRunning())
	if err != nil {
		return fleet.Told{}, err
	}
	out := fleet.Told{Stamp: w.GetKey().GetStamp(), ServersTold: w.GetServersTold(), Instance: fleet.Instance{
		ID: idOf(w.GetKey()), Version: w.GetVersion(), Capabilities: w.GetCapabilities(), Labels: w.GetLabels(), Endpoints: w.GetEndpoints(),
		Phase: phase.Phase(w.GetPhase()), ConfigState: phase.ConfigState(w.GetConfigState()), Desired: desired, Running: running,
		Faults: faultsOf(w.GetFaults()), Since: at(w.GetSinceAgo(), now), Seen: at(w.GetSeenAgo(), now), Offered: at(w.GetOfferedAgo(), now),
		Connected: w.GetConnected(), InFlight: w.GetInFlight(), Requests: w.GetRequests(), Errors: w.GetErrors(), Drifts: w.GetDrifts(),
		Takeovers: w.GetTakeovers(),
	}}
	for _, r := range w.GetRefused() {
		config, err := refOf(r.GetConfig())
		if err != nil {
			return out, err
		}
		out.Refusals = append(out.Refusals, fleet.Refusal{Token: config.Token, Version: r.GetVersion(), Faults: faultsOf(r.GetFaults())})
	}
	for _, s := range w.GetServers() {
		server := fleet.Server{Name: s.GetName(), Healthy: s.GetHealthy(), Message: s.GetMessage()}
		for _, t := range s.GetTools() {
			server.Tools = append(server.Tools, fleet.ServerTool{Name: t.GetName(), Description: t.GetDescription(), Digest: t.GetDigest()})
		}
		out.Servers = append(out.Servers, server)
	}
	return out, nil
}

func deltaOf(w *peerv1.FleetDelta, now time.Time) (fleet.Delta, error) {
	d := fleet.Delta{Synced: w.GetSynced(), Complete: w.GetComplete()}
	for _, in := range w.GetUpserts() {
		told, err := instanceOf(in, now)
		if err != nil {
			return d, err
		}
		d.Upserts = append(d.Upserts, told)
	}
	for _, k := range w.GetRemoved() {
		d.Removed = append(d.Removed, fleet.Gone{ID: idOf(k), Stamp: k.GetStamp()})
	}
	return d, nil
}
