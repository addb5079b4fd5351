package command_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// farAgent is a small A2A agent over JSON-RPC that does what the message's text says.
type farAgent struct {
	key     string
	streams bool

	mu       sync.Mutex // guards what follows
	tasks    map[string]string
	answered int
	canceled chan struct{}
	arrived  chan struct{}
	once     [2]sync.Once
}

// a2aAgent starts an agent: a2a [stream] [key=KEY]; $AGENT names it.
func a2aAgent(ts *testscript.TestScript, _ bool, args []string) {
	f := &farAgent{tasks: map[string]string{}, canceled: make(chan struct{}), arrived: make(chan struct{})}
	for _, a := range args {
		f.streams = f.streams || a == "stream"
		if k, ok := strings.CutPrefix(a, "key="); ok {
			f.key = k
		}
	}
	hs := httptest.NewServer(f)
	ts.Defer(func() { hs.CloseClientConnections(); hs.Close() })
	ts.Setenv("AGENT", hs.URL)
	ts.Setenv("AGENT_HOST", hs.Listener.Addr().String())
	farAgents.Store(hs.URL, f)
}

var farAgents sync.Map // by URL; scripts run side by side

// awaited waits until the agent of the script is polled about a slow task, or was told to cancel it: awaited arrived|canceled.
func awaited(ts *testscript.TestScript, _ bool, args []string) {
	v, _ := farAgents.Load(ts.Getenv("AGENT"))
	f, ok := v.(*farAgent)
	if !ok {
		ts.Fatalf("no agent")
	}
	c := f.arrived
	if args[0] == "canceled" {
		c = f.canceled
	}
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		ts.Fatalf("nothing %s", args[0])
	}
}

// ServeHTTP implements http.Handler.
func (f *farAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && r.URL.Path == "/.well-known/agent-card.json" {
		_, _ = fmt.Fprintf(w, `{"name":"Far","description":"d","version":"1","supportedInterfaces":[{"url":"http://127.0.0.1:1/rest","protocolBinding":"HTTP+JSON","protocolVersion":"1.0"},
			{"url":"http://%s/rpc","protocolBinding":"JSONRPC","protocolVersion":"1.0"}],"capabilities":{"streaming":%t},"defaultInputModes":["text/plain"],"defaultOutputModes":["text/plain"],"skills":[]}`, r.Host, f.streams)
		return
	}
	if r.URL.Path != "/rpc" {
		http.NotFound(w, r)
		return
	}
	if f.key != "" && r.Header.Get("Authorization") != "Bearer "+f.key {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var in struct {
		Method string
		Params struct {
			ID      string
			Message struct {
				TaskID string
				Parts  []struct{ Text string }
			}
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Header.Get("A2A-Version") != "1.0" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	switch in.Method {
	case "SendMessage":
		f.tell(w, f.sent(in.Params.Message.TaskID, in.Params.Message.Parts[0].Text))
	case "SendStreamingMessage":
		f.stream(w, r, f.sent(in.Params.Message.TaskID, in.Params.Message.Parts[0].Text))
	case "SubscribeToTask":
		f.stream(w, r, `{"task":`+f.task(in.Params.ID)+`}`)
	case "GetTask":
		if strings.Contains(f.task(in.Params.ID), "WORKING") { // who polls knows the task
			f.once[0].Do(func() { close(f.arrived) })
		}
		f.tell(w, f.task(in.Params.ID))
	case "CancelTask":
		f.mu.Lock()
		f.tasks[in.Params.ID] = task(in.Params.ID, "CANCELED", "", "")
		f.mu.Unlock()
		f.once[1].Do(func() { close(f.canceled) })
		f.tell(w, f.task(in.Params.ID))
	}
}

func (f *farAgent) tell(w http.ResponseWriter, result string) {
	if result == "" {
		_, _ = fmt.Fprint(w, `{"jsonrpc":"2.0","id":"1","error":{"code":-32001,"message":"no such task"}}`)
		return
	}
	_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":"1","result":%s}`, result)
}

// stream tells a task or a message, its answer in two pieces; one that works on stays open.
func (f *farAgent) stream(w http.ResponseWriter, r *http.Request, result string) {
	if result == "" || result == `{"task":}` {
		f.tell(w, "")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	put := func(result string) {
		_, _ = fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":%s}\n\n", result)
	}
	if strings.Contains(result, "COMPLETED") {
		id := strings.Split(result, `"`)[5]
		put(`{"task":` + task(id, "WORKING", "", "") + `}`)
		for i, piece := range []string{"all ", "done"} {
			put(fmt.Sprintf(`{"artifactUpdate":{"taskId":%q,"contextId":"c","append":%t,"artifact":{"artifactId":"a","parts":[{"text":%q}]}}}`, id, i > 0, piece))
		}
		put(fmt.Sprintf(`{"statusUpdate":{"taskId":%q,"contextId":"c","status":{"state":"TASK_STATE_COMPLETED"}}}`, id))
		return
	}
	put(result)
	if strings.Contains(result, "WORKING") {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-f.canceled:
		}
	}
}

func task(id, state, artifact, said string) string {
	out := fmt.Sprintf(`{"id":%q,"contextId":"c","status":{"state":"TASK_STATE_%s"`, id, state)
	if said != "" {
		out += fmt.Sprintf(`,"message":{"messageId":"m","role":"ROLE_AGENT","parts":[{"text":%q}]}`, said)
	}
	out += "}"
	if artifact != "" {
		out += fmt.Sprintf(`,"artifacts":[{"artifactId":"a","parts":[{"text":%q}]}]`, artifact)
	}
	return out + "}"
}

func (f *farAgent) task(id string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tasks[id]
}

// sent makes a task, goes on with one, or answers by a message.
func (f *farAgent) sent(id, text string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answered++
	if id == "" {
		id = fmt.Sprintf("t%d", f.answered)
	} else if f.tasks[id] == "" {
		return ""
	}
	switch text {
	case "reply":
		return `{"message":{"messageId":"m1","contextId":"c","role":"ROLE_AGENT","parts":[{"text":"just a word"}]}}`
	case "ask":
		f.tasks[id] = task(id, "INPUT_REQUIRED", "", "Which day?")
	case "fail":
		f.tasks[id] = task(id, "FAILED", "", "out of luck")
	case "slow":
		f.tasks[id] = task(id, "WORKING", "", "")
	default:
		f.tasks[id] = task(id, "COMPLETED", "all done", "")
	}
	return `{"task":` + f.tasks[id] + `}`
}
