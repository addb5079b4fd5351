package h2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// script is a server that speaks in frames, for what a real one can't be made to do.
type script struct {
	*http2.Framer

	nc net.Conn
}

// header sends the first stream's header or trailers.
func (s *script) header(end bool, fields ...string) error {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		if err := enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			return err
		}
	}
	// Two frames, so that the second is a continuation.
	half := b.Len() / 2
	return errors.Join(
		s.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b.Bytes()[:half], EndStream: end}),
		s.WriteContinuation(1, true, b.Bytes()[half:]))
}

// until reads frames until one is of a type.
func (s *script) until(want http2.FrameType) (http2.Frame, error) {
	for {
		f, err := s.ReadFrame()
		if err != nil || f.Header().Type == want {
			return f, err
		}
	}
}

// play connects to a script, which is handed the connection after its settings.
func play(t *testing.T, f func(s *script) error, settings ...http2.Setting) *Conn {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	played := make(chan error, 1)
	go func() {
		played <- func() error {
			nc, err := ln.Accept()
			if err != nil {
				return err
			}
			defer func() { _ = nc.Close() }()
			if err := nc.SetDeadline(time.Now().Add(limit)); err != nil {
				return err
			}
			if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
				return err
			}
			s := &script{Framer: http2.NewFramer(nc, nc), nc: nc}
			if err := s.WriteSettings(settings...); err != nil {
				return err
			}
			if err := f(s); err != nil {
				return err
			}
			// What the client still says is taken, so that what was sent reaches it.
			if tcp, ok := nc.(*net.TCPConn); ok {
				err = tcp.CloseWrite()
			}
			_, _ = io.Copy(io.Discard, nc)
			return err
		}()
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		if err := <-played; err != nil {
			t.Errorf("the script: %v", err)
		}
	})
	return dial(t, ln.Addr().String(), nil)
}

// A message may be cut anywhere, lie with others in a padded frame, and lie in frames between those of another stream.
func TestSplitMessages(t *testing.T) {
	c := play(t, func(s *script) error {
		if _, err := s.until(http2.FrameHeaders); err != nil {
			return err
		}
		const all = "\x00\x00\x00\x00\x03one" + "\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x05three" + "\x00\x00\x00\x00\x04four"
		err := s.header(false, ":status", "200", "content-type", "application/grpc")
		for _, part := range []string{all[:2], all[2:6], all[6:7], all[7:20]} {
			err = errors.Join(err, s.WriteData(1, false, []byte(part)), s.WriteData(3, false, []byte("of another stream")))
		}
		return errors.Join(err, s.WriteDataPadded(1, false, []byte(all[20:]), make([]byte, 7)), s.header(true, "grpc-status", "0"))
	})
	if err := c.Open(nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "", "three", "four"} {
		if got, err := c.Recv(); err != nil || string(got) != want {
			t.Fatalf("%q instead of %q, %v", got, want, err)
		}
	}
	if _, err := c.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("the end: %v", err)
	}
}

// Windows are given back when half of them is used, not for each message.
func TestUpdatesAreFew(t *testing.T) {
	const messages, size = 64, 8 << 10 // half a megabyte: 4 times half of the window
	done := make(chan map[uint32]uint32, 1)
	counts := make(chan int, 1)
	c := play(t, func(s *script) error {
		if _, err := s.until(http2.FrameHeaders); err != nil {
			return err
		}
		err := s.header(false, ":status", "200")
		msg := append([]byte{0, 0, 0, 0x20, 0}, make([]byte, size)...)
		given, n := map[uint32]uint32{}, 0
		for range messages {
			if err = errors.Join(err, s.WriteData(1, false, msg)); err != nil {
				return err
			}
			for { // an answer to each, so that updates have come before the next
				f, err := s.ReadFrame()
				if err != nil {
					return err
				}
				if u, ok := f.(*http2.WindowUpdateFrame); ok {
					given[u.StreamID] += u.Increment
					n++
				}
				if d, ok := f.(*http2.DataFrame); ok && len(d.Data()) == prefix+2 {
					break
				}
			}
		}
		done <- given
		counts <- n
		return nil
	})
	if err := c.Open(nil); err != nil {
		t.Fatal(err)
	}
	for range messages {
		if _, err := c.Recv(); err != nil {
			t.Fatal(err)
		}
		if err := c.Send([]byte("ok")); err != nil {
			t.Fatal(err)
		}
	}
	given, n := <-done, <-counts
	sent := uint32(messages * (size + prefix))
	if n > 8 {
		t.Errorf("%d updates for %d messages", n, messages)
	}
	for _, id := range []uint32{0, 1} {
		if given[id] > sent || given[id]+Window/2 < sent {
			t.Errorf("%d of %d bytes given back for stream %d", given[id], sent, id)
		}
	}
}

// What is sent obeys the server's largest frame and its windows, for the stream as for the connection.
func TestSendingObeysTheServer(t *testing.T) {
	const size = 100_000
	c := play(t, func(s *script) error {
		got, room := 0, 70_000-1 // the initial window of the stream; the connection's is 65,535
		total := defaultWindow
		for got < size+prefix {
			f, err := s.ReadFrame()
			if err != nil {
				return err
			}
			d, ok := f.(*http2.DataFrame)
			if !ok {
				continue
			}
			n := len(d.Data())
			got, room, total = got+n, room-n, total-n
			if n > frameSize || room < 0 || total < 0 {
				return errors.New("more was sent than was allowed")
			}
			if total == 0 { // nothing more may come until there is room
				total = 50_000
				err = s.WriteWindowUpdate(0, 50_000)
			} else if room == 0 {
				room = 40_000
				err = s.WriteWindowUpdate(1, 40_000)
			}
			if err != nil {
				return err
			}
		}
		return s.header(true, ":status", "200", "grpc-status", "0")
	}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 70_000 - 1}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	if err := c.Open(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("the end: %v", err)
	}
}

