package mcptool_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/tool/mcptool"
)

// A call leaves its connection to the next one, in whatever form the server answers: a new one for each costs a handshake in the middle of
// a turn.
func TestCallsReuseConnections(t *testing.T) {
	t.Parallel()
	event := func(w http.ResponseWriter, body string) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprintf(w, "event: message\ndata: %s\n\n", body)
		_ = http.NewResponseController(w).Flush() // the end comes apart, and later
		time.Sleep(time.Millisecond)              //nolint:forbidigo // the server takes its time: that is what is tested
	}
	for name, answer := range map[string]func(http.ResponseWriter, string){
		"with a length": func(w http.ResponseWriter, body string) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprint(w, body)
		},
		"in chunks": func(w http.ResponseWriter, body string) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprint(w, body)
			_ = http.NewResponseController(w).Flush()
		},
		"as an event": event,
		"as the second event": func(w http.ResponseWriter, body string) {
			event(w, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`)
			event(w, body)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var connections atomic.Int32
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { plainServer(w, r, answer) }))
			srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
				if s == http.StateNew {
					connections.Add(1)
				}
			}
			srv.Start()
			t.Cleanup(srv.Close)
			s, _ := open(t, srv.URL, func(c *mcptool.Config) { c.Name = "plain" })
			if err := s.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := connections.Load()
			for range 20 {
				res, err := s.Tools()[0].Call(t.Context(), json.RawMessage(`{}`))
				if err != nil || res.Text != "said" {
					t.Fatalf("%+v, %v", res, err)
				}
			}
			if n := connections.Load() - before; n > 8 { // two at a time, and a busy machine may be late with the end of an answer
				t.Errorf("20 calls made %d connections", n)
			}
		})
	}
}

// plainServer is an MCP server without sessions, streams of its own or any library.
func plainServer(w http.ResponseWriter, r *http.Request, answer func(http.ResponseWriter, string)) {
	var in struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params struct {
			Version string `json:"protocolVersion"`
		} `json:"params"`
	}
	switch {
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case json.NewDecoder(r.Body).Decode(&in) != nil:
		w.WriteHeader(http.StatusBadRequest)
		return
	case len(in.ID) == 0:
		w.WriteHeader(http.StatusAccepted)
		return
	}
	result := "{}"
	switch in.Method {
	case "initialize":
		result = fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{"tools":{}},"serverInfo":{"name":"plain","version":"1"}}`, in.Params.Version)
	case "tools/list":
		result = `{"tools":[{"name":"say","inputSchema":{"type":"object"}}]}`
	case "tools/call":
		result = `{"content":[{"type":"text","text":"said"}]}`
	}
	answer(w, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, in.ID, result))
}
