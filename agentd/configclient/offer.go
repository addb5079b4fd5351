package configclient

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

// onMessage takes one message of the control plane. The first must be Welcome, of the cluster that last good came from.
func (d *driver) onMessage(ctx context.Context, m *pushv1.StreamResponse) {
	if w := m.GetWelcome(); w != nil {
		d.onWelcome(ctx, w)
		return
	}
	if g := m.GetGoaway(); g != nil {
		d.onGoaway(ctx, g)
		return
	}
	if !d.link.welcomed {
		d.endLink(ctx, "the first message is not a welcome")
		return
	}
	switch m := m.GetMessage().(type) {
	case *pushv1.StreamResponse_Snapshot:
		d.onSnapshot(ctx, m.Snapshot)
	case *pushv1.StreamResponse_Current:
		d.onCurrent(ctx, m.Current)
	case *pushv1.StreamResponse_Absent:
		d.onAbsent(ctx, m.Absent)
	case *pushv1.StreamResponse_Overlay:
		d.onOverlay(ctx, m.Overlay)
	case *pushv1.StreamResponse_Endpoints:
		d.onEndpoints(ctx, m.Endpoints)
	case *pushv1.StreamResponse_Command:
		d.onCommand(ctx, m.Command)
	default:
		d.log.LogAttrs(ctx, slog.LevelWarn, "unknown message passed over")
	}
}

func (d *driver) onWelcome(ctx context.Context, w *pushv1.Welcome) {
	have := d.cfg.State.recall().Fence.ClusterID
	if have != "" && have != w.GetClusterId() {
		why := fmt.Sprintf("it is of cluster %s, this instance's last good config is of cluster %s; if that is meant, stop this agentd and start it once with: agentd --forget-cluster",
			w.GetClusterId(), have)
		d.log.LogAttrs(ctx, slog.LevelError, "wrong cluster refused", slog.String("address", d.link.address), slog.String("reason", why))
		d.endLink(ctx, why)
		return
	}
	d.welcome.Stop()
	d.link.welcomed = true
	d.away = ""
	d.link.cluster = w.GetClusterId()
	d.log.LogAttrs(ctx, slog.LevelDebug, "control plane welcomed", slog.String("address", d.link.address), slog.String("replica", w.GetReplicaId()))
	if d.running == nil && d.job == nil && d.rejected == nil {
		d.reason = "waiting for a config"
	}
	d.beat.Reset(jittered(d.pace.beat))
}

func (d *driver) onGoaway(ctx context.Context, g *pushv1.Goaway) {
	d.link.retryAfter = g.GetRetryAfter().AsDuration()
	if d.link.retryAfter > 0 {
		d.link.retryAfter += d.link.retryAfter - jittered(d.link.retryAfter)
	}
	d.endLink(ctx, "sent away: "+g.GetReason())
}

// here marks an answer to a message of this stream.
func (d *driver) here(nonce uint64) origin { return origin{link: d.link.id, nonce: nonce} }

// fenced reports whether content of the control plane is below the fence.
func (d *driver) fenced(t manifest.Token) bool {
	// gofail: var mutateNoFence struct{}
	// return false

	f := d.cfg.State.recall().Fence
	return f.ClusterID == d.link.cluster && f.Below(t)
}

func (d *driver) onSnapshot(ctx context.Context, s *pushv1.Snapshot) {
	from := d.here(s.GetNonce())
	t, ok := tokenFromWire(s.GetToken())
	if !ok || t.Hash.IsZero() {
		d.endLink(ctx, "a snapshot without a token")
		return
	}
	if d.fenced(t) {
		d.answer(ctx, from, Verdict{Phase: phase.Fenced}, t)
		return
	}
	j := &job{from: from, cluster: d.link.cluster}
	u, fault, missing := d.open(s, t)
	if missing != "" && d.missed != t.Hash {
		// The two ends differ about what is held here: say anew what is.
		d.missed = t.Hash
		d.endLink(ctx, "a snapshot without "+missing+", which is not held")
		return
	}
	d.desired = t
	switch r, refused := d.cfg.State.refused(t, d.cfg.Version); {
	case refused:
		d.settle(func() { d.refuse(ctx, from, t, r.Faults) })
	case missing != "" || fault != nil:
		if fault == nil {
			fault = &phase.Fault{
				Resource: missing, Code: phase.HashMismatch, Severity: phase.Error,
				Message: "the snapshot does not carry it and it is not held here",
			}
		}
		d.settle(func() {
			d.note(ctx, "remember refusal", d.cfg.State.refuse(Refusal{Token: t, Version: d.cfg.Version, Faults: []phase.Fault{*fault}}))
			d.refuse(ctx, from, t, []phase.Fault{*fault})
		})
	default:
		d.missed = manifest.Hash{}
		d.keep(u)
		d.learn(u)
		j.update = u
		d.settle(func() { d.begin(ctx, j) })
	}
}

