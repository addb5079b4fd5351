package stream

import (
	"testing"

	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/snapshot"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/manifest"
)

// A frame is, on the wire, the message that the protocol describes, whichever codec writes it.
func TestAFrameIsTheMessage(t *testing.T) {
	t.Parallel()
	r := &snapshot.Rendered{
		Snapshot: snapshot.Snapshot{
			Token: manifest.Token{Epoch: 3, Generation: 70, Hash: manifest.Hash{1, 2, 3}}, Revision: 9, Proven: []string{"prompt/main"},
		},
		Cause:   snapshot.Cause{Actor: "erin", Reason: "apply", Head: "prompt/main"},
		Content: func([]bool) ([]byte, error) { return []byte("content"), nil },
	}
	secrets := []*pushv1.CredentialValue{{Name: "key", Version: 4, Value: []byte("v")}}
	for _, own := range [][]*pushv1.CredentialValue{nil, secrets} {
		for _, nonce := range []uint64{1, 127, 128, 1 << 40} {
			p, err := (&Hub{}).partsOf(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			f, err := p.frame(own)
			if err != nil {
				t.Fatal(err)
			}
			f.nonce = nonce
			want := &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Snapshot{Snapshot: &pushv1.Snapshot{
				Nonce: nonce, Token: tokenToWire(r.Snapshot.Token), Revision: 9, Content: []byte("content"), Proven: r.Snapshot.Proven,
				Cause: causeToWire(r.Cause), Credentials: own,
			}}}
			for name, c := range map[string]encoding.CodecV2{"ours": Codec(), "gRPC's": encoding.GetCodecV2("proto")} {
				b, err := c.Marshal(f)
				if err != nil {
					t.Fatal(err)
				}
				got := &pushv1.StreamResponse{}
				if err := proto.Unmarshal(b.Materialize(), got); err != nil {
					t.Fatal(err)
				}
				if !proto.Equal(got, want) {
					t.Errorf("%s: nonce %d: got %v, want %v", name, nonce, got, want)
				}
				if size := sizeOf(f); size < b.Len() || size > b.Len()+headMost {
					t.Errorf("size %d of %d bytes", size, b.Len())
				}
			}
		}
	}
}
