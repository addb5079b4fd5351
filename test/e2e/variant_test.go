package e2e

import (
	"testing"

	"github.com/agentry/agentry/test/harness"
)

const root = "../.."

// nextRelease is a release after this one: a new field "voice" of an agent, needing a capability of its own where its value isn't
// "bare" and refused without it where it is "must"; and a push protocol with a new field in every message, a new kind
// of message on both sides and a new phase.
func nextRelease() []harness.Change {
	return []harness.Change{
		{
			File: "internal/spec/agent.go", Old: "\tSkills          []Skill           `json:\"skills,omitempty\"`\n",
			New: "\tSkills          []Skill           `json:\"skills,omitempty\"`\n\tVoice string `json:\"voice,omitempty\"`\n",
		},
		{
			File: "internal/spec/table_agent.go", Old: "\t\tlist(\"skills\", OnRequest,",
			New: "\t\tstr(\"voice\", OnRequest, \"How it sounds.\"),\n\t\tlist(\"skills\", OnRequest,",
		},
		{
			File: "internal/spec/capability.go", Old: "\treturn []string{",
			New: "\treturn []string{\"voice\", ",
		},
		{
			File: "internal/spec/requires.go", Old: "\tvar r requirements\n\tr.when(len(a.Skills)",
			New: "\tvar r requirements\n\tif a.Voice != \"\" && a.Voice != \"bare\" {\n" +
				"\t\tr = append(r, Requirement{Capability: \"voice\", Field: \"voice\", Refuse: a.Voice == \"must\"})\n\t}\n\tr.when(len(a.Skills)",
		},
		{File: "internal/version/version.go", Old: `const Release = "0.1.0"`, New: `const Release = "0.2.0"`},
		{
			File: "gen/agentry/push/v1/push_grpc.pb.go", Old: "{ServerStream: stream}", New: "{ServerStream: &nextServer{ServerStream: stream}}",
		},
		{
			File: "gen/agentry/push/v1/push_grpc.pb.go", Old: "{ClientStream: stream}", New: "{ClientStream: &nextClient{ClientStream: stream}}",
		},
		{File: "gen/agentry/push/v1/next.go", New: nextWire},
	}
}

// nextWire puts on the wire what a newer push.proto would: for the other side, a field or a member of a oneof that isn't in its own
// proto is an unknown field, whatever made it.
const nextWire = `package pushv1

import (
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func news() []byte {
	b := protowire.AppendTag(nil, 901, protowire.BytesType)
	b = protowire.AppendBytes(b, []byte("of the next release"))
	b = protowire.AppendTag(b, 902, protowire.VarintType)
	return protowire.AppendVarint(b, 7)
}

// plant gives a new field to every message in m.
func plant(m protoreflect.Message) {
	if snapshot, ok := m.Interface().(*Snapshot); ok {
		snapshot.Content = append(append([]byte(nil), snapshot.Content...), news()...)
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() || f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				plant(v.List().Get(i).Message())
			}
		default:
			plant(v.Message())
		}
		return true
	})
	if m.Descriptor().ParentFile().Package() == "agentry.push.v1" {
		m.SetUnknown(news())
	}
}

// member is a message whose oneof holds a member of the next release.
func member(m proto.Message) proto.Message {
	m.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 90, protowire.BytesType), []byte("x")))
	return m
}

type nextServer struct {
	grpc.ServerStream
	sent int
}

func (s *nextServer) SendMsg(m any) error {
	c := proto.Clone(m.(proto.Message))
	plant(c.ProtoReflect())
	s.sent++
	if s.sent == 2 {
		if err := s.ServerStream.SendMsg(member(&StreamResponse{})); err != nil {
			return err
		}
		command := &Command{Kind: CommandKind(77)}
		if err := s.ServerStream.SendMsg(&StreamResponse{Message: &StreamResponse_Command{Command: command}}); err != nil {
			return err
		}
	}
	return s.ServerStream.SendMsg(c)
}

type nextClient struct {
	grpc.ClientStream
	sent int
}

func (s *nextClient) SendMsg(m any) error {
	c := proto.Clone(m.(proto.Message))
	plant(c.ProtoReflect())
	s.sent++
	if s.sent == 2 {
		if err := s.ClientStream.SendMsg(member(&StreamRequest{})); err != nil {
			return err
		}
		report := &Report{Phase: Phase(77)}
		if err := s.ClientStream.SendMsg(&StreamRequest{Message: &StreamRequest_Report{Report: report}}); err != nil {
			return err
		}
	}
	return s.ClientStream.SendMsg(c)
}
`

// variant builds a program of the next release.
func variant(t *testing.T, dir, program string, changes []harness.Change) string {
	t.Helper()
	path, err := harness.BuildVariant(t.Context(), root, dir, program, changes)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
