package a2a

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// rpcAnswer is a JSON-RPC answer.
type rpcAnswer struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  json.RawMessage `json:"result"`
	Error   *struct {
		Code    int              `json:"code"`
		Message string           `json:"message"`
		Data    []map[string]any `json:"data"`
	} `json:"error"`
}

// rpcID is the id of every request here.
const rpcID = `"id-1"`

func rpcRequest(op, params string) string {
	return `{"jsonrpc":"2.0","id":` + rpcID + `,"method":"` + op + `","params":` + params + `}`
}

// http sends a request with the caller's headers. The caller closes the body.
func (c caller) http(ctx context.Context, t *testing.T, method, url, body, accept string) *http.Response {
	t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	for name, value := range c.header {
		req.Header.Set(name, value)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp
}

// whole reads an answer's body, which its caller closes.
func whole(t *testing.T, resp *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (c caller) askJSONRPC(ctx context.Context, t *testing.T, op, request string) answer {
	t.Helper()
	return c.post(ctx, t, rpcRequest(op, c.withTenant(t, request)))
}

// post sends a body to the JSON-RPC endpoint.
func (c caller) post(ctx context.Context, t *testing.T, body string) answer {
	t.Helper()
	resp := c.http(ctx, t, http.MethodPost, c.address[jsonrpc], body, "")
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, header: resp.Header, body: whole(t, resp)}
	a.readRPC(t, a.body)
	return a
}

// readRPC reads a JSON-RPC answer.
func (a *answer) readRPC(t *testing.T, body []byte) rpcAnswer {
	t.Helper()
	var in rpcAnswer
	if err := json.Unmarshal(body, &in); err != nil {
		t.Fatalf("no JSON-RPC answer (%d): %v\n%s", a.status, err, body)
	}
	if in.JSONRPC != "2.0" || (in.Result == nil) == (in.Error == nil) || len(bytes.TrimSpace(in.ID)) == 0 {
		t.Fatalf("no JSON-RPC answer: %s", body)
	}
	a.result = in.Result
	if in.Error != nil {
		a.fault = &fault{rpc: in.Error.Code, message: in.Error.Message, details: in.Error.Data}
	}
	return in
}
