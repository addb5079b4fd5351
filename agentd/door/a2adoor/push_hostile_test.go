package a2adoor_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/egress"
)

// hostile are addresses that lead inside, or nowhere that a notification may go. Package egress knows more of them.
func hostile() []string {
	var out []string
	for _, host := range []string{
		"127.0.0.1", "127.0.0.1.", "127.1", "0", "0.0.0.0", "0x7f.1", "0177.0.0.1", "017700000001", "2130706433", "0X7F000001", "%31%32%37.0.0.1",
		"localhost", "LOCALHOST.", "a.localhost", "①②⑦.⓪.⓪.①", "１２７.０.０.１", "127。0。0。1",
		"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1%25lo]", "[fc00::1]", "[ff02::1]",
		"10.0.0.1", "10.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "0xa9fea9fe", "[fd00:ec2::254]", "100.100.100.200", "224.0.0.1", "255.255.255.255",
		"example.com@127.0.0.1", "127.0.0.1#@example.com", "127.0.0.1?@example.com",
	} {
		out = append(out, "http://"+host+"/x", "https://"+host)
	}
	return append(out, "HTTP://127.0.0.1", "http:/127.0.0.1", "http:127.0.0.1", `http:\\127.0.0.1`, " http://127.0.0.1", "http://127.0.0.1\n", "//127.0.0.1", "http://", "http:///x", "http://:80/",
		"http://example.com:99999", "http://[::1", "file:///etc/passwd", "gopher://127.0.0.1", "unix:///run/x", "javascript:alert(1)", "data:,x", "ws://example.com", "not a url", "http://"+strings.Repeat("a", 3000))
}

// No address that says itself that it is internal is taken, however it is spelled and wherever it is given; and what came with it isn't done.
func TestHostileAddressesAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *run.Runtime, cfg *a2adoor.Config) { cfg.Guard = egress.New(egress.Config{}) })
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		waiting := sent(t, c, say("ask-1"))
		contextID := "hostile-" + strings.ReplaceAll(t.Name(), "/", "-")
		for _, address := range hostile() {
			config := &pb.TaskPushNotificationConfig{Url: address}
			inline := func(r *pb.SendMessageRequest) {
				r.Message.ContextId = contextID
				r.Configuration = &pb.SendMessageConfiguration{TaskPushNotificationConfig: config}
			}
			for what, f := range map[string]*fault{
				"create": c.call(t, "CreateTaskPushNotificationConfig", &pb.TaskPushNotificationConfig{TaskId: waiting.GetId(), Url: address}, &pb.TaskPushNotificationConfig{}),
				"send":   c.call(t, "SendMessage", say("hello", inline), &pb.SendMessageResponse{}),
				"answer": c.call(t, "SendMessage", say("hello", at(waiting.GetId()), configured(&pb.SendMessageConfiguration{TaskPushNotificationConfig: config})), &pb.SendMessageResponse{}),
				"stream": c.stream(t.Context(), t, "SendStreamingMessage", say("hello", inline), func(*pb.StreamResponse) bool { return true }),
			} {
				if f == nil || f.Reason != "INVALID_PARAMS" || len(f.Fields) != 1 || !strings.HasSuffix(f.Fields[0], ".url") {
					t.Errorf("%s with %q: %+v", what, address, f)
				}
			}
		}
		list := &pb.ListTasksResponse{}
		if f := c.call(t, "ListTasks", &pb.ListTasksRequest{ContextId: contextID}, list); f != nil || list.GetTotalSize() != 0 {
			t.Errorf("%d tasks were made; %+v", list.GetTotalSize(), f)
		}
		if got := state(t, c, waiting.GetId()); got != pb.TaskState_TASK_STATE_INPUT_REQUIRED {
			t.Errorf("the task that waited is %v", got)
		}
	})
}

// A name that turns out to lead inside is taken, as nobody asks for it then, and refused at delivery; so is where an address sends one on to.
func TestDeliveryLooksWhereItGoes(t *testing.T) {
	t.Parallel()
	inside := newHook(t, 0)
	moved := make(chan struct{}, 10)
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, inside.URL, http.StatusTemporaryRedirect)
		moved <- struct{}{}
	}))
	t.Cleanup(outside.Close)
	parsed, err := url.Parse(inside.URL)
	if err != nil {
		t.Fatal(err)
	}
	logs := &logged{}
	r := newRig(t, func(_ *run.Runtime, cfg *a2adoor.Config) {
		cfg.Guard = egress.New(egress.Config{Resolver: insideDNS(t)})
		cfg.Log = slog.New(slog.NewTextHandler(logs, nil))
	})
	c := r.bindings(t, "")["JSONRPC"]
	inline := func(address string) func(*pb.SendMessageRequest) {
		return configured(&pb.SendMessageConfiguration{TaskPushNotificationConfig: &pb.TaskPushNotificationConfig{Url: address}})
	}
	done := sent(t, c, say("hello", inline("http://inside.example:"+parsed.Port()+"/x")))
	logs.until(t, "a push notification was not delivered", done.GetId())

	open := newRig(t) // may reach loopback addresses
	sent(t, open.bindings(t, "")["JSONRPC"], say("hello", inline(outside.URL)))
	select {
	case <-moved:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was delivered")
	}
	closing, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := open.door.Close(closing); err != nil { // what waits is delivered
		t.Error(err)
	}
	inside.mu.Lock()
	defer inside.mu.Unlock()
	if n := len(inside.got); n > 0 {
		t.Errorf("%d notifications reached the inside", n)
	}
}

// logged keeps what is logged.
type logged struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// until waits for a line that has all the words.
func (l *logged) until(t *testing.T, words ...string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		l.mu.Lock()
		text := l.text.String()
		l.mu.Unlock()
		for line := range strings.Lines(text) {
			found := 0
			for _, w := range words {
				if strings.Contains(line, w) {
					found++
				}
			}
			if found == len(words) {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("no line of %q in:\n%s", words, text)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the test ended")
		}
	}
}

// insideDNS gives every name the address 127.0.0.1.
func insideDNS(t *testing.T) *net.Resolver {
	t.Helper()
	var listen net.ListenConfig
	conn, err := listen.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Header, m.Additionals = dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true}, nil
			if q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type}, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}}
			}
			if out, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		served.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}
