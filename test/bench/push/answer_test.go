package main

import (
	"testing"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is read by hand is what package proto reads, in every message that a server sends.
func TestOffersAreRead(t *testing.T) {
	token := &pushv1.Token{Epoch: 3, Generation: 1 << 40, Hash: []byte("0123456789abcdef0123456789abcdef")}
	for name, tc := range map[string]struct {
		in      *pushv1.StreamResponse
		kind    protowire.Number
		token   *pushv1.Token
		content string
	}{
		"snapshot": {in: &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Snapshot{Snapshot: &pushv1.Snapshot{
			Nonce: 7, Token: token, Revision: 9, Content: []byte("content"), Proven: []string{"prompt/a"},
			Credentials: []*pushv1.CredentialValue{{Name: "c", Value: []byte("not the content")}}, Cause: &pushv1.Cause{Actor: "x"},
		}}}, kind: offerSnapshot, token: token, content: "content"},
		"snapshot of nothing": {in: &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Snapshot{Snapshot: &pushv1.Snapshot{Nonce: 7}}}, kind: offerSnapshot},
		"an empty token": {in: &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Current{Current: &pushv1.Current{
			Nonce: 7, Token: &pushv1.Token{},
		}}}, kind: offerCurrent, token: &pushv1.Token{}},
		"current": {in: &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Current{Current: &pushv1.Current{
			Nonce: 7, Token: token, Revision: 2,
		}}}, kind: offerCurrent, token: token},
		"absent": {in: &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Absent{Absent: &pushv1.Absent{
			Nonce: 7, Reason: pushv1.AbsentReason_ABSENT_REASON_DELETED, Token: token,
		}}}, kind: offerAbsent},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readOffer(marshal(t, tc.in))
			if err != nil {
				t.Fatal(err)
			}
			if got.kind != tc.kind || got.nonce != 7 || string(got.content) != tc.content || string(got.hash) != string(tc.token.GetHash()) {
				t.Errorf("read %+v", got)
			}
			if (got.token == nil) != (tc.token == nil) {
				t.Fatalf("token %x", got.token)
			}
			report := &pushv1.StreamRequest{}
			if err := proto.Unmarshal(appendApplied(nil, got.nonce, got.token), report); err != nil {
				t.Fatal(err)
			}
			want := &pushv1.StreamRequest{Message: &pushv1.StreamRequest_Report{Report: &pushv1.Report{
				Nonce: 7, Phase: pushv1.Phase_PHASE_APPLIED, Desired: tc.token, Running: tc.token,
			}}}
			if !proto.Equal(report, want) {
				t.Errorf("answered %v, not %v", report, want)
			}
		})
	}
}

func TestOtherMessagesAreToldApart(t *testing.T) {
	for name, tc := range map[string]struct {
		in   *pushv1.StreamResponse
		kind protowire.Number
	}{
		"goaway":  {&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Goaway{Goaway: &pushv1.Goaway{Reason: "x"}}}, offerGoaway},
		"welcome": {&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Welcome{Welcome: &pushv1.Welcome{Epoch: 1}}}, 1},
		"command": {&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Command{Command: &pushv1.Command{Nonce: 1}}}, 8},
		"nothing": {&pushv1.StreamResponse{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := readOffer(marshal(t, tc.in)); err != nil || got.kind != tc.kind {
				t.Fatalf("read %+v, %v", got, err)
			}
		})
	}
}

func TestResponsesAreRead(t *testing.T) {
	in := &discovery.DiscoveryResponse{
		VersionInfo: "12", Nonce: "34", TypeUrl: xdsType,
		Resources: []*anypb.Any{{TypeUrl: "a", Value: []byte("12345")}, {TypeUrl: "b", Value: []byte("67")}},
	}
	got, err := readResponse(marshal(t, in))
	if err != nil || string(got.version) != "12" || string(got.nonce) != "34" || got.bytes != 7 {
		t.Fatalf("read %+v, %v", got, err)
	}
	ack := &discovery.DiscoveryRequest{}
	if err := proto.Unmarshal(appendACK(nil, got.version, got.nonce), ack); err != nil {
		t.Fatal(err)
	}
	if want := (&discovery.DiscoveryRequest{VersionInfo: "12", TypeUrl: xdsType, ResponseNonce: "34"}); !proto.Equal(ack, want) {
		t.Errorf("answered %v, not %v", ack, want)
	}
}

// A message that ends too early is an error wherever that is.
func TestBrokenMessagesAreErrors(t *testing.T) {
	snapshot := marshal(t, &pushv1.Snapshot{Nonce: 300, Token: &pushv1.Token{Hash: []byte("h")}, Content: []byte("c")})
	for cut := range len(snapshot) {
		b := protowire.AppendTag(nil, offerSnapshot, protowire.BytesType)
		b = protowire.AppendBytes(b, snapshot[:cut])
		in := &pushv1.StreamResponse{}
		_, err := readOffer(b)
		if want := proto.Unmarshal(b, in); (err == nil) != (want == nil) {
			t.Errorf("cut after %d bytes: %v, but package proto: %v", cut, err, want)
		}
	}
	if _, err := readResponse([]byte{0x12, 0x02, 0x12, 0x05}); err == nil {
		t.Error("a resource beyond its end was read")
	}
}
