package mcpdoor_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Whatever comes, the door answers in the protocol's terms, and the next caller is answered.
func FuzzPost(f *testing.F) {
	w := open(f)
	w.source.change(func(s *source) { s.rt.WallTime = 100 * time.Millisecond })
	session := w.session()
	for _, seed := range []string{
		initialize, call(1, "hello"), call(1, `use {"amount":70}`), `{"jsonrpc":"2.0","id":"a","method":"ping"}`, `[]`, `{`, `null`, `{"jsonrpc":"2.0","id":1,"result":{}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"x"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"helper","arguments":{"message":"a"},"_meta":{"progressToken":{}},"task":{"ttl":-1}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"helper","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}`, `{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"debug"}}`,
		`{"jsonrpc":"2.0","id":1.5e300,"method":"completion/complete"}`, "\x00", `{"jsonrpc":"2.0","id":1,"method":"\ud800"}`,
	} {
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, inSession bool) {
		post := func(body []byte) *httptest.ResponseRecorder {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/mcp", bytes.NewReader(body))
			r.RemoteAddr, r.Host = "127.0.0.1:9", "localhost"
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Accept", "application/json, text/event-stream")
			if inSession {
				r.Header.Set("Mcp-Session-Id", session)
			}
			out := httptest.NewRecorder()
			w.Config.Handler.ServeHTTP(out, r)
			return out
		}
		got := post(body)
		switch {
		case got.Code >= 500:
			t.Errorf("%d %s", got.Code, got.Body)
		case got.Code == http.StatusAccepted || got.Header().Get("Content-Type") != "application/json":
		default:
			var answer struct {
				Version string          `json:"jsonrpc"`
				Result  json.RawMessage `json:"result"`
				Error   json.RawMessage `json:"error"`
			}
			if err := json.Unmarshal(got.Body.Bytes(), &answer); err != nil || answer.Version != "2.0" || (answer.Result == nil) == (answer.Error == nil) {
				t.Errorf("%d %s: no JSON-RPC answer (%v)", got.Code, got.Body, err)
			}
		}
		if next := post([]byte(call(1, "hello"))); next.Code != http.StatusOK || !bytes.Contains(next.Body.Bytes(), []byte("1: hello")) {
			t.Errorf("the next call: %d %s", next.Code, next.Body)
		}
	})
}
