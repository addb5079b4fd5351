package harness

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// Forward is a TCP forwarder on loopback that counts bytes and can be cut.
type Forward struct {
	Addr     string
	ToClient atomic.Int64 // bytes from the target to clients
	ToTarget atomic.Int64

	ln     net.Listener
	target string
	wg     sync.WaitGroup
	mu     sync.Mutex // guards conns and closed
	conns  map[net.Conn]bool
	closed bool
}

// NewForward listens on addr ("127.0.0.1:0" for any port) and forwards to target.
func NewForward(addr, target string) (*Forward, error) {
	ln, err := net.Listen("tcp", addr) //nolint:noctx // closed by Close
	if err != nil {
		return nil, err
	}
	f := &Forward{Addr: ln.Addr().String(), ln: ln, target: target, conns: map[net.Conn]bool{}}
	f.wg.Go(f.accept)
	return f, nil
}

func (f *Forward) accept() {
	for {
		in, err := f.ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", f.target) //nolint:noctx // closed with its connection
		if err != nil {
			_ = in.Close()
			continue
		}
		if !f.keep(in, out) {
			return
		}
		f.wg.Go(func() { f.pipe(out, in, &f.ToTarget) })
		f.wg.Go(func() { f.pipe(in, out, &f.ToClient) })
	}
}

func (f *Forward) keep(conns ...net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range conns {
		if f.closed {
			_ = c.Close()
			continue
		}
		f.conns[c] = true
	}
	return !f.closed
}

func (f *Forward) pipe(dst, src net.Conn, n *atomic.Int64) {
	_, _ = io.Copy(counter{dst, n}, src)
	_ = dst.Close()
	_ = src.Close()
	f.mu.Lock()
	delete(f.conns, dst)
	delete(f.conns, src)
	f.mu.Unlock()
}

// Cut closes all present connections; new ones are forwarded.
func (f *Forward) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		_ = c.Close()
	}
}

// Close stops listening, closes all connections and waits.
func (f *Forward) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	_ = f.ln.Close()
	f.Cut()
	f.wg.Wait()
}

type counter struct {
	net.Conn
	n *atomic.Int64
}

func (c counter) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.n.Add(int64(n))
	return n, err
}