// Pings are answered while a stream waits and while there is none; settings are confirmed.
func TestPingsAreAnswered(t *testing.T) {
	idle := make(chan struct{})
	c := play(t, func(s *script) error {
		for i := range 2 {
			if err := s.WritePing(false, [8]byte{byte(i)}); err != nil {
				return err
			}
			f, err := s.until(http2.FramePing)
			if err != nil {
				return err
			}
			if p, ok := f.(*http2.PingFrame); !ok || !p.IsAck() || p.Data[0] != byte(i) {
				return errors.New("the ping wasn't answered")
			}
			if i == 0 {
				if err := s.header(true, ":status", "200", "grpc-status", "0"); err != nil {
					return err
				}
				<-idle
			}
		}
		return nil
	})
	if err := c.Open(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recv(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	close(idle)
	if err := c.Idle(limit); !errors.Is(err, io.EOF) { // the script hangs up when the answer is there
		t.Fatal(err)
	}
}

func TestFramesThatEndAStream(t *testing.T) {
	for name, tc := range map[string]struct {
		send func(s *script) error
		want string
	}{
		"reset":  {func(s *script) error { return s.WriteRSTStream(1, http2.ErrCodeRefusedStream) }, "REFUSED_STREAM"},
		"goaway": {func(s *script) error { return s.WriteGoAway(0, http2.ErrCodeNo, []byte("full")) }, "goes away"},
		"promise": {func(s *script) error {
			return s.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
		}, "promise"},
		"status":     {func(s *script) error { return s.header(false, ":status", "503") }, "503"},
		"no status":  {func(s *script) error { return s.header(true, ":status", "200") }, "grpc-status"},
		"compressed": {data("\x01\x00\x00\x00\x01a"), "compression 1"},
		"too large":  {data("\x00\x7f\x00\x00\x00"), "2130706432 bytes"},
		"data first": {func(s *script) error { return s.WriteData(1, false, []byte("a")) }, "before the header"},
	} {
		t.Run(name, func(t *testing.T) {
			c := play(t, func(s *script) error {
				_, err := s.until(http2.FrameHeaders)
				return errors.Join(err, tc.send(s))
			})
			if err := c.Open(nil); err != nil {
				t.Fatal(err)
			}
			_, err := c.Recv()
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("ended with %v, not with %s", err, tc.want)
			}
		})
	}
}

func data(bytes string) func(s *script) error {
	return func(s *script) error {
		return errors.Join(s.header(false, ":status", "200"), s.WriteData(1, false, []byte(bytes)))
	}
}

// lifted tells when a deadline for reading is taken away.
type lifted struct {
	net.Conn

	once sync.Once
	done chan struct{}
}

func (l *lifted) SetReadDeadline(t time.Time) error {
	if t.IsZero() {
		l.once.Do(func() { close(l.done) })
	}
	return l.Conn.SetReadDeadline(t)
}

// A wait never ends between the bytes of a frame: with the first one its deadline is gone.
func TestAWaitDoesNotCutAFrame(t *testing.T) {
	done := make(chan struct{})
	c := play(t, func(s *script) error {
		if _, err := s.nc.Write([]byte{0, 0}); err != nil { // of the header of a ping
			return err
		}
		select {
		case <-done:
		case <-time.After(limit):
			return errors.New("the deadline wasn't lifted")
		}
		ping := append([]byte{8, byte(http2.FramePing), 0, 0, 0, 0, 0}, make([]byte, 8)...)
		if _, err := s.nc.Write(ping); err != nil {
			return err
		}
		_, err := s.until(http2.FramePing)
		return err
	})
	c.nc = &lifted{Conn: c.nc, done: done}
	if err := c.Idle(limit); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// The same header is read alike by every server, whatever came before it on the connection.
func TestTheHeaderStandsAlone(t *testing.T) {
	b, err := Header("host:1", "/a.B/C", true)
	if err != nil {
		t.Fatal(err)
	}
	dec := hpack.NewDecoder(4096, nil)
	for range 2 {
		fields, err := dec.DecodeFull(b)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, f := range fields {
			got[f.Name] = f.Value
		}
		if got[":path"] != "/a.B/C" || got[":scheme"] != "https" || got[":authority"] != "host:1" || got[":method"] != "POST" || got["te"] != "trailers" {
			t.Fatal(got)
		}
	}
}

// A message that can't be unescaped is told as it came.
func TestABrokenMessageIsTold(t *testing.T) {
	c := play(t, func(s *script) error {
		_, err := s.until(http2.FrameHeaders)
		return errors.Join(err, s.header(true, ":status", "200", "grpc-status", "14", "grpc-message", "a%2Cb%"))
	})
	if err := c.Open(nil); err != nil {
		t.Fatal(err)
	}
	_, err := c.Recv()
	if s := status.Convert(err); s.Code() != codes.Unavailable || s.Message() != "a%2Cb%" {
		t.Fatal(err)
	}
}
