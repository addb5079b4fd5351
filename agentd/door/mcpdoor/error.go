package mcpdoor

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/agentry/agentry/agentd/door/front"
)

// The JSON-RPC codes of ours, in the range that servers may use.
const (
	codeUnavailable = -32000 // nothing serves now
	codeRefused     = -32001 // the front refused the caller
)

// rpcError is a JSON-RPC error response.
type rpcError struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"` // null where the request has none that could be read
	Error   rpcFault        `json:"error"`
}

type rpcFault struct {
	Code    int            `json:"code"`
	Message string         `json:"message"`
	Data    map[string]any `json:"data,omitempty"`
}

func writeError(w http.ResponseWriter, status int, id json.RawMessage, code int, message string) {
	writeFault(w, status, id, rpcFault{Code: code, Message: message})
}

func writeFault(w http.ResponseWriter, status int, id json.RawMessage, f rpcFault) {
	if id == nil {
		id = json.RawMessage("null")
	}
	b, err := json.Marshal(rpcError{Version: mcp.JSONRPC_VERSION, ID: id, Error: f})
	if err != nil {
		http.Error(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"internal"}}`, http.StatusInternalServerError)
		return
	}
	if status == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// Refuse answers what a front refused, in this door's shape.
func Refuse(w http.ResponseWriter, _ *http.Request, r front.Refusal) {
	writeFault(w, r.Status, nil, rpcFault{Code: codeRefused, Message: r.Message, Data: map[string]any{"code": r.Code}})
}
