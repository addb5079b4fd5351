package a2adoor_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/task/intask"
)

// The load: streams that begin tasks, and those that subscribe to some of the tasks.
const (
	manyTasks  = 1000
	watched    = 50
	watchersOf = 10
	fatPieces  = 40
	fatPiece   = 32 << 10 // bytes; all of them are more than what a connection that nobody reads takes
)

// gated is a model whose answers begin when the gate opens and come in pieces.
type gated struct{ gate chan struct{} }

// Generate implements model.Model.
func (g gated) Generate(ctx context.Context, r model.Request) iter.Seq2[model.Chunk, error] {
	pieces, size := 10, 100
	if r.Metadata["message_id"] == "fat" {
		pieces, size = fatPieces, fatPiece
	}
	return func(yield func(model.Chunk, error) bool) {
		select {
		case <-g.gate:
		case <-ctx.Done():
			yield(model.Chunk{}, ctx.Err())
			return
		}
		for i := range pieces {
			if !yield(model.Chunk{Text: fmt.Sprintf("%04d%s", i, strings.Repeat("x", size-4))}, nil) {
				return
			}
			select {
			case <-time.After(25 * time.Millisecond): // so that each piece is an event
			case <-ctx.Done():
				yield(model.Chunk{}, ctx.Err())
				return
			}
		}
		yield(model.Chunk{FinishReason: "stop", Usage: &model.Usage{InputTokens: 1, OutputTokens: 1}}, nil)
	}
}

// reader is one stream and what it saw.
type reader struct {
	task   string
	events [][sha256.Size]byte // of each after the task and the begin of its work
	text   int                 // bytes of the answer
	ended  bool                // by the task's end
	fault  *fault
}

// see takes an event in.
func (r *reader) see(s *pb.StreamResponse) error {
	if t := s.GetTask(); t != nil {
		r.task = t.GetId()
		return nil
	}
	if s.GetStatusUpdate().GetStatus().GetState() == pb.TaskState_TASK_STATE_WORKING {
		return nil
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
	if err != nil {
		return err
	}
	r.events = append(r.events, sha256.Sum256(b))
	for _, p := range s.GetArtifactUpdate().GetArtifact().GetParts() {
		r.text += len(p.GetText())
	}
	r.ended = s.GetStatusUpdate().GetStatus().GetState() == pb.TaskState_TASK_STATE_COMPLETED
	return nil
}

// crowd is many readers.
type crowd struct {
	readers sync.WaitGroup
	begun   sync.WaitGroup // done by each reader who knows his task
}

// join begins to read a stream.
func (c *crowd) join(t *testing.T, by client, op string, req proto.Message) *reader {
	t.Helper()
	r := &reader{}
	c.begun.Add(1)
	c.readers.Go(func() {
		first := sync.OnceFunc(c.begun.Done)
		defer first()
		r.fault = by.stream(t.Context(), t, op, req, func(s *pb.StreamResponse) bool {
			if err := r.see(s); err != nil {
				t.Error(err)
			}
			first()
			return true
		})
	})
	return r
}

// Each reader gets everything in the one order, whatever his binding and however many there are; one who reads nothing delays nobody and goes on where
// he was; and what all of it took is given back when the tasks' time is over.
func TestAThousandStreams(t *testing.T) { //nolint:paralleltest // it reads the heap and the goroutines of the process
	mine := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		goleak.VerifyNone(t, mine)
	})
	gate := make(chan struct{})
	tasks := intask.New(intask.Config{TTL: time.Second})
	r := newRig(t, func(rt *run.Runtime, cfg *a2adoor.Config) {
		rt.Model, rt.Builtins = gated{gate}, nil
		cfg.Store = tasks
	})
	life, end := context.WithCancel(t.Context())
	defer end()
	go func() { _ = tasks.Run(life) }()

	before := memory()
	var clients []client
	for range 10 { // an HTTP/2 connection takes at most 250 streams
		for _, name := range []string{"JSONRPC", "HTTP+JSON", "GRPC", "GRPC"} {
			clients = append(clients, r.bindings(t, "")[name])
		}
	}
	var all crowd
	began := make([]*reader, manyTasks)
	for i := range began {
		id := fmt.Sprint("m", i)
		if i == 0 {
			id = "fat"
		}
		began[i] = all.join(t, clients[i%len(clients)], "SendStreamingMessage", say(id))
	}
	all.begun.Wait()
	groups := make([][]*reader, watched)
	for i := range groups {
		groups[i] = []*reader{began[i]}
		for j := range watchersOf {
			groups[i] = append(groups[i], all.join(t, clients[(i+j)%len(clients)], "SubscribeToTask", &pb.SubscribeToTaskRequest{Id: began[i].task}))
		}
	}
	all.begun.Wait()
	stalled := stall(t, r, began[0].task)
	open := memory()
	close(gate)
	all.readers.Wait()

	if got := stalled.sent.Load(); got > fatPieces*fatPiece/2 {
		t.Errorf("who reads nothing was sent %d bytes: nothing stalled", got)
	}
	for i, b := range began {
		want := 1000
		if i == 0 {
			want = fatPieces * fatPiece
		}
		if b.fault != nil || !b.ended || b.text != want {
			t.Fatalf("stream %d: ended %v after %d bytes of text, want %d; %+v", i, b.ended, b.text, want, b.fault)
		}
	}
	for i, g := range groups {
		for j, other := range g[1:] {
			if other.fault != nil || !slices.Equal(other.events, g[0].events) {
				t.Errorf("task %d: subscriber %d saw %d events, another order than the %d of the stream; %+v", i, j, len(other.events), len(g[0].events), other.fault)
			}
		}
	}
	// One whose write takes longer than the door waits was cut off meanwhile, on a machine that is slow enough: then it is the beginning that he saw.
	late := stalled.read(t)
	if n := len(late.events); n == 0 || n > len(began[0].events) || !slices.Equal(late.events, began[0].events[:n]) {
		t.Errorf("who stalled saw %d events, in another order than the %d of others", n, len(began[0].events))
	}
	t.Logf("who stalled saw %d events of %d", len(late.events), len(began[0].events))
	stalled.close()

	http.DefaultClient.CloseIdleConnections()
	const streams = manyTasks + watched*watchersOf
	perStream := (open - before) / streams
	t.Logf("%d streams: %d KB of memory each, on both of their ends; %d MB before", streams, perStream>>10, before>>20)
	if perStream > 128<<10 {
		t.Errorf("an open stream takes %d bytes", perStream)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		n, bytes := tasks.Len()
		after := memory()
		if n == 0 && bytes == 0 && after-before < 16<<20 {
			t.Logf("%d MB after", after>>20)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d tasks of %d bytes are held; memory was %d MB before and is %d MB now", n, bytes, before>>20, after>>20)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the test ended")
		}
	}
}

