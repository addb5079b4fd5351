package a2a

import (
	"bufio"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// stream is an open stream. It is one goroutine's.
type stream struct {
	caller caller
	cancel context.CancelFunc
	first  *pb.StreamResponse // read already, to see whether there is a stream at all
	ended  bool               // before any event
	// read gives the next event: io.EOF at a clean end.
	read func() (*pb.StreamResponse, error)
	// broke is the fault that ended the stream, after it had begun.
	broke *fault
	shut  func()
}

// errBroken ends a stream by a fault.
var errBroken = errors.New("the stream ended by a fault")

// open begins a stream and reads its first event. A refusal before that is the answer, and the stream is nil.
func (c caller) open(t *testing.T, op, request string) (*stream, answer) {
	t.Helper()
	ctx, cancel := c.patient(t)
	s := &stream{caller: c, cancel: cancel, shut: func() {}}
	var a answer
	if c.binding == gRPC {
		a = s.openGRPC(ctx, t, op, request)
	} else {
		a = s.openSSE(ctx, t, op, request)
	}
	if a.fault != nil {
		s.close()
		return nil, a
	}
	t.Cleanup(s.close)
	return s, a
}

// stream begins a stream that has to begin.
func (c caller) stream(t *testing.T, op, request string) *stream {
	t.Helper()
	s, a := c.open(t, op, request)
	if s == nil {
		t.Fatalf("%s %s: %+v", op, request, a.fault)
	}
	return s
}

// close leaves the stream.
func (s *stream) close() {
	s.cancel()
	s.shut()
}

// next gives the next event, nil at the clean end.
func (s *stream) next(t *testing.T) *pb.StreamResponse {
	t.Helper()
	if m := s.first; m != nil {
		s.first = nil
		return m
	}
	if s.ended {
		return nil
	}
	m, err := s.read()
	switch {
	case errors.Is(err, io.EOF):
		s.ended = true
		return nil
	case errors.Is(err, errBroken):
		t.Fatalf("the stream ended by %+v", s.broke)
	case err != nil:
		t.Fatalf("the stream: %v", err)
	}
	return m
}

// all gives what comes until the clean end.
func (s *stream) all(t *testing.T) []*pb.StreamResponse {
	t.Helper()
	var out []*pb.StreamResponse
	for m := s.next(t); m != nil; m = s.next(t) {
		out = append(out, m)
	}
	return out
}

// openSSE begins a stream of Server-Sent Events.
func (s *stream) openSSE(ctx context.Context, t *testing.T, op, request string) answer {
	t.Helper()
	c := s.caller
	method, address, body := http.MethodPost, c.address[jsonrpc], rpcRequest(op, c.withTenant(t, request))
	if c.binding == rest {
		method, address, body = c.restRequest(t, op, request)
	}
	resp := c.http(ctx, t, method, address, body, "text/event-stream") //nolint:bodyclose // shut closes it
	s.shut = func() { _ = resp.Body.Close() }
	a := answer{status: resp.StatusCode, header: resp.Header}
	if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media != "text/event-stream" {
		a.body = whole(t, resp)
		if c.binding == rest {
			a.readREST(t)
		} else {
			a.readRPC(t, a.body)
		}
		if a.fault == nil {
			t.Fatalf("%s: neither a stream nor an error: %s", op, a.body)
		}
		return a
	}
	lines := bufio.NewReader(resp.Body)
	s.read = func() (*pb.StreamResponse, error) {
		data, err := eventData(lines)
		if err != nil {
			return nil, err
		}
		return s.event(t, data)
	}
	return s.begin(t, a)
}

// begin reads the first event.
func (s *stream) begin(t *testing.T, a answer) answer {
	t.Helper()
	m, err := s.read()
	switch {
	case errors.Is(err, io.EOF):
		s.ended = true
	case errors.Is(err, errBroken):
		a.fault = s.broke
	case err != nil:
		t.Fatalf("the stream: %v", err)
	default:
		s.first = m
		a.readGRPC(t, m, nil)
	}
	return a
}

// event reads one event's data.
func (s *stream) event(t *testing.T, data string) (*pb.StreamResponse, error) {
	t.Helper()
	result := []byte(data)
	if s.caller.binding == jsonrpc {
		a := answer{}
		in := a.readRPC(t, result)
		if string(in.ID) != rpcID {
			t.Errorf("an event of id %s, want %s", in.ID, rpcID)
		}
		if a.fault != nil {
			s.broke = a.fault
			return nil, errBroken
		}
		result = a.result
	} else if strings.HasPrefix(data, `{"error":`) {
		s.broke = restFault(t, result)
		return nil, errBroken
	}
	m := &pb.StreamResponse{}
	strictly(t, result, m)
	return m, nil
}

// eventData gives the data of the next Server-Sent Event that has some.
func eventData(r *bufio.Reader) (string, error) {
	var data []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			if errors.Is(err, io.EOF) && (len(data) > 0 || line != "") {
				return "", io.ErrUnexpectedEOF
			}
			return "", err
		}
		line = strings.TrimRight(line, "\r\n")
		value, isData := strings.CutPrefix(line, "data:")
		switch {
		case isData:
			data = append(data, strings.TrimPrefix(value, " "))
		case line == "" && len(data) > 0:
			return strings.Join(data, "\n"), nil
		}
	}
}

// openGRPC begins a server stream.
func (s *stream) openGRPC(ctx context.Context, t *testing.T, op, request string) answer {
	t.Helper()
	c := s.caller
	in, like := messagesOf(t, op)
	c.asProto(t, request, in)
	out, err := c.conn.NewStream(c.outgoing(ctx), &grpc.StreamDesc{ServerStreams: true}, service+op)
	if err == nil {
		err = out.SendMsg(in)
	}
	if err == nil {
		err = out.CloseSend()
	}
	if err != nil {
		t.Fatalf("%s: %v", op, err)
	}
	s.read = func() (*pb.StreamResponse, error) {
		m := proto.Clone(like)
		switch err := out.RecvMsg(m); {
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		case err != nil:
			s.broke = grpcFault(t, err)
			return nil, errBroken
		}
		event, ok := m.(*pb.StreamResponse)
		if !ok {
			t.Fatalf("a stream of %T", m)
		}
		return event, nil
	}
	a := s.begin(t, answer{})
	md, err := out.Header()
	if err != nil {
		md = nil
	}
	if a.fault != nil { // then the stream is over, and may be asked for its end
		md = metadata.Join(md, out.Trailer())
	}
	a.header = asHeader(md)
	return a
}
