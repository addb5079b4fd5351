package app

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// answer is what came of a call.
type answer struct {
	Code    connect.Code // 0: none
	Message string
	Details []string
	Objects []string // namespace/name
}

func (a answer) is(v verdict, about target) bool {
	switch v {
	case unknown:
		return a.Code == connect.CodeUnauthenticated
	case denied:
		return a.Code == connect.CodePermissionDenied && strings.Contains(a.Message, " needs ")
	case absent:
		return a.Code == connect.CodeNotFound && a.Message == about.kind+" "+about.namespace+"/"+about.name+" doesn't exist" && a.Details == nil
	case unmounted:
		return a.Code == connect.CodeUnimplemented
	default:
		return a.Code != connect.CodeUnauthenticated && a.Code != connect.CodePermissionDenied
	}
}

// transport is a way of speaking to the door.
type transport struct {
	name   string
	client *http.Client
	opts   []connect.ClientOption
}

func matrixTransports(t *testing.T) []transport {
	t.Helper()
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	h1 := &http.Transport{MaxIdleConnsPerHost: 8}
	t.Cleanup(h2.CloseIdleConnections)
	t.Cleanup(h1.CloseIdleConnections)
	return []transport{
		{"grpc", &http.Client{Transport: h2}, []connect.ClientOption{connect.WithGRPC()}},
		{"grpc-web", &http.Client{Transport: h1}, []connect.ClientOption{connect.WithGRPCWeb()}},
		{"connect", &http.Client{Transport: h1}, []connect.ClientOption{connect.WithProtoJSON()}},
	}
}

// call asks and gives the answer. of is how many objects of a stream are waited for.
func (m method) call(t *testing.T, base string, tr transport, bearer string, about target, of int) answer {
	t.Helper()
	opts := append(slices.Clone(tr.opts), connect.WithSchema(m.desc), connect.WithResponseInitializer(func(_ connect.Spec, msg any) error {
		*msg.(*dynamicpb.Message) = *dynamicpb.NewMessage(m.desc.Output()) //nolint:errcheck,forcetypeassert // the client's own type
		return nil
	}))
	c := connect.NewClient[dynamicpb.Message, dynamicpb.Message](tr.client, base+m.name, opts...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req := connect.NewRequest(m.request(t, about))
	if bearer != "" {
		req.Header().Set("Authorization", "Bearer "+bearer)
	}
	if m.desc.IsStreamingClient() {
		return m.upload(ctx, c, req)
	}
	if !m.desc.IsStreamingServer() {
		resp, err := c.CallUnary(ctx, req)
		if err != nil {
			return failure(err)
		}
		return answer{Objects: m.objects(resp.Msg, about)}
	}
	stream, err := c.CallServerStream(ctx, req)
	if err != nil {
		return failure(err)
	}
	defer func() { cancel(); _ = stream.Close() }()
	var out answer
	if m.lists == nil {
		for stream.Receive() {
		}
		return failure(stream.Err())
	}
	if of == 0 && !m.lists.bookmark { // nothing will come: it is enough that nobody refuses
		timer := time.AfterFunc(200*time.Millisecond, cancel)
		defer timer.Stop()
	}
	for stream.Receive() {
		got := m.objects(stream.Msg(), about)
		out.Objects = append(out.Objects, got...)
		if m.lists.bookmark && got == nil || !m.lists.bookmark && len(out.Objects) == of {
			return out
		}
	}
	if of == 0 && connect.CodeOf(stream.Err()) == connect.CodeCanceled {
		return out
	}
	return failure(stream.Err())
}

// upload sends one message and gives the answer.
func (m method) upload(ctx context.Context, c *connect.Client[dynamicpb.Message, dynamicpb.Message], req *connect.Request[dynamicpb.Message]) answer {
	stream := c.CallClientStream(ctx)
	maps.Copy(stream.RequestHeader(), req.Header())
	_ = stream.Send(req.Msg) // the answer tells what went wrong
	resp, err := stream.CloseAndReceive()
	if err != nil {
		return failure(err)
	}
	return answer{Objects: m.objects(resp.Msg, target{})}
}

func failure(err error) answer {
	if err == nil {
		return answer{}
	}
	out := answer{Code: connect.CodeOf(err)}
	if e := new(connect.Error); errors.As(err, &e) {
		out.Message = e.Message()
		for _, d := range e.Details() {
			out.Details = append(out.Details, d.Type()+" "+string(d.Bytes()))
		}
	}
	return out
}

// objects reads the objects of an answer.
func (m method) objects(msg *dynamicpb.Message, about target) []string {
	if m.lists == nil {
		return nil
	}
	f := m.desc.Output().Fields().ByName(protoreflect.Name(m.lists.items))
	var items []protoreflect.Message
	switch {
	case f.IsList():
		for i := range msg.Get(f).List().Len() {
			items = append(items, msg.Get(f).List().Get(i).Message())
		}
	case msg.Has(f):
		items = append(items, msg.Get(f).Message())
	}
	var out []string
	for _, item := range items {
		text := func(name string) string {
			return item.Get(item.Descriptor().Fields().ByName(protoreflect.Name(name))).String()
		}
		namespace := about.namespace
		if m.lists.namespace != "" {
			namespace = text(m.lists.namespace)
		}
		out = append(out, namespace+"/"+text(m.lists.key))
	}
	return out
}

// seen gives what a list should hold.
func (m method) seen(p *person, about target) []string {
	if m.lists == nil {
		return nil
	}
	var out []string
	for _, namespace := range []string{"mine", "theirs"} {
		for _, name := range []string{"bot", "other"} {
			o := target{namespace: namespace, kind: m.lists.kind, name: name}
			if (about.namespace == everywhere || about.namespace == namespace) && p.holds(m.lists.permission, o) {
				out = append(out, namespace+"/"+name)
			}
		}
	}
	return out
}