// memory is the heap that is in use, after a collection.
func memory() int64 {
	runtime.GC()
	runtime.GC() // what pools kept goes with the second one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) // #nosec G115 -- less than 8 EiB
}

// staller is a subscriber who asks and doesn't read.
type staller struct {
	sent   *atomic.Int64 // bytes that the door could write to him
	conn   net.Conn
	server *http.Server
	served chan struct{}
}

// counting is a listener whose connections have small buffers, and count what is written.
type counting struct {
	net.Listener

	sent *atomic.Int64
}

// Accept implements net.Listener.
func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(16 << 10)
	}
	return countingConn{Conn: c, sent: l.sent}, nil
}

type countingConn struct {
	net.Conn

	sent *atomic.Int64
}

// Write implements net.Conn.
func (c countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

// stall subscribes to a task by a connection of its own, reads that the stream begins, and then nothing.
func stall(t *testing.T, r *rig, taskID string) *staller {
	t.Helper()
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &staller{sent: &atomic.Int64{}, served: make(chan struct{}), server: &http.Server{Handler: r.Config.Handler, ReadHeaderTimeout: time.Minute}}
	go func() {
		defer close(s.served)
		if err := s.server.Serve(counting{l, s.sent}); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	var dial net.Dialer
	if s.conn, err = dial.DialContext(t.Context(), "tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	if tcp, ok := s.conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(16 << 10)
	}
	if _, err := fmt.Fprintf(s.conn, "GET /a2a/v1/tasks/%s:subscribe HTTP/1.1\r\nHost: x\r\nA2A-Version: 1.0\r\n\r\n", taskID); err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := s.conn.Read(one); err != nil || one[0] != 'H' {
		t.Fatalf("no answer: %q, %v", one, err)
	}
	return s
}

// read goes on to the end of the stream.
func (s *staller) read(t *testing.T) *reader {
	t.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(&withFirst{Conn: s.conn}), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	out := &reader{}
	for data := range lines(resp.Body) {
		event := &pb.StreamResponse{}
		if protojson.Unmarshal(data, event) != nil {
			break // cut off in the middle
		}
		if err := out.see(event); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// withFirst gives the byte that was read already first.
type withFirst struct {
	net.Conn

	given bool
}

// Read implements io.Reader.
func (w *withFirst) Read(b []byte) (int, error) {
	if !w.given && len(b) > 0 {
		w.given = true
		b[0] = 'H'
		return 1, nil
	}
	return w.Conn.Read(b)
}

// close may be called twice.
func (s *staller) close() {
	_ = s.conn.Close()
	_ = s.server.Close()
	<-s.served
}
