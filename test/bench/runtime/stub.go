package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// What the stub model looks for, and what it says.
const (
	askTool   = "call the tool"
	answer    = "There are two configs in the namespace: common.yaml and gateway.yaml. Both belong to the group DEFAULT_GROUP and were read just now."
	pieces    = 20 // of a streamed answer
	completed = `{"id":"chatcmpl-stub","object":"chat.completion","created":1,"model":"stub","choices":[{"index":0,"message":%s,"finish_reason":%q}],"usage":{"prompt_tokens":120,"completion_tokens":30,"total_tokens":150}}`
	toolCall  = `{"role":"assistant","content":"","tool_calls":[{"id":"call_1","type":"function","function":{"name":%q,"arguments":"{\"namespace\":\"public\"}"}}]}`
	piece     = `data: {"id":"chatcmpl-stub","object":"chat.completion.chunk","created":1,"model":"stub","choices":[{"index":0,"delta":{"content":%q},"finish_reason":null}]}` + "\n\n"
	lastPiece = `data: {"id":"chatcmpl-stub","object":"chat.completion.chunk","created":1,"model":"stub","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":120,"completion_tokens":30,"total_tokens":150}}` + "\n\ndata: [DONE]\n\n"
)

// The tools of the stub MCP server, and the name under which agentd shows one to the model (semantics.md 7).
const (
	serverName = "tools"
	toolName   = "list_configs"
	fullName   = serverName + "__" + toolName
	schema     = `{"type":"object","properties":{"namespace":{"type":"string","description":"the namespace to look in"}},"required":["namespace"]}`
	toolText   = `{"configs":[{"dataId":"common.yaml","group":"DEFAULT_GROUP"},{"dataId":"gateway.yaml","group":"DEFAULT_GROUP"}]}`
)

// stubs is the stub model below /v1 and the stub MCP server at /mcp: no latency, as little work as possible.
func stubs() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", newStubModel())
	mux.HandleFunc("POST /mcp", stubMCP)
	mux.HandleFunc("GET /mcp", func(w http.ResponseWriter, r *http.Request) { // the stream for notifications: none come
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("DELETE /mcp", func(http.ResponseWriter, *http.Request) {})
	return mux
}

// newStubModel gives the handler of the model: it asks for the tool when it is told to and has no result yet, and answers otherwise.
func newStubModel() http.HandlerFunc {
	plain := fmt.Appendf(nil, completed, fmt.Sprintf(`{"role":"assistant","content":%q}`, answer), "stop")
	call := fmt.Appendf(nil, completed, fmt.Sprintf(toolCall, fullName), "tool_calls")
	var events [][]byte
	for i := range pieces {
		from, to := i*len(answer)/pieces, (i+1)*len(answer)/pieces
		events = append(events, fmt.Appendf(nil, piece, answer[from:to]))
	}
	events = append(events, []byte(lastPiece))
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if bytes.Contains(body, []byte(`"stream":true`)) {
			w.Header().Set("Content-Type", "text/event-stream")
			rc := http.NewResponseController(w)
			for _, e := range events {
				_, _ = w.Write(e)
				_ = rc.Flush()
			}
			return
		}
		w.Header().Set("Content-Type", "application/json")
		ask, result := bytes.LastIndex(body, []byte(askTool)), bytes.LastIndex(body, []byte(`"role":"tool"`))
		if ask > result {
			_, _ = w.Write(call)
			return
		}
		_, _ = w.Write(plain)
	}
}

// stubMCP answers initialize, tools/list and tools/call of streamable HTTP in plain JSON.
func stubMCP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	id := idOf(body)
	if id == "" {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	method := between(body, `"method":"`, `"`)
	switch method {
	case "initialize":
		w.Header().Set("Mcp-Session-Id", "stub-session")
		version := between(body, `"protocolVersion":"`, `"`)
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":%q,"capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"stub","version":"1"}}}`, id, version)
	case "tools/list":
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":%q,"description":"Lists the configs of a namespace.","inputSchema":%s}]}}`, id, toolName, schema)
	case "tools/call":
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":%q}]}}`, id, toolText)
	case "ping":
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{}}`, id)
	default:
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no %s here"}}`, id, method)
	}
}

// idOf gives a JSON-RPC request's id as it is written, "" for a notification. The two clients write it as a plain number or string.
func idOf(body []byte) string {
	_, after, ok := bytes.Cut(body, []byte(`"id":`))
	if !ok {
		return ""
	}
	return strings.TrimSpace(string(after[:bytes.IndexAny(after, ",}")]))
}

func between(body []byte, from, to string) string {
	_, after, _ := bytes.Cut(body, []byte(from))
	before, _, _ := bytes.Cut(after, []byte(to))
	return string(before)
}