// refuse answers REJECTED without applying.
func (d *driver) refuse(ctx context.Context, from origin, t manifest.Token, faults []phase.Fault) {
	v := Verdict{Phase: phase.Rejected, Faults: faults}
	d.rejected = &v
	d.reason = "refused: " + summary(faults)
	d.confirm(from)
	d.answer(ctx, from, v, t)
}

// open reads a snapshot's content and completes it from what is held. Every hash is checked.
func (d *driver) open(s *pushv1.Snapshot, t manifest.Token) (u Update, fault *phase.Fault, missing string) {
	wrong := func(resource, message string) *phase.Fault {
		return &phase.Fault{Resource: resource, Code: phase.HashMismatch, Message: message, Severity: phase.Error}
	}
	self := manifest.KindAgent + "/" + d.cfg.Agent
	var content pushv1.Content
	if err := proto.Unmarshal(s.GetContent(), &content); err != nil {
		return Update{}, wrong(self, "content: "+err.Error()), ""
	}
	lines, ok := linesFromWire(content.GetManifest())
	if !ok {
		return Update{}, wrong(self, "a manifest line's hash is not of 32 bytes"), ""
	}
	sent := map[string][]byte{}
	for _, r := range content.GetResources() {
		sent[r.GetKind()+"/"+r.GetName()] = r.GetJson()
	}
	u = Update{
		Token: t, Revision: s.GetRevision(), Lines: lines, Resources: map[string][]byte{},
		Proven: map[string]bool{}, Credentials: map[string]Credential{},
	}
	for _, p := range s.GetProven() {
		u.Proven[p] = true
	}
	for _, c := range s.GetCredentials() {
		u.Credentials[c.GetName()] = Credential{Version: c.GetVersion(), Value: secret.NewValue(string(c.GetValue()))}
	}
	for _, l := range lines {
		if l.Kind == manifest.KindCredential {
			if _, ok := u.Credentials[l.Name]; !ok {
				return Update{}, wrong(l.Resource(), "the snapshot carries no value for it"), ""
			}
			continue
		}
		b, ok := sent[l.Resource()]
		if !ok {
			if b, ok = d.lookup(l); !ok {
				return Update{}, nil, l.Resource()
			}
		}
		if manifest.Sum(b) != l.SHA256 {
			return Update{}, wrong(l.Resource(), "its bytes do not match the manifest's hash"), ""
		}
		u.Resources[l.Resource()] = b
	}
	if err := checkContent(t.Hash, lines, u.Resources); err != nil {
		return Update{}, wrong(self, err.Error()), ""
	}
	return u, nil, ""
}

// lookup finds a resource's bytes in what is held.
func (d *driver) lookup(l manifest.Line) ([]byte, bool) {
	held := d.held
	if d.running != nil {
		held = append(held[:len(held):len(held)], *d.running)
	}
	for _, u := range held {
		if b, ok := u.Resources[l.Resource()]; ok && manifest.Sum(b) == l.SHA256 {
			return b, true
		}
	}
	return nil, false
}

func (d *driver) onCurrent(ctx context.Context, m *pushv1.Current) {
	from, cluster := d.here(m.GetNonce()), d.link.cluster
	t, ok := tokenFromWire(m.GetToken())
	if !ok {
		d.endLink(ctx, "a current without a token")
		return
	}
	if d.fenced(t) {
		d.answer(ctx, from, Verdict{Phase: phase.Fenced}, t)
		return
	}
	if j := d.job; j != nil && j.lastGood && j.update.Token.Hash == t.Hash {
		// Still being started from disk: the answer waits for it.
		d.next = func() { d.current(ctx, from, cluster, t, m.GetRevision()) }
		if d.inFlight == nil {
			d.attempt(ctx)
		}
		return
	}
	d.settle(func() { d.current(ctx, from, cluster, t, m.GetRevision()) })
}

