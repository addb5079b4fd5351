package mcpdoor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/door/mcpdoor"
	"github.com/agentry/agentry/agentd/memory/inmemory"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/pending/inpending"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripted answers by the newest message: "use" calls the tool and then tells its result; "fail" fails; "slow" says that it began and waits
// until it is cancelled; everything else is repeated with how many messages there were.
type scripted struct {
	began, left chan struct{}
}

func (s *scripted) Generate(ctx context.Context, r model.Request) iter.Seq2[model.Chunk, error] {
	return func(yield func(model.Chunk, error) bool) {
		newest := r.Messages[len(r.Messages)-1]
		usage := &model.Usage{InputTokens: 5, OutputTokens: 2}
		switch {
		case newest.Role == "tool":
			_ = yield(model.Chunk{Text: "it says: " + newest.Text}, nil) && yield(model.Chunk{FinishReason: "stop", Usage: usage}, nil)
		case strings.HasPrefix(newest.Text, "use"):
			args := strings.TrimSpace(strings.TrimPrefix(newest.Text, "use"))
			yield(model.Chunk{ToolCalls: []model.ToolCall{{ID: "call_1", Name: "desk__refund", Arguments: args}}, FinishReason: "tool_calls", Usage: usage}, nil)
		case newest.Text == "fail":
			yield(model.Chunk{}, &model.Error{Code: "rate_limited", Message: "too fast"})
		case newest.Text == "slow":
			s.began <- struct{}{}
			<-ctx.Done()
			s.left <- struct{}{}
			yield(model.Chunk{}, ctx.Err())
		default:
			text := fmt.Sprintf("%d: %s", len(r.Messages)-1, newest.Text)
			_ = yield(model.Chunk{Text: text[:2]}, nil) && yield(model.Chunk{Text: text[2:]}, nil) && yield(model.Chunk{FinishReason: "stop", Usage: usage}, nil)
		}
	}
}

type refund struct{}

func (refund) Spec() tool.Spec {
	return tool.Spec{Name: "desk__refund", Server: "desk", Tool: "refund", Schema: json.RawMessage(`{"type":"object"}`)}
}

func (refund) Call(_ context.Context, args json.RawMessage) (tool.Result, error) {
	return tool.Result{Text: "refunded " + string(args)}, nil
}

func (r refund) Tools() []tool.Tool { return []tool.Tool{r} }

type source struct {
	mu  sync.Mutex // guards rt and err
	rt  run.Runtime
	err error
}

func (s *source) Acquire() (*run.Runtime, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rt := s.rt
	return &rt, func() {}, s.err
}

