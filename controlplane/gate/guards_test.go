package gate

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/access"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/internal/rpc"
)

// bomb is a message of 64 MiB that is some hundred KiB on the wire.
func bomb(t *testing.T, envelope bool) []byte {
	t.Helper()
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20
	head := binary.AppendUvarint([]byte{0x12}, size) // field 2, a text
	if _, err := z.Write(head); err != nil {
		t.Fatal(err)
	}
	chunk := bytes.Repeat([]byte("a"), 1<<20)
	for range size / len(chunk) {
		if _, err := z.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if !envelope {
		return packed.Bytes()
	}
	out := binary.BigEndian.AppendUint32([]byte{1}, uint32(packed.Len()))
	return append(out, packed.Bytes()...)
}

func TestABombIsRefusedBeforeItIsUnpacked(t *testing.T) {
	d := open(t, Limits{})
	called := false
	d.get = func(context.Context) error { called = true; return nil }
	for name, x := range map[string]struct {
		contentType, encoding string
		envelope              bool
	}{
		"connect":  {contentType: "application/proto", encoding: "Content-Encoding"},
		"grpc":     {contentType: "application/grpc", encoding: "Grpc-Encoding", envelope: true},
		"grpc-web": {contentType: "application/grpc-web+proto", encoding: "Grpc-Encoding", envelope: true},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url+"/agentry.release.v1.StatusService/GetStatus", bytes.NewReader(bomb(t, x.envelope)))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", x.contentType)
			r.Header.Set(x.encoding, "gzip")
			r.Header.Set("Authorization", "Bearer "+ada)
			resp, err := client(t).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			told := string(body) + fmt.Sprint(resp.Header, resp.Trailer)
			if !strings.Contains(told, "larger than configured max") || called {
				t.Errorf("called %v, answer %d %s", called, resp.StatusCode, told)
			}
		})
	}
	c := d.status(t, connect.WithSendGzip())
	if _, err := c.GetStatus(t.Context(), request(ada, &releasev1.GetStatusRequest{Agent: strings.Repeat("a", rpc.MaxMessage)})); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("a large message: %v", err)
	}
}

