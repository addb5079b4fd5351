package h2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// prefix is what gRPC puts before a message: a byte that says whether it is compressed, and the length.
const prefix = 5

// errGoing ends a stream that a server which goes away won't serve, or refuses another one.
var errGoing = errors.New("the server goes away")

// Open opens a stream with its first message, in one write. The stream before is forgotten: what still comes on it is ignored.
func (c *Conn) Open(first []byte) error {
	if c.going {
		return errGoing
	}
	if c.next > math.MaxInt32 {
		return errors.New("the connection has no stream ids left")
	}
	c.id, c.next = c.next, c.next+2
	c.opened, c.in, c.unsent = false, nil, c.unsent[:0]
	c.room = window{send: c.initial}
	// The block is far smaller than the least that a server must take.
	if err := c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: c.id, BlockFragment: c.header, EndHeaders: true}); err != nil {
		return err
	}
	return c.Send(first)
}

// Send sends a message; where the server's window is used up, what is left goes out while Recv waits. msg isn't kept.
func (c *Conn) Send(msg []byte) error {
	if len(c.unsent)+len(msg) > maxUnsent {
		return fmt.Errorf("the server left more than %d bytes unread", maxUnsent)
	}
	c.unsent = append(c.unsent, 0)
	c.unsent = binary.BigEndian.AppendUint32(c.unsent, uint32(len(msg))) //nolint:gosec // G115: at most maxUnsent
	c.unsent = append(c.unsent, msg...)
	if err := c.cut(); err != nil {
		return err
	}
	return c.flush()
}

// cut makes frames of what is unsent, as far as the windows and the largest frame that the server takes allow.
func (c *Conn) cut() error {
	rest := c.unsent
	for len(rest) > 0 {
		n := min(int64(len(rest)), int64(c.maxFrame), c.room.send, c.total.send)
		if n <= 0 {
			break
		}
		if err := c.fr.WriteData(c.id, false, rest[:n]); err != nil {
			return err
		}
		rest, c.room.send, c.total.send = rest[n:], c.room.send-n, c.total.send-n
	}
	c.unsent = append(c.unsent[:0], rest...)
	return nil
}

// Recv waits for the next message, which is good until the next call. The error is io.EOF where the server ended the stream with OK, and
// of package status where with another code.
func (c *Conn) Recv() ([]byte, error) {
	for {
		if msg, ok, err := c.message(); ok || err != nil {
			return msg, err
		}
		if err := c.flush(); err != nil {
			return nil, err
		}
		if len(c.in) > 0 { // the next frame overwrites the one before
			c.buf = append(c.buf[:0], c.in...)
			c.in = c.buf
		}
		if err := c.read(); err != nil {
			return nil, err
		}
	}
}

// message takes a whole message from what was received.
func (c *Conn) message() (msg []byte, ok bool, err error) {
	if len(c.in) < prefix {
		return nil, false, nil
	}
	size := binary.BigEndian.Uint32(c.in[1:])
	if c.in[0] != 0 || size > MaxMessage {
		return nil, false, fmt.Errorf("a message of %d bytes, compression %d: neither is understood beyond %d and 0", size, c.in[0], MaxMessage)
	}
	whole := prefix + int(size)
	if len(c.in) < whole {
		return nil, false, nil
	}
	msg, c.in = c.in[prefix:whole], c.in[whole:]
	return msg, true, nil
}

// data takes a frame of the stream, or of one before it: that counts for the connection's window too.
func (c *Conn) data(f *http2.DataFrame) error {
	if err := c.received(&c.total, 0, f.Length); err != nil || f.StreamID != c.id {
		return err
	}
	if !c.opened {
		return errors.New("data before the header")
	}
	if f.StreamEnded() {
		return io.ErrUnexpectedEOF // a gRPC stream ends with trailers
	}
	if len(c.in) == 0 {
		c.in = f.Data()
	} else { // in is buf: Recv saw to it
		c.buf = append(c.buf, f.Data()...)
		c.in = c.buf
	}
	return c.received(&c.room, c.id, f.Length)
}

// received counts what came and gives it back when half of the window is used.
func (c *Conn) received(w *window, id, n uint32) error {
	w.unacked += n
	if w.unacked < Window/2 {
		return nil
	}
	n, w.unacked = w.unacked, 0
	return c.fr.WriteWindowUpdate(id, n)
}

// headers takes the header of an answer or its trailers.
func (c *Conn) headers(f *http2.MetaHeadersFrame) error {
	if f.StreamID != c.id {
		return nil
	}
	if !c.opened {
		c.opened = true
		if s := f.PseudoValue("status"); s != strconv.Itoa(http.StatusOK) {
			return fmt.Errorf("HTTP status %s", s)
		}
	}
	if !f.StreamEnded() {
		return nil
	}
	var code, message string
	for _, h := range f.RegularFields() {
		switch h.Name {
		case "grpc-status":
			code = h.Value
		case "grpc-message":
			message = h.Value
		}
	}
	n, err := strconv.ParseUint(code, 10, 32)
	if err != nil {
		return fmt.Errorf("trailers with grpc-status %q", code)
	}
	if codes.Code(n) == codes.OK {
		return io.EOF
	}
	if plain, err := url.PathUnescape(message); err == nil {
		message = plain
	}
	return status.Error(codes.Code(n), message)
}
