package stream

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/snapshot"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/manifest"
)

// parts is what the snapshots of one config have in common for instances that hold the same. Nobody writes to it.
type parts struct {
	rendered *snapshot.Rendered
	held     []manifest.Line
	envelope []byte // of a Snapshot without nonce and credentials, up to the length of its content
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
	envelope, err := proto.Marshal(&pushv1.Snapshot{
		Token: tokenToWire(r.Snapshot.Token), Revision: r.Snapshot.Revision, Proven: r.Snapshot.Proven, Cause: causeToWire(r.Cause),
	})
	if err != nil {
		return nil, fmt.Errorf("marshal snapshot: %w", err)
	}
	envelope = protowire.AppendTag(envelope, fieldContent, protowire.BytesType)
	envelope = protowire.AppendVarint(envelope, uint64(len(content)))
	p := &parts{rendered: r, held: held, envelope: envelope, content: content}
	h.last.Store(p)
	return p, nil
}

// one reports whether two slices are the same memory. Lines are never written to.
func one(a, b []manifest.Line) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// frame gives the message for one stream, without a nonce. The values of credentials are in it alone.
func (p *parts) frame(secrets []*pushv1.CredentialValue) (*frame, error) {
	f := &frame{envelope: p.envelope, content: p.content}
	if len(secrets) == 0 {
		return f, nil
	}
	var err error
	if f.own, err = proto.Marshal(&pushv1.Snapshot{Credentials: secrets}); err != nil {
		return nil, fmt.Errorf("marshal credentials: %w", err)
	}
	return f, nil
}