func (s *source) change(f func(*source)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

type world struct {
	*httptest.Server
	t      testing.TB
	model  *scripted
	source *source
}

func open(tb testing.TB) *world {
	tb.Helper()
	store, err := inmemory.NewStore(inmemory.StoreConfig{})
	if err != nil {
		tb.Fatal(err)
	}
	mem, err := inmemory.New(inmemory.Config{Store: store})
	if err != nil {
		tb.Fatal(err)
	}
	runs, err := inpending.New(inpending.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{t: tb, model: &scripted{began: make(chan struct{}, 4), left: make(chan struct{}, 4)}}
	w.source = &source{rt: run.Runtime{
		Namespace: "default", Agent: "helper", Revision: 8, Config: "8-3f2a91c4", System: "You help.", Model: w.model, Memory: mem, Sessions: mem, Pending: runs,
		Tools: refund{}, MaxIterations: 4, A2A: run.A2A{DisplayName: "Helper", Description: "Helps with refunds."},
		Approval: &run.Approval{Needs: func(_, _ string, args map[string]any, _, _ string) (string, bool) {
			return "amount > 50", args["amount"] == 70.0
		}},
	}}
	r, err := run.New(run.Config{Source: w.source})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			tb.Error(err)
		}
	})
	door, err := mcpdoor.New(mcpdoor.Config{Runner: r, Agent: "helper", Version: "test", BodyTimeout: 2 * time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	guard, err := front.New(front.Config{Source: r})
	if err != nil {
		tb.Fatal(err)
	}
	w.Server = httptest.NewServer(guard.Guard(door, mcpdoor.Refuse))
	tb.Cleanup(w.Close)
	return w
}

func (w *world) connect(opts ...transport.StreamableHTTPCOption) *client.Client {
	w.t.Helper()
	c, err := client.NewStreamableHttpClient(w.URL+"/mcp", opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	if err := c.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// initialized is connect with the handshake of the versions before 2026-07-28.
func (w *world) initialized() *client.Client {
	w.t.Helper()
	c := w.connect()
	var init mcp.InitializeRequest
	init.Params.ProtocolVersion = mcp.ProtocolVersion20251125
	init.Params.ClientInfo = mcp.Implementation{Name: "test", Version: "1"}
	if _, err := c.Initialize(w.t.Context(), init); err != nil {
		w.t.Fatal(err)
	}
	return c
}

func ask(args map[string]any) mcp.CallToolRequest {
	var r mcp.CallToolRequest
	r.Params.Name, r.Params.Arguments = "helper", args
	return r
}

// structured is a result's structured content.
type structured struct {
	Session string `json:"session_id"`
	Text    string `json:"text"`
	State   string `json:"state"`
	Config  string `json:"config"`
	Pending *struct {
		ID, Kind string
		Calls    []struct {
			Tool string `json:"tool"`
			Why  string `json:"why"`
		}
	} `json:"pending"`
}

func (w *world) structured(res *mcp.CallToolResult) (structured, string) {
	w.t.Helper()
	b, err := json.Marshal(res.StructuredContent)
	if err != nil {
		w.t.Fatal(err)
	}
	var s structured
	if err := json.Unmarshal(b, &s); err != nil {
		w.t.Fatal(err)
	}
	text, ok := mcp.AsTextContent(res.Content[0])
	if !ok {
		w.t.Fatalf("no text: %+v", res)
	}
	return s, text.Text
}

func TestOneToolThatRemembers(t *testing.T) {
	t.Parallel()
	w := open(t)
	c := w.initialized()
	list, err := c.ListTools(t.Context(), mcp.ListToolsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Tools) != 1 || list.Tools[0].Name != "helper" || list.Tools[0].Title != "Helper" || !strings.HasPrefix(list.Tools[0].Description, "Helps with refunds. ") {
		t.Fatalf("tools: %+v", list.Tools)
	}
	res, err := c.CallTool(t.Context(), ask(map[string]any{"message": "hello"}))
	if err != nil {
		t.Fatal(err)
	}
	first, text := w.structured(res)
	if first.Text != "1: hello" || text != first.Text || first.Session == "" || first.State != "answered" || first.Config != "8-3f2a91c4" {
		t.Errorf("%+v %q", first, text)
	}
	if res, err = c.CallTool(t.Context(), ask(map[string]any{"message": "again", "session_id": first.Session})); err != nil {
		t.Fatal(err)
	}
	if s, _ := w.structured(res); s.Text != "3: again" || s.Session != first.Session {
		t.Errorf("%+v", s)
	}
	if res, err = c.CallTool(t.Context(), ask(map[string]any{"message": "other"})); err != nil {
		t.Fatal(err)
	}
	if s, _ := w.structured(res); s.Text != "1: other" || s.Session == first.Session {
		t.Errorf("a call without a session is not one of its own: %+v", s)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	w := open(t)
	c := w.initialized()
	var mu sync.Mutex
	var told []string
	c.OnNotification(func(n mcp.JSONRPCNotification) {
		mu.Lock()
		defer mu.Unlock()
		if n.Method == "notifications/progress" && n.Params.AdditionalFields["progressToken"] == "p-1" {
			told = append(told, fmt.Sprint(n.Params.AdditionalFields["progress"], " ", n.Params.AdditionalFields["message"]))
		}
	})
	r := ask(map[string]any{"message": `use {"amount":7}`})
	r.Params.Meta = &mcp.Meta{ProgressToken: "p-1"}
	res, err := c.CallTool(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if s, _ := w.structured(res); s.Text != `it says: refunded {"amount":7}` {
		t.Errorf("%+v", s)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(told, "; "); got != `1 calls desk__refund; 2 desk__refund answered; 3 it says: refunded {"amount":7}` {
		t.Errorf("progress: %s", got)
	}
}

func TestSuspended(t *testing.T) {
	t.Parallel()
	w := open(t)
	res, err := w.initialized().CallTool(t.Context(), ask(map[string]any{"message": `use {"amount":70}`, "session_id": "s-1"}))
	if err != nil {
		t.Fatal(err)
	}
	s, text := w.structured(res)
	if res.IsError || s.State != "waiting" || s.Pending == nil || s.Pending.Kind != "approval" || len(s.Pending.Calls) != 1 || s.Pending.Calls[0].Tool != "desk/refund" || s.Pending.Calls[0].Why != "amount > 50" {
		t.Fatalf("%+v", res)
	}
	if !strings.Contains(text, "agentctl approvals approve "+s.Pending.ID) || !strings.Contains(text, `desk/refund {"amount":70}`) {
		t.Error(text)
	}
	res, err = w.initialized().CallTool(t.Context(), ask(map[string]any{"message": "and?", "session_id": "s-1"}))
	if err != nil {
		t.Fatal(err)
	}
	if !res.IsError || res.Meta.AdditionalFields["agentry/code"] != run.CodePending || res.Meta.AdditionalFields["agentry/pending"] != s.Pending.ID {
		t.Errorf("%+v", res)
	}
}

func TestFailuresAreResults(t *testing.T) {
	t.Parallel()
	w := open(t)
	c := w.initialized()
	for name, args := range map[string]map[string]any{
		"nothing": {}, "empty": {"message": " "}, "a number": {"message": 7}, "a field too many": {"message": "a", "x": 1}, "a long session": {"message": "a", "session_id": strings.Repeat("s", 300)},
	} {
		res, err := c.CallTool(t.Context(), ask(args))
		if err != nil || !res.IsError || res.Meta.AdditionalFields["agentry/code"] != run.CodeInvalid {
			t.Errorf("%s: %+v (%v)", name, res, err)
		}
	}
	res, err := c.CallTool(t.Context(), ask(map[string]any{"message": "fail"}))
	if err != nil || !res.IsError || res.Meta.AdditionalFields["agentry/code"] != "rate_limited" {
		t.Errorf("%+v (%v)", res, err)
	}
	var odd mcp.CallToolRequest
	odd.Params.Name = "other"
	if _, err := c.CallTool(t.Context(), odd); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("another tool: %v", err)
	}
}

// raw posts a message as a client of 2025-11-25 in a session does.
func (w *world) raw(ctx context.Context, method, body string, header ...string) (int, string, http.Header) {
	req, err := http.NewRequestWithContext(ctx, method, w.URL+"/mcp", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.Client().Do(req)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error(), nil
	}
	return resp.StatusCode, string(b), resp.Header
}

const initialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`

func (w *world) session() string {
	w.t.Helper()
	status, body, h := w.raw(w.t.Context(), http.MethodPost, initialize)
	if status != 200 || h.Get("Mcp-Session-Id") == "" {
		w.t.Fatalf("%d %s", status, body)
	}
	return h.Get("Mcp-Session-Id")
}

func call(id int, message string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"helper","arguments":{"message":%q}}}`, id, message)
}

func (w *world) wait(c chan struct{}, what string) {
	w.t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		w.t.Fatal(what)
	}
}

// A call ends by its name, in its own session and for its own caller; by the session's end; and when the caller leaves.
func TestCancels(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.source.change(func(s *source) {
		for _, name := range []string{"ann", "eve"} {
			s.rt.Inbound.Keys = append(s.rt.Inbound.Keys, run.InboundKey{Name: name, Value: func() secret.Value { return secret.NewValue("k-" + name) }})
		}
	})
	ann, eve := "k-ann", "k-eve"
	status, _, h := w.raw(t.Context(), http.MethodPost, initialize, "X-API-Key", ann)
	one := h.Get("Mcp-Session-Id")
	_, _, h = w.raw(t.Context(), http.MethodPost, initialize, "X-API-Key", ann)
	other := h.Get("Mcp-Session-Id")
	if status != 200 || one == "" || one == other {
		t.Fatalf("%d %q %q", status, one, other)
	}
	begin := func(ctx context.Context, session string) chan string {
		done := make(chan string, 1)
		go func() {
			status, body, _ := w.raw(ctx, http.MethodPost, call(7, "slow"), "X-API-Key", ann, "Mcp-Session-Id", session)
			done <- fmt.Sprint(status, body)
		}()
		w.wait(w.model.began, "the call doesn't begin")
		return done
	}
	cancel := func(key, session string) {
		status, body, _ := w.raw(t.Context(), http.MethodPost, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`, "X-API-Key", key, "Mcp-Session-Id", session)
		if status != http.StatusAccepted {
			t.Errorf("cancel: %d %s", status, body)
		}
	}
	done := begin(t.Context(), one)
	cancel(eve, one)   // somebody else
	cancel(ann, other) // elsewhere
	cancel(ann, one)
	w.wait(w.model.left, "the cancelled call goes on")
	if got := <-done; got != "202" { // no answer to it, as the protocol wants
		t.Error(got)
	}
	done = begin(t.Context(), one)
	if status, body, _ := w.raw(t.Context(), http.MethodDelete, "", "X-API-Key", ann, "Mcp-Session-Id", one); status != http.StatusNoContent {
		t.Errorf("delete: %d %s", status, body)
	}
	w.wait(w.model.left, "the call of the ended session goes on")
	<-done
	if status, _, _ := w.raw(t.Context(), http.MethodPost, call(8, "hello"), "X-API-Key", ann, "Mcp-Session-Id", one); status != http.StatusNotFound {
		t.Errorf("a session that was ended: %d", status)
	}
	ctx, leave := context.WithCancel(t.Context())
	done = begin(ctx, other)
	leave()
	w.wait(w.model.left, "the call goes on though its caller left")
	<-done
}

func TestProtocol(t *testing.T) {
	t.Parallel()
	w := open(t)
	session := w.session()
	long := strings.Repeat("a", 70<<10)
	cases := map[string]struct {
		method, body string
		header       []string
		status       int
		contains     string
	}{
		"a stream of its own":  {method: "GET", status: 405, contains: "GET is not allowed"},
		"another method":       {method: "PUT", status: 405, contains: "PUT"},
		"no type":              {body: initialize, header: []string{"Content-Type", "text/plain"}, status: 415, contains: "-32600"},
		"packed":               {body: initialize, header: []string{"Content-Encoding", "gzip"}, status: 415, contains: "-32600"},
		"no JSON":              {body: `{`, status: 400, contains: "-32700"},
		"a batch":              {body: `[` + initialize + `]`, status: 400, contains: "batches"},
		"another version":      {body: `{"jsonrpc":"1.0","id":1,"method":"ping"}`, status: 400, contains: `"id":1,"error":{"code":-32600`},
		"no method":            {body: `{"jsonrpc":"2.0","id":1}`, status: 400, contains: "-32600"},
		"an odd id":            {body: `{"jsonrpc":"2.0","id":[1,2],"method":"ping"}`, status: 400, contains: `"id":null,"error":{"code":-32600`},
		"a long id":            {body: `{"jsonrpc":"2.0","id":"` + strings.Repeat("i", 300) + `","method":"ping"}`, status: 400, contains: "-32600"},
		"both":                 {body: `{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}`, status: 400, contains: "-32600"},
		"an answer":            {body: `{"jsonrpc":"2.0","id":1,"result":{}}`, status: 202},
		"a notification":       {body: `{"jsonrpc":"2.0","method":"notifications/initialized"}`, status: 202},
		"an odd cancellation":  {body: `{"jsonrpc":"2.0","method":"notifications/cancelled","params":[]}`, status: 202},
		"ping":                 {body: `{"jsonrpc":"2.0","id":"p","method":"ping"}`, status: 200, contains: `"id":"p","result":{`},
		"an unknown method":    {body: `{"jsonrpc":"2.0","id":1,"method":"resources/list"}`, status: 200, contains: "-32601"},
		"an unknown session":   {body: call(1, "a"), header: []string{"Mcp-Session-Id", "nobody's"}, status: 404, contains: "initialize"},
		"without a session":    {body: call(1, "hello"), header: []string{"Mcp-Session-Id", ""}, status: 200, contains: "1: hello"},
		"an odd version":       {body: call(1, "a"), header: []string{"Mcp-Protocol-Version", "1999-01-01"}, status: 400, contains: "1999-01-01"},
		"params of no use":     {body: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[1]}`, status: 400, contains: "-32602"},
		"large meta":           {body: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"helper","_meta":{"a":"` + long + `"}}}`, status: 413, contains: "_meta"},
		"a large small thing":  {body: `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"` + long + `"}}`, status: 413, contains: "-32600"},
		"a message of 60 KB":   {body: call(1, long[:60<<10]), status: 200, contains: "1: aaa"},
		"a message of 1 MB":    {body: call(1, strings.Repeat("b", 1<<20)), status: 200, contains: "1: bbb"},
		"too large":            {body: call(1, strings.Repeat("b", 5<<20)), status: 413, contains: "-32001"},
		"deep arguments":       {body: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"helper","arguments":{"message":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}}}`, status: 200, contains: "arguments: want message"},
		"too deep":             {body: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":` + strings.Repeat("[", 20_000), status: 400, contains: "-32700"},
		"a page's":             {body: initialize, header: []string{"Origin", "https://evil.test"}, status: 403, contains: "-32001"},
		"an end of no session": {method: "DELETE", status: 400, header: []string{"Mcp-Session-Id", ""}, contains: "missing"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method := c.method
			if method == "" {
				method = http.MethodPost
			}
			header := append([]string{"Mcp-Session-Id", session}, c.header...)
			status, body, h := w.raw(t.Context(), method, c.body, header...)
			if status != c.status || !strings.Contains(body, c.contains) {
				t.Errorf("%d %.300s", status, body)
			}
			if status == http.StatusMethodNotAllowed && h.Get("Allow") != "POST, DELETE" {
				t.Errorf("Allow: %v", h)
			}
			if status >= 400 && status != http.StatusBadRequest && !strings.HasPrefix(body, `{"jsonrpc":"2.0"`) {
				t.Errorf("not the protocol's own error: %s", body)
			}
		})
	}
}

// The version that has no handshake and no sessions.
func TestModernProtocol(t *testing.T) {
	t.Parallel()
	w := open(t)
	meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
	header := []string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "helper"}
	status, body, h := w.raw(t.Context(), http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"helper","arguments":{"message":"hello"},`+meta+`}}`, header...)
	if status != 200 || !strings.Contains(body, `1: hello`) || h.Get("Mcp-Session-Id") != "" {
		t.Errorf("%d %s %v", status, body, h)
	}
	status, body, _ = w.raw(t.Context(), http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{`+meta+`}}`, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "server/discover")
	if status != 200 || !strings.Contains(body, `"2026-07-28"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, _, h = w.raw(t.Context(), http.MethodDelete, "", "Mcp-Protocol-Version", "2026-07-28"); status != 405 || h.Get("Allow") != "POST" {
		t.Errorf("%d %v", status, h)
	}
}

func TestClosedAndNotServing(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.source.change(func(s *source) { s.rt.Closed = []run.Door{run.DoorMCP} })
	if status, body, _ := w.raw(t.Context(), http.MethodPost, initialize); status != 404 || !strings.Contains(body, "expose.mcp") {
		t.Errorf("%d %s", status, body)
	}
	w.source.change(func(s *source) { s.err = errs.New(errs.Unavailable, "nothing yet") })
	if status, body, h := w.raw(t.Context(), http.MethodPost, initialize); status != 503 || !strings.HasPrefix(body, `{"jsonrpc":"2.0"`) || h.Get("Retry-After") == "" {
		t.Errorf("%d %s", status, body)
	}
}

func TestSlowBody(t *testing.T) {
	t.Parallel()
	w := open(t)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", w.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	if status, body, _ := w.raw(t.Context(), http.MethodPost, call(1, "hello")); status != 200 {
		t.Errorf("another caller: %d %s", status, body)
	}
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 408") {
		t.Errorf("%s (%v)", b, err)
	}
}
