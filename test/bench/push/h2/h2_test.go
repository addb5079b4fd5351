package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness/pki"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// limit bounds a test's waiting.
const limit = 20 * time.Second

// serve runs a real gRPC server with one handler for all methods; it gives its address.
func serve(t *testing.T, h grpc.StreamHandler, opts ...grpc.ServerOption) (*grpc.Server, string) {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(append(opts, grpc.UnknownServiceHandler(h))...)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return srv, ln.Addr().String()
}

func dial(t *testing.T, target string, settings *tls.Config) *Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	header, err := Header(target, "/bench.Test/Stream", settings != nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Dial(ctx, Config{Target: target, TLS: settings, Header: header})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func message(t *testing.T, size int) []byte {
	t.Helper()
	b, err := proto.Marshal(wrapperspb.Bytes(bytes.Repeat([]byte{byte(size)}, size)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// echo sends every message back.
func echo(_ any, s grpc.ServerStream) error {
	for {
		m := &wrapperspb.BytesValue{}
		if err := s.RecvMsg(m); err != nil {
			return err
		}
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
}

// secured gives the settings of both ends.
func secured(t *testing.T, sessions tls.ClientSessionCache) (server, client *tls.Config) {
	t.Helper()
	ca, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	door, err := ca.ControlPlane("test")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Agent("default", "a", "")
	if err != nil {
		t.Fatal(err)
	}
	client = ca.Client(leaf, sessions)
	client.NextProtos, client.ServerName = []string{"h2"}, "test"
	return ca.Server(door), client
}

// Messages that fill several frames, and more than both ends' windows, come through whole in both directions.
func TestMessagesOfAnySize(t *testing.T) {
	for name, secure := range map[string]bool{"plaintext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			// The least windows: what the client sends has to wait for updates.
			opts := []grpc.ServerOption{grpc.StaticStreamWindowSize(defaultWindow), grpc.StaticConnWindowSize(defaultWindow)}
			var client *tls.Config
			if secure {
				var server *tls.Config
				server, client = secured(t, nil)
				opts = append(opts, grpc.Creds(credentials.NewTLS(server)))
			}
			_, target := serve(t, echo, opts...)
			c := dial(t, target, client)
			first := message(t, 1)
			if err := c.Open(first); err != nil {
				t.Fatal(err)
			}
			sent := [][]byte{first}
			for _, size := range []int{0, 3000, frameSize - prefix - 4, frameSize, 100_000, 2, 500_000} {
				sent = append(sent, message(t, size))
			}
			for i, want := range sent {
				if i > 0 {
					if err := c.Send(want); err != nil {
						t.Fatal(err)
					}
				}
				if got, err := c.Recv(); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("message %d: %d bytes instead of %d, %v", i, len(got), len(want), err)
				}
			}
		})
	}
}

// A server that sends many times the window isn't held up, and messages that lie together are told apart.
func TestTheWindowIsGivenBack(t *testing.T) {
	const many, size = 3000, 1000
	_, target := serve(t, func(_ any, s grpc.ServerStream) error {
		for range many {
			if err := s.SendMsg(wrapperspb.Bytes(make([]byte, size))); err != nil {
				return err
			}
		}
		return nil
	})
	c := dial(t, target, nil)
	if err := c.Open(nil); err != nil {
		t.Fatal(err)
	}
	want := message(t, size)
	clear(want[len(want)-size:])
	for i := range many {
		if got, err := c.Recv(); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("message %d: %d bytes, %v", i, len(got), err)
		}
	}
	if _, err := c.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("the end: %v", err)
	}
}

func TestHowAStreamEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		messages int
		end      error
	}{
		"OK":                       {messages: 1},
		"OK without a message":     {},
		"an error":                 {messages: 1, end: status.Error(codes.ResourceExhausted, "100 % full: größer")},
		"an error without message": {end: status.Error(codes.Unavailable, "not yet")},
	} {
		t.Run(name, func(t *testing.T) {
			_, target := serve(t, func(_ any, s grpc.ServerStream) error {
				for range tc.messages {
					if err := s.SendMsg(wrapperspb.Bytes(nil)); err != nil {
						return err
					}
				}
				return tc.end
			})
			c := dial(t, target, nil)
			if err := c.Open(nil); err != nil {
				t.Fatal(err)
			}
			for range tc.messages {
				if _, err := c.Recv(); err != nil {
					t.Fatal(err)
				}
			}
			_, err := c.Recv()
			if tc.end == nil {
				if !errors.Is(err, io.EOF) {
					t.Fatalf("ended with %v", err)
				}
				return
			}
			want := status.Convert(tc.end)
			if got := status.Convert(err); got.Code() != want.Code() || got.Message() != want.Message() {
				t.Fatalf("ended with %v, not %v", err, tc.end)
			}
		})
	}
}

// A connection serves a stream after the other, and TLS sessions are resumed by further connections.
func TestStreamsAndSessionsAreTakenUp(t *testing.T) {
	server, client := secured(t, tls.NewLRUClientSessionCache(1))
	_, target := serve(t, func(_ any, s grpc.ServerStream) error {
		p, _ := peer.FromContext(s.Context())
		info, ok := p.AuthInfo.(credentials.TLSInfo)
		if !ok {
			return status.Error(codes.Unauthenticated, "no TLS")
		}
		return s.SendMsg(wrapperspb.String(fmt.Sprint(p.Addr, " ", info.State.DidResume)))
	}, grpc.Creds(credentials.NewTLS(server)))
	told := func(c *Conn) string {
		t.Helper()
		if err := c.Open(nil); err != nil {
			t.Fatal(err)
		}
		b, err := c.Recv()
		if err != nil {
			t.Fatal(err)
		}
		var m wrapperspb.StringValue
		if err := proto.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Recv(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return m.GetValue()
	}
	one := dial(t, target, client)
	first := told(one)
	if err := one.Idle(time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if second := told(one); second != first {
		t.Errorf("two streams: %s, then %s", first, second)
	}
	if want := one.nc.LocalAddr().String() + " false"; first != want {
		t.Errorf("the first connection: %s, not %s", first, want)
	}
	two := dial(t, target, client)
	if got, want := told(two), two.nc.LocalAddr().String()+" true"; got != want {
		t.Errorf("the second connection: %s, not %s", got, want)
	}
}

// A server that goes away serves the stream that is open, and is asked for no further one.
func TestAServerThatGoesAway(t *testing.T) {
	end := make(chan struct{})
	srv, target := serve(t, func(_ any, s grpc.ServerStream) error {
		if err := s.SendMsg(wrapperspb.Bytes(nil)); err != nil {
			return err
		}
		<-end
		return s.SendMsg(wrapperspb.String("late"))
	})
	c := dial(t, target, nil)
	if err := c.Open(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recv(); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		srv.GracefulStop()
	}()
	for !c.going {
		if err := c.read(); err != nil {
			t.Fatal(err)
		}
	}
	close(end)
	if b, err := c.Recv(); err != nil || !bytes.Contains(b, []byte("late")) {
		t.Fatalf("the open stream: %q, %v", b, err)
	}
	if _, err := c.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("its end: %v", err)
	}
	if err := c.Open(nil); !errors.Is(err, errGoing) {
		t.Errorf("a further stream: %v", err)
	}
	<-stopped
}

func TestAnEndedContextEndsWaiting(t *testing.T) {
	_, target := serve(t, func(_ any, s grpc.ServerStream) error {
		<-s.Context().Done()
		return s.Context().Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	c, err := Dial(ctx, Config{Target: target})
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := c.Recv()
		waited <- err
	}()
	cancel()
	select {
	case err := <-waited:
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(limit):
		t.Fatal("still waiting")
	}
}

// A server that accepts and says nothing must not hold up who dials.
func TestASilentServer(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	_, client := secured(t, nil)
	for name, settings := range map[string]*tls.Config{"plaintext": nil, "TLS": client} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if _, err := Dial(ctx, Config{Target: ln.Addr().String(), TLS: settings}); err == nil {
				t.Fatal("a connection")
			}
		})
	}
}
