// Package h2 is a gRPC client for load generators: one connection, one stream at a time, bytes in and bytes out. One goroutine owns a
// connection: it reads frames, and what it has to say goes out in one write. It is there because a full client takes as much of the CPU
// as the server that it measures. It doesn't reconnect, compress or interpret messages, and it never ends up in the product.
package h2

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// Window is how much of a stream, and of a connection, a server may send unread, in bytes: that of internal/rpc.Dial, by which
	// agentd connects.
	Window = 256 << 10
	// MaxMessage bounds a received message, in bytes, as internal/rpc does.
	MaxMessage = 4 << 20
	// maxUnsent bounds what waits for the server's window, in bytes; a stream that is owed more has failed.
	maxUnsent = 1 << 20
	// readBuffer is that of the socket. A change fits.
	readBuffer = 4 << 10
	// dialTimeout bounds connecting, the TLS handshake and the exchange of settings together.
	dialTimeout = 20 * time.Second
)

// Config is what Dial needs.
type Config struct {
	// Target is host:port.
	Target string
	// TLS must offer "h2"; nil: plaintext. It may be shared by connections.
	TLS *tls.Config
	// Header is what Header gave for the streams to open.
	Header []byte
}

// Header encodes the header of a call, such as "/package.Service/Method". It is the same for all connections: nothing in it refers to
// what a connection has seen before.
func Header(target, method string, secure bool) ([]byte, error) {
	scheme := "http"
	if secure {
		scheme = "https"
	}
	var b frames
	enc := hpack.NewEncoder(&b)
	enc.SetMaxDynamicTableSize(0)
	for _, f := range [][2]string{
		{":method", "POST"},
		{":scheme", scheme},
		{":path", method},
		{":authority", target},
		{"content-type", "application/grpc"},
		{"user-agent", "agentry-bench"},
		{"te", "trailers"},
	} {
		if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// frames gathers what goes out in one write.
type frames []byte

func (f *frames) Write(p []byte) (int, error) {
	*f = append(*f, p...)
	return len(p), nil
}

// Conn is a connection. Its methods are for one goroutine, but for Close.
type Conn struct {
	header []byte
	nc     net.Conn
	unhook func() bool // ends the watch over Dial's context
	ahead  ahead
	fr     *http2.Framer
	out    frames // due to be written
	going  bool   // the server takes no further streams
	settled

	// The stream of now; 0: none.
	id     uint32
	next   uint32
	opened bool   // the server's header came
	unsent []byte // of messages, with their prefixes
	in     []byte // received and not yet given; begins with a prefix
	buf    []byte // what in lies in when it had to be kept beyond a frame
	room   window // for the stream
	total  window // for the connection
}

// settled is what the server has set.
type settled struct {
	maxFrame uint32
	initial  int64 // window of a stream
	ready    bool  // its first settings came
}

// window is flow control of one stream or connection, both directions.
type window struct {
	send    int64  // that the server still takes
	unacked uint32 // received since the last update
}

// What holds before anybody says another: the largest frame, and the window of a stream and of a connection, in bytes.
const (
	frameSize     = 16384
	defaultWindow = 65535
)

// Dial connects, and waits until the server has sent its settings. The connection is closed when ctx ends.
func Dial(ctx context.Context, cfg Config) (*Conn, error) {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(dialing, "tcp", cfg.Target)
	if err != nil {
		return nil, err
	}
	nc := net.Conn(&buffered{Conn: raw, r: bufio.NewReaderSize(raw, readBuffer)})
	if cfg.TLS != nil {
		secure := tls.Client(nc, cfg.TLS)
		err := secure.HandshakeContext(dialing)
		if p := secure.ConnectionState().NegotiatedProtocol; err == nil && p != "h2" {
			err = fmt.Errorf("the server speaks %q, not h2", p)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("TLS with %s: %w", cfg.Target, err), raw.Close())
		}
		nc = secure
	}
	c := &Conn{header: cfg.Header, nc: nc, next: 1, settled: settled{maxFrame: frameSize, initial: defaultWindow}, total: window{send: defaultWindow}}
	c.ahead.r = nc
	c.fr = http2.NewFramer(&c.out, &c.ahead)
	c.fr.SetReuseFrames()
	c.fr.SetMaxReadFrameSize(frameSize)
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.unhook = context.AfterFunc(ctx, func() { _ = nc.Close() })
	if err := c.greet(); err != nil {
		return nil, errors.Join(fmt.Errorf("settings of %s: %w", cfg.Target, err), c.Close())
	}
	return c, nil
}

// greet sends the settings and waits for the server's.
func (c *Conn) greet() error {
	if err := c.nc.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	c.out = append(c.out, http2.ClientPreface...)
	err := errors.Join(
		c.fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: Window}),
		c.fr.WriteWindowUpdate(0, Window-defaultWindow))
	for err == nil && !c.ready {
		if err = c.flush(); err == nil {
			err = c.read()
		}
	}
	return errors.Join(err, c.nc.SetDeadline(time.Time{}))
}

// Close closes the connection, which ends what waits in it. It may be called by any goroutine, and more than once.
func (c *Conn) Close() error {
	c.unhook()
	return c.nc.Close()
}

// Idle reads what comes on no stream, such as pings, for a while. Without an error the connection takes a further stream after it.
func (c *Conn) Idle(d time.Duration) error {
	c.id, c.unsent = 0, nil
	for until := time.Now().Add(d); ; {
		if err := c.flush(); err != nil {
			return err
		}
		if err := c.nc.SetReadDeadline(until); err != nil {
			return err
		}
		err := c.ahead.await()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if c.going {
				return errGoing
			}
			return c.nc.SetReadDeadline(time.Time{})
		}
		if err == nil {
			err = c.nc.SetReadDeadline(time.Time{})
		}
		if err == nil {
			err = c.read()
		}
		if err != nil {
			return err
		}
	}
}

// flush writes what is due.
func (c *Conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return err
}

// buffered reads a socket in few system calls: crypto/tls asks for a record's header first, and a framer for a frame's.
type buffered struct {
	net.Conn

	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// ahead is a reader that can wait for a first byte, so that a wait with a deadline never ends within a frame.
type ahead struct {
	r    io.Reader
	byte [1]byte
	has  bool
}

func (a *ahead) await() error {
	for !a.has {
		n, err := a.r.Read(a.byte[:])
		if a.has = n == 1; !a.has && err != nil {
			return err
		}
	}
	return nil
}

func (a *ahead) Read(p []byte) (int, error) {
	if a.has && len(p) > 0 {
		a.has = false
		p[0] = a.byte[0]
		return 1, nil
	}
	return a.r.Read(p)
}