// dial opens a connection on which a test sends what it likes.
func (d *door) dial(t *testing.T, text string) *bufio.Reader {
	t.Helper()
	var dialer net.Dialer
	c, err := dialer.DialContext(t.Context(), "tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return bufio.NewReader(c)
}

const post = "POST /agentry.release.v1.StatusService/GetStatus HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"

func TestABodyThatDoesNotComeIsNotWaitedFor(t *testing.T) {
	d := open(t, Limits{Body: 50 * time.Millisecond})
	called := false
	d.get = func(context.Context) error { called = true; return nil }
	r := d.dial(t, post+"Authorization: Bearer "+ada+"\r\n\r\n{")
	_, err := io.ReadAll(r) // ends when the server gives up, whatever it says
	if called {
		t.Errorf("the handler was called (%v)", err)
	}
	// A stream's request has no more time, whole or not.
	watch := strings.NewReplacer("GetStatus", "WatchStatus", "application/json", "application/connect+json").Replace(post)
	for _, body := range []string{"\x00\x00\x00", "\x00\x00\x00\x00\x02{}"} {
		told, err := io.ReadAll(d.dial(t, watch+"Authorization: Bearer "+ada+"\r\n\r\n"+body))
		if strings.Contains(string(told), "status\"") {
			t.Errorf("the stream began: %s %v", told, err)
		}
	}
	// Nor has what isn't a method, whoever calls: these end, too.
	for _, path := range []string{"/page", "/nothing", "/agentry.release.v1.StatusService/Nothing"} {
		_, _ = io.ReadAll(d.dial(t, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"))
	}
	// A long answer isn't cut by the time that its request was given.
	d.get = func(ctx context.Context) error {
		timer := time.NewTimer(200 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		}
	}
	if _, err := d.status(t).GetStatus(t.Context(), request(ada, &releasev1.GetStatusRequest{Agent: "a"})); err != nil {
		t.Error(err)
	}
	plain := http.Client{Transport: &http.Transport{}}
	defer plain.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url+"/agentry.release.v1.StatusService/GetStatus", strings.NewReader(`{"agent":"a"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+ada)
	resp, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("over HTTP/1.1: %d", resp.StatusCode)
	}
}

func TestAStrangersBodyIsNotRead(t *testing.T) {
	d := open(t, Limits{Body: time.Hour})
	resp, err := http.ReadResponse(d.dial(t, post+"\r\n"), nil) // no byte of the body is sent
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %d", resp.StatusCode)
	}
}

func TestHeadersAreNotWaitedForEver(t *testing.T) {
	srv := rpc.NewHTTPServer(rpc.HTTPConfig{Logger: slog.New(slog.DiscardHandler)})
	if srv.ReadHeaderTimeout <= 0 || srv.ReadHeaderTimeout > 10*time.Second || srv.MaxHeaderBytes <= 0 || srv.MaxHeaderBytes > 64<<10 || srv.IdleTimeout <= 0 {
		t.Errorf("header timeout %v, %d bytes, idle %v", srv.ReadHeaderTimeout, srv.MaxHeaderBytes, srv.IdleTimeout)
	}
}

// receive opens a watch and gives it with its first message read.
func (d *door) receive(t *testing.T, bearer string, opts ...connect.ClientOption) *connect.ServerStreamForClient[releasev1.WatchStatusResponse] {
	t.Helper()
	s, err := d.status(t, opts...).WatchStatus(t.Context(), request(bearer, &releasev1.WatchStatusRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestAStreamEndsWithItsCallersAccess(t *testing.T) {
	for name, x := range map[string]struct {
		now   access.Principal
		known bool
		want  connect.Code
	}{
		"revoked":           {want: connect.CodeUnauthenticated},
		"no binding left":   {known: true, now: access.Principal{Name: "user:cy", Kind: access.User, Rules: rules{}}, want: connect.CodePermissionDenied},
		"another by now":    {known: true, now: access.Principal{Name: "user:cy", Kind: access.User, Groups: []string{"g"}, Rules: rules{"release.read"}}, want: connect.CodeUnavailable},
		"something else":    {known: true, now: access.Principal{Name: "user:cy", Kind: access.User, Rules: rules{"release.read", "more"}}},
		"of its own accord": {known: true, now: access.Principal{Name: "user:cy", Kind: access.User, Rules: rules{"release.read"}}},
	} {
		for transport, opts := range transports() {
			t.Run(name+"/"+transport, func(t *testing.T) {
				d := open(t, Limits{})
				d.people.set("cy", access.Principal{Name: "user:cy", Kind: access.User, Rules: rules{"release.read"}}, true)
				s := d.receive(t, "cy", opts...)
				if !s.Receive() {
					t.Fatal(s.Err())
				}
				d.people.set("cy", x.now, x.known)
				want := x.want
				if want == 0 { // it goes on until it is revoked
					d.people.set("cy", access.Principal{}, false)
					want = connect.CodeUnauthenticated
				}
				if s.Receive() || connect.CodeOf(s.Err()) != want {
					t.Errorf("got %v", s.Err())
				}
			})
		}
	}
}

func TestAStreamEndsWhenItsTokenExpires(t *testing.T) {
	d := open(t, Limits{})
	d.people.set("cy", access.Principal{Name: "user:cy", Rules: rules{"release.read"}, Expires: time.Now().Add(100 * time.Millisecond)}, true)
	s := d.receive(t, "cy")
	for s.Receive() {
	}
	if connect.CodeOf(s.Err()) != connect.CodeUnauthenticated {
		t.Errorf("got %v", s.Err())
	}
}

func TestStreamsOfOneCaller(t *testing.T) {
	d := open(t, Limits{Streams: 2})
	first := d.receive(t, ada)
	second := d.receive(t, ada)
	if !first.Receive() || !second.Receive() {
		t.Fatal(first.Err(), second.Err())
	}
	third := d.receive(t, ada)
	if third.Receive() || connect.CodeOf(third.Err()) != connect.CodeResourceExhausted {
		t.Errorf("third: %v", third.Err())
	}
	other := d.receive(t, bob)
	if !other.Receive() {
		t.Errorf("another caller: %v", other.Err())
	}
	_ = first.Close()
	for {
		again := d.receive(t, ada) // once the server has seen that the first has ended
		if again.Receive() {
			return
		}
	}
}

func TestPages(t *testing.T) {
	d := open(t, Limits{})
	d.people.set("admin", access.Principal{Name: "admin", Admin: true}, true)
	for name, x := range map[string]struct {
		remote, host, bearer, forwarded string
		want                            int
	}{
		"this machine":             {remote: "127.0.0.1:9", host: "localhost:7700", want: http.StatusOK},
		"this machine, IPv6":       {remote: "[::1]:9", host: "[::1]:7700", want: http.StatusOK},
		"another name":             {remote: "127.0.0.1:9", host: "evil.example", want: http.StatusForbidden},
		"another machine":          {remote: "10.0.0.1:9", host: "localhost", want: http.StatusForbidden},
		"by a proxy":               {remote: "127.0.0.1:9", host: "localhost", forwarded: "10.0.0.1", want: http.StatusForbidden},
		"a token":                  {remote: "10.0.0.1:9", host: "cp.example", bearer: "admin", want: http.StatusOK},
		"a token of all releases":  {remote: "10.0.0.1:9", host: "cp.example", bearer: ada, want: http.StatusOK},
		"a token of one agent":     {remote: "10.0.0.1:9", host: "cp.example", bearer: bob, want: http.StatusForbidden},
		"a token that is nobody's": {remote: "127.0.0.1:9", host: "localhost", bearer: "no", want: http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := New(Config{Logger: slog.New(slog.DiscardHandler), Auth: d.people})
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodGet, "/page", nil)
			r.RemoteAddr, r.Host = x.remote, x.host
			if x.bearer != "" {
				r.Header.Set("Authorization", "Bearer "+x.bearer)
			}
			if x.forwarded != "" {
				r.Header.Set("X-Forwarded-For", x.forwarded)
			}
			w := httptest.NewRecorder()
			g.Page(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })).ServeHTTP(w, r)
			if w.Code != x.want {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
}

func TestClientOf(t *testing.T) {
	for remote, want := range map[string]string{
		"10.1.2.3:4": "10.1.2.3", "[::ffff:10.1.2.3]:4": "10.1.2.3", "[2001:db8:1:2:3:4:5:6]:4": "2001:db8:1:2::/64", "[::1]:4": "::1", "@": "@",
	} {
		if got := clientOf(&http.Request{RemoteAddr: remote}); got != want {
			t.Errorf("%s: %s", remote, got)
		}
	}
}

func TestRequestIDs(t *testing.T) {
	for given, kept := range map[string]bool{"abcdef-0123": true, "short": false, "with space": false, "line\nbreak12": false, strings.Repeat("a", 65): false, "": false} {
		r := &http.Request{Header: http.Header{requestIDHeader: {given}}}
		if got := requestID(r); (got == given) != kept || !saneID.MatchString(got) {
			t.Errorf("%q: %q", given, got)
		}
	}
}
