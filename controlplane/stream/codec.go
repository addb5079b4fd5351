package stream

import (
	"slices"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
)

// The fields that a frame writes itself, as push.proto numbers them.
const (
	fieldSnapshot protowire.Number = 2 // of StreamResponse
	fieldNonce    protowire.Number = 1 // of Snapshot
	fieldContent  protowire.Number = 4 // of Snapshot
)

// frame is a StreamResponse with a Snapshot that is marshalled already, but for the nonce: what streams have in common once for all.
type frame struct {
	nonce    uint64
	own      []byte // fields that are this stream's alone
	envelope []byte // fields, and the beginning of the last, which content ends; nobody writes to either
	content  []byte
}

var _ proto.Message = (*frame)(nil)

// headMost is how many bytes head gives at most.
const headMost = 32

// rest is how many bytes come after the nonce.
func (f *frame) rest() int { return len(f.own) + len(f.envelope) + len(f.content) }

// head gives what comes before all other bytes.
func (f *frame) head() []byte {
	b := protowire.AppendTag(make([]byte, 0, headMost), fieldSnapshot, protowire.BytesType)
	size := protowire.SizeTag(fieldNonce) + protowire.SizeVarint(f.nonce) + f.rest()
	b = protowire.AppendVarint(b, uint64(size)) //nolint:gosec // G115: a length
	b = protowire.AppendTag(b, fieldNonce, protowire.VarintType)
	return protowire.AppendVarint(b, f.nonce)
}

// ProtoReflect gives the message that it is: for a codec that knows no frames.
func (f *frame) ProtoReflect() protoreflect.Message {
	m := &pushv1.StreamResponse{}
	if err := proto.Unmarshal(slices.Concat(f.head(), f.own, f.envelope, f.content), m); err != nil {
		return (*pushv1.StreamResponse)(nil).ProtoReflect()
	}
	return m.ProtoReflect()
}

// sizeOf gives how many bytes a message is on the wire, of a frame at most.
func sizeOf(m proto.Message) int {
	if f, ok := m.(*frame); ok {
		return headMost + f.rest()
	}
	return proto.Size(m)
}

// Codec gives the codec of a door that serves a Hub. Without it everything works too, but each stream marshals for itself.
func Codec() encoding.CodecV2 { return codec{CodecV2: encoding.GetCodecV2("proto")} }

type codec struct{ encoding.CodecV2 }

// Marshal gives the bytes of a message; those that a frame shares are not copied.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		out := append(make(mem.BufferSlice, 0, 4), mem.SliceBuffer(f.head()))
		if len(f.own) > 0 {
			out = append(out, mem.SliceBuffer(f.own))
		}
		return append(out, mem.SliceBuffer(f.envelope), mem.SliceBuffer(f.content)), nil
	}
	return c.CodecV2.Marshal(v)
}
