package stream

import (
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// target gives what the instance must run now and whether it refused that; nil: nothing is to be done.
func (c *conn) target(now time.Time) (r *snapshot.Rendered, refused bool) {
	if !c.hub.pushing() {
		return nil, false
	}
	c.mu.Lock()
	runs := c.slot.running.Revision
	c.mu.Unlock()
	r, err := c.hub.cfg.Targets.Target(c.key.ID, runs, c.refused)
	if err != nil {
		return nil, false // publish shows why; the instance keeps what it runs
	}
	// Asked again: what was rendered after a restore began may be half of it, and one after it ended is of a later epoch.
	if !c.hub.pushing() || !c.ofEra(r) {
		return nil, false
	}
	made := offeredOf(r)
	c.mu.Lock()
	known := c.offered == made && c.slot.serves(r)
	c.offered = made
	c.mu.Unlock()
	if known {
		return r, false // the table was offered this last, and the answer was that the instance serves it
	}
	o := fleet.Offer{
		Proven: r.ProvenKey, ResetEpoch: r.ResetEpoch, ResetGeneration: r.ResetGeneration, ReturnedAt: r.ReturnedAt,
	}
	if r.Snapshot.Absent == snapshot.Present {
		o.Desired = fleet.Ref{Token: r.Snapshot.Token, Revision: r.Snapshot.Revision}
	}
	return r, c.hub.cfg.Fleet.Offer(c.key, o, now)
}

// offered is what an offer to the table says beside the proven lines.
type offered struct {
	token                       manifest.Token
	resetEpoch                  uint64
	resetGeneration, returnedAt int64
}

func offeredOf(r *snapshot.Rendered) offered {
	return offered{token: r.Snapshot.Token, resetEpoch: r.ResetEpoch, resetGeneration: r.ResetGeneration, returnedAt: r.ReturnedAt}
}

// look wakes the sender if there is something to send.
func (c *conn) look(now time.Time) {
	r, refused := c.target(now)
	if r == nil {
		return
	}
	c.mu.Lock()
	idle := c.overlaid(r) && c.slot.next(r, refused).kind == nothing
	c.mu.Unlock()
	if !idle || c.old.Load() {
		c.poke()
	}
}

// overlaid reports whether the instance has the deny list.
func (c *conn) overlaid(r *snapshot.Rendered) bool {
	if r.Snapshot.Absent != snapshot.Present {
		return true
	}
	return c.deniedAt != 0 && slices.Equal(c.denied, r.Denied)
}

// compose gives the next message and its nonce, nil if there is none. What it gives counts as sent.
func (c *conn) compose() (m proto.Message, nonce uint64) {
	now := time.Now()
	r, refused := c.target(now)
	if r == nil {
		return nil, 0
	}
	c.mu.Lock()
	if !c.overlaid(r) {
		c.denied, c.deniedAt = r.Denied, max(r.DeniedAt, 1)
		c.mu.Unlock()
		return &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Overlay{Overlay: &pushv1.Overlay{
			Epoch: r.Snapshot.Token.Epoch, ModRevision: r.DeniedAt, Denied: r.Denied,
		}}}, 0
	}
	o := c.slot.next(r, refused)
	if o.kind == nothing {
		c.mu.Unlock()
		if refused {
			c.hub.counts.withheld.Add(1)
		}
		return nil, 0
	}
	held := c.slot.held
	c.mu.Unlock()

	var f *frame
	if o.kind == snapshots {
		var err error
		if f, err = c.render(r, held); err != nil {
			c.hub.cfg.Logger.LogAttrs(c.stream.Context(), slog.LevelError, "config can't be sent; the instance keeps what it runs",
				c.who(), slog.Any("error", err))
			return nil, 0
		}
	}
	// One sends at a time, and answers only free the slot, so what next allowed is still allowed.
	c.mu.Lock()
	resent := o.kind == snapshots && c.slot.last.kind == snapshots && c.slot.last.token.Hash == o.token.Hash
	nonce = c.slot.sent(o)
	c.mu.Unlock()
	if resent {
		c.hub.counts.resends.Add(1)
	}
	if o.kind != snapshots {
		return c.message(o, nonce), nonce
	}
	c.hub.cfg.Fleet.Sent(c.key, now) // before the send: an answer must not be overtaken
	c.hub.counts.snapshots.Add(1)
	c.hub.counts.bytes.Add(uint64(len(f.content)))
	f.nonce = nonce
	return f, nonce
}

// message makes an offer's message that is no snapshot.
func (c *conn) message(o offer, nonce uint64) *pushv1.StreamResponse {
	switch o.kind {
	case current:
		c.hub.counts.currents.Add(1)
		return &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Current{Current: &pushv1.Current{
			Nonce: nonce, Token: tokenToWire(o.token), Revision: o.revision,
		}}}
	case absent:
		reason := pushv1.AbsentReason_ABSENT_REASON_UNKNOWN
		if o.absence == snapshot.Deleted {
			reason = pushv1.AbsentReason_ABSENT_REASON_DELETED
		}
		return &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Absent{Absent: &pushv1.Absent{
			Nonce: nonce, Reason: reason, Token: tokenToWire(o.token),
		}}}
	case drop:
		return &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Command{Command: &pushv1.Command{
			Nonce: nonce, Kind: pushv1.CommandKind_COMMAND_KIND_DROP,
		}}}
	default:
		return nil
	}
}

// render makes the message of a snapshot for an instance that holds some lines; its nonce is set when it is sent.
func (c *conn) render(r *snapshot.Rendered, held []manifest.Line) (*frame, error) {
	p, err := c.hub.partsOf(r, held)
	if err != nil {
		return nil, err
	}
	secrets, err := c.credentials(r)
	if err != nil {
		return nil, err
	}
	return p.frame(secrets)
}

// credentials opens the values that travel with a config. They exist in what it gives only.
func (c *conn) credentials(r *snapshot.Rendered) (out []*pushv1.CredentialValue, err error) {
	for _, l := range r.Lines {
		if l.Kind != manifest.KindCredential {
			continue
		}
		version, err := versionOf(l)
		if err != nil {
			return nil, err
		}
		v, err := c.hub.cfg.Reveal(c.key.ID.Namespace, l.Name, version)
		if err != nil {
			return nil, fmt.Errorf("credential %s version %d: %w", l.Name, version, err)
		}
		out = append(out, &pushv1.CredentialValue{Name: l.Name, Version: version, Value: []byte(v.Reveal())})
	}
	c.tell(out)
	return out, nil
}

// tell tells of what this stream hands out for the first time. What the instance says that it holds doesn't count.
func (c *conn) tell(credentials []*pushv1.CredentialValue) {
	if c.hub.cfg.HandedOut == nil {
		return
	}
	for _, v := range credentials {
		if was, ok := c.handed[v.GetName()]; ok && was == v.GetVersion() {
			continue
		}
		if c.handed == nil {
			c.handed = map[string]int64{}
		}
		c.handed[v.GetName()] = v.GetVersion()
		c.hub.cfg.HandedOut(c.key.ID, v.GetName(), v.GetVersion())
	}
}

func versionOf(l manifest.Line) (int64, error) {
	n, err := strconv.ParseInt(l.Version, 10, 64)
	if err != nil {
		return 0, errs.New(errs.Internal, "credential %s has version %q", l.Name, l.Version)
	}
	return n, nil
}
