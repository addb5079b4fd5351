package mcpdoor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"go.opentelemetry.io/otel/propagation"

	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/run"
)

const (
	// maxSmall bounds every message but a tool call, and what a tool call says about itself (_meta), in bytes.
	maxSmall = 64 << 10
	// maxID bounds a request's id, in bytes.
	maxID = 256
)

// envelope is what every JSON-RPC message has.
type envelope struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"`
}

// callParams are the parameters of tools/call.
type callParams struct {
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
	Meta      json.RawMessage `json:"_meta"`
}

// badRequest is a message that is refused as it is.
type badRequest struct {
	status  int
	code    int
	message string
}

func (d *Door) post(w *bounded, r *http.Request, face run.Face) {
	body, bad := d.body(w, r)
	var in envelope
	if bad == nil {
		bad = in.read(body)
	}
	if bad != nil {
		writeError(w, bad.status, in.ID, bad.code, bad.message)
		return
	}
	session := r.Header.Get(HeaderSession)
	modern := mcp.IsModernProtocol(r.Header.Get(mcp.HeaderProtocolVersion))
	switch {
	case modern || in.Method == string(mcp.MethodInitialize):
		session = ""
	case session != "" && (!ours(session) || d.calls.ended(session)):
		writeError(w, http.StatusNotFound, in.ID, mcp.INVALID_REQUEST, "there is no such session: initialize a new one")
		return
	}
	principal := front.CallerOf(r.Context()).Principal
	if in.ID == nil || in.Method == "" { // a notification; or an answer, though nothing was asked
		if in.Method == string(mcp.MethodNotificationCancelled) && session != "" {
			d.calls.cancel(callKey{principal, session, cancelled(in.Params)})
		}
		w.WriteHeader(http.StatusAccepted)
		return
	}
	ctx := d.cfg.Propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	k := &known{face: face, principal: principal, accepts: acceptsEvents(r), out: w, ctx: ctx}
	switch in.Method {
	case string(mcp.MethodToolsCall):
		if body, bad = k.take(in); bad != nil {
			writeError(w, bad.status, in.ID, bad.code, bad.message)
			return
		}
		var done func()
		k.ctx, w.call, done = d.calls.begin(ctx, callKey{principal, session, string(in.ID)})
		defer done()
	case string(mcp.MethodInitialize):
		if !modern {
			w.Header().Set(HeaderSession, newSession())
		}
	}
	if len(body) > maxSmall {
		writeError(w, http.StatusRequestEntityTooLarge, in.ID, mcp.INVALID_REQUEST, fmt.Sprintf("a %s is larger than %d bytes", in.Method, maxSmall))
		return
	}
	r = r.WithContext(context.WithValue(ctx, knownKey{}, k))
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	d.protocol.ServeHTTP(w, r)
}

// body reads the whole body.
func (d *Door) body(w http.ResponseWriter, r *http.Request) ([]byte, *badRequest) {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, &badRequest{http.StatusUnsupportedMediaType, mcp.INVALID_REQUEST, fmt.Sprintf("a body in Content-Encoding %q is not accepted: send it plain", coding)}
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, &badRequest{http.StatusUnsupportedMediaType, mcp.INVALID_REQUEST, "the body must be application/json, and Content-Type must say so"}
	}
	b, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &badRequest{http.StatusRequestEntityTooLarge, mcp.INVALID_REQUEST, fmt.Sprintf("the request is larger than %d bytes", large.Limit)}
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return nil, &badRequest{http.StatusRequestTimeout, mcp.INVALID_REQUEST, fmt.Sprintf("the request's body took longer than %s to come", d.cfg.BodyTimeout)}
	case err != nil:
		return nil, &badRequest{http.StatusBadRequest, mcp.PARSE_ERROR, "the request's body could not be read"}
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // the answer may take as long as it takes, and who goes away is noticed
	return b, nil
}

// read takes a message apart without looking into what it carries.
func (e *envelope) read(body []byte) *badRequest {
	if trimmed := bytes.TrimSpace(body); len(trimmed) > 0 && trimmed[0] == '[' {
		return &badRequest{http.StatusBadRequest, mcp.INVALID_REQUEST, "batches are not accepted: send one message a request"}
	}
	if err := json.Unmarshal(body, e); err != nil {
		*e = envelope{}
		return &badRequest{http.StatusBadRequest, mcp.PARSE_ERROR, "the body is not a JSON-RPC message"}
	}
	if string(e.ID) == "null" {
		e.ID = nil
	}
	if !validID(e.ID) {
		e.ID = nil
		return &badRequest{http.StatusBadRequest, mcp.INVALID_REQUEST, fmt.Sprintf("id: must be a text or a number of at most %d bytes", maxID)}
	}
	switch {
	case e.Version != mcp.JSONRPC_VERSION:
		return &badRequest{http.StatusBadRequest, mcp.INVALID_REQUEST, `jsonrpc: must be "2.0"`}
	case e.Method == "" && e.Result == nil && e.Error == nil:
		return &badRequest{http.StatusBadRequest, mcp.INVALID_REQUEST, "method: is missing"}
	case e.Method != "" && (e.Result != nil || e.Error != nil):
		return &badRequest{http.StatusBadRequest, mcp.INVALID_REQUEST, "a message is a request or an answer, not both"}
	}
	return nil
}

func validID(id json.RawMessage) bool {
	if len(id) == 0 {
		return true
	}
	return len(id) <= maxID && (id[0] == '"' || id[0] == '-' || (id[0] >= '0' && id[0] <= '9'))
}

// cancelled gives the id of the request that a notification cancels.
func cancelled(params json.RawMessage) string {
	var p struct {
		ID json.RawMessage `json:"requestId"`
	}
	if json.Unmarshal(params, &p) != nil {
		return ""
	}
	return string(p.ID)
}

// acceptsEvents reports whether the answer may be a stream, which progress needs.
func acceptsEvents(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		for one := range strings.SplitSeq(accept, ",") {
			if kind, _, err := mime.ParseMediaType(one); err == nil && (kind == "text/event-stream" || kind == "*/*" || kind == "text/*") {
				return true
			}
		}
	}
	return false
}