func (d *driver) current(ctx context.Context, from origin, cluster string, t manifest.Token, revision int64) {
	d.confirm(from)
	if d.running == nil || d.running.Token.Hash != t.Hash {
		d.answerAsIs(ctx, from)
		return
	}
	d.dropJob()
	d.desired, d.rejected, d.reason = t, nil, ""
	d.note(ctx, "raise fence", d.cfg.State.raise(cluster, t, revision))
	d.running.Token, d.running.Revision = t, revision
	d.state = phase.Live
	d.cfg.Applier.Restamp(t, revision)
	d.answer(ctx, from, d.verdict, t)
}

func (d *driver) onAbsent(ctx context.Context, m *pushv1.Absent) {
	from, cluster := d.here(m.GetNonce()), d.link.cluster
	t, ok := tokenFromWire(m.GetToken())
	if !ok {
		d.endLink(ctx, "an absent with a broken token")
		return
	}
	if m.GetReason() != pushv1.AbsentReason_ABSENT_REASON_DELETED {
		d.settle(func() { d.unknown(ctx, from, t) })
		return
	}
	if d.fenced(t) {
		d.answer(ctx, from, Verdict{Phase: phase.Fenced}, t)
		return
	}
	d.settle(func() { d.deleted(ctx, from, cluster, t) })
}

// unknown never wipes: with a config the instance goes on serving it.
func (d *driver) unknown(ctx context.Context, from origin, t manifest.Token) {
	d.reason = fmt.Sprintf("agent %s/%s is unknown to the control plane; waiting for it", d.cfg.Namespace, d.cfg.Agent)
	d.rejected = nil
	if d.running != nil {
		d.reason = fmt.Sprintf("agent %s/%s is unknown to the control plane; serving what was there", d.cfg.Namespace, d.cfg.Agent)
	}
	d.log.LogAttrs(ctx, slog.LevelInfo, "agent unknown", slog.String("reason", d.reason))
	d.confirm(from)
	if d.running == nil {
		d.answer(ctx, from, Verdict{Phase: phase.Applied}, t) // it runs nothing, as it was told
		return
	}
	d.answerAsIs(ctx, from)
}

func (d *driver) deleted(ctx context.Context, from origin, cluster string, t manifest.Token) {
	d.log.LogAttrs(ctx, slog.LevelWarn, "agent deleted")
	d.reason = "agent deleted"
	d.cfg.Applier.Withdraw(d.reason)
	d.note(ctx, "wipe last good", d.cfg.State.wipe())
	d.note(ctx, "raise fence", d.cfg.State.raise(cluster, t, 0))
	d.running, d.rejected, d.held, d.state = nil, nil, nil, ""
	d.desired = t
	d.confirm(from)
	d.answer(ctx, from, Verdict{Phase: phase.Applied}, t)
}

func (d *driver) onOverlay(ctx context.Context, m *pushv1.Overlay) {
	o := Overlay{ClusterID: d.link.cluster, Epoch: m.GetEpoch(), ModRevision: m.GetModRevision(), Denied: m.GetDenied()}
	if o.below(d.cfg.State.recall().Overlay) {
		return
	}
	d.cfg.Applier.SetDenied(o.Denied)
	d.note(ctx, "save overlay", d.cfg.State.remember(func(b *memoryBody) { b.Overlay = o }))
}

// onEndpoints keeps old entries until the list is complete (semantics.md 11).
func (d *driver) onEndpoints(ctx context.Context, m *pushv1.Endpoints) {
	fresh := endpointsFromWire(m.GetEndpoints())
	d.note(ctx, "save endpoints", d.cfg.State.remember(func(b *memoryBody) {
		if !m.GetComplete() {
			have := map[string]bool{}
			for _, e := range fresh {
				have[e.Agent+"/"+e.Instance] = true
			}
			for _, e := range b.Endpoints {
				if !have[e.Agent+"/"+e.Instance] {
					fresh = append(fresh, e)
				}
			}
		}
		b.Endpoints, b.EndpointsAt = fresh, time.Now().UTC()
	}))
}
