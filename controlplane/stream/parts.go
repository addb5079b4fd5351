package stream

import (
	"github.com/agentry/agentry/controlplane/snapshot"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/manifest"
)

// parts is what the envelopes of one config have in common for instances that hold the same. Nobody writes to it.
type parts struct {
	rendered *snapshot.Rendered
	held     []manifest.Line
	token    *pushv1.Token
	cause    *pushv1.Cause
	content  []byte
}

// partsOf gives the parts, those that were made last if they are these: of an agent with thousands of instances nearly all acknowledged
// the same config, whose lines they then share, and are sent the same one.
func (h *Hub) partsOf(r *snapshot.Rendered, held []manifest.Line) (*parts, error) {
	if p := h.last.Load(); p != nil && p.rendered == r && one(p.held, held) {
		return p, nil
	}
	content, err := r.Content(missing(held, r.Snapshot.Resources))
	if err != nil {
		return nil, err
	}
	p := &parts{rendered: r, held: held, token: tokenToWire(r.Snapshot.Token), cause: causeToWire(r.Cause), content: content}
	h.last.Store(p)
	return p, nil
}

// one reports whether two slices are the same memory. Lines are never written to.
func one(a, b []manifest.Line) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
