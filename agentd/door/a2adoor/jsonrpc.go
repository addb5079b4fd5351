package a2adoor

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/internal/a2a"
)

// rpcRequest is a JSON-RPC 2.0 request.
type rpcRequest struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
}

// serveJSONRPC answers POST /a2a.
func (d *Door) serveJSONRPC(w http.ResponseWriter, r *http.Request) {
	p := d.service(r)
	d.answering(w, p)
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		writeJSONRPC(w, http.StatusMethodNotAllowed, errorAnswer(nil, a2a.Fail(a2a.NotAllowed, r.Method+" is not allowed here")))
		return
	}
	req, fault := d.readJSONRPC(w, r)
	if fault != nil {
		status := http.StatusOK
		if fault.Reason == a2a.ContentTypeNotSupported || fault.Reason == a2a.TooLarge {
			status = fault.Reason.Codes().HTTP
		}
		writeJSONRPC(w, status, errorAnswer(req.ID, fault))
		return
	}
	if d.legacy(p) {
		d.serveV03(w, r, p, req)
		return
	}
	if stream := req.Method == "SendStreamingMessage" || req.Method == "SubscribeToTask"; stream {
		d.streamJSONRPC(w, r, p, req)
		return
	}
	result, err := d.callJSONRPC(r.Context(), p, req)
	if err != nil {
		writeJSONRPC(w, http.StatusOK, errorAnswer(req.ID, d.fault(err)))
		return
	}
	writeJSONRPC(w, http.StatusOK, resultAnswer(req.ID, result))
}

// readJSONRPC reads a request. Where its id could be read it is given with the fault.
func (d *Door) readJSONRPC(w http.ResponseWriter, r *http.Request) (rpcRequest, *a2a.Error) {
	if err := speaksJSON(r); err != nil {
		return rpcRequest{}, a2a.Of(err)
	}
	body, err := d.body(w, r)
	if err != nil {
		return rpcRequest{}, a2a.Of(err)
	}
	if !json.Valid(body) {
		return rpcRequest{}, a2a.Fail(a2a.ParseError, "Invalid JSON payload: the body is no JSON")
	}
	var req rpcRequest
	if json.Unmarshal(body, &req) != nil { // a batch, a word, or a field of a wrong kind
		return rpcRequest{}, a2a.Fail(a2a.InvalidRequest, "Request payload validation error: want one JSON-RPC 2.0 request object")
	}
	twice := repeated(body)
	if !validID(req.ID) || strings.EqualFold(twice, "id") {
		req.ID = nil
		return req, a2a.Fail(a2a.InvalidRequest, "Request payload validation error: id: want one string, number or null of at most "+strconv.Itoa(maxRPCID)+" bytes")
	}
	switch {
	case twice != "":
		return req, a2a.Fail(a2a.InvalidRequest, "Request payload validation error: "+strconv.Quote(clip(twice))+" is there twice")
	case req.JSONRPC != "2.0":
		return req, a2a.Fail(a2a.InvalidRequest, `Request payload validation error: jsonrpc: want "2.0"`)
	case req.Method == "":
		return req, a2a.Fail(a2a.InvalidRequest, "Request payload validation error: method: is required")
	case len(req.Params) > 0 && !bytes.Equal(req.Params, []byte("null")) && req.Params[0] != '{':
		return req, a2a.Fail(a2a.InvalidParams, "params: want an object")
	}
	return req, nil
}

// maxRPCID bounds a request's id, which stands in every answer of a stream.
const maxRPCID = 1024

// repeated gives a member that a request has twice, whatever the case of its letters (the decoder takes either for it); "": there is none.
func repeated(body []byte) string {
	in := json.NewDecoder(bytes.NewReader(body))
	if _, err := in.Token(); err != nil {
		return ""
	}
	seen := map[string]bool{}
	for in.More() {
		key, err := in.Token()
		name, ok := key.(string)
		if err != nil || !ok {
			return ""
		}
		small := strings.ToLower(name)
		if seen[small] {
			return name
		}
		seen[small] = true
		var value json.RawMessage
		if in.Decode(&value) != nil {
			return ""
		}
	}
	return ""
}

// validID: A2A's operations all answer, so there are no notifications.
func validID(id json.RawMessage) bool {
	return len(id) > 0 && len(id) <= maxRPCID && (id[0] == '"' || id[0] == '-' || id[0] >= '0' && id[0] <= '9' || bytes.Equal(id, []byte("null")))
}

// decode reads params, whose tenant the call then has.
func decode[M interface {
	proto.Message
	GetTenant() string
}](req rpcRequest, p *params, m M) error {
	if len(req.Params) > 0 && !bytes.Equal(req.Params, []byte("null")) {
		if err := a2a.Unmarshal(req.Params, m); err != nil {
			return a2a.Bad("params", protoFault(err))
		}
		if err := knownStatus(req); err != nil {
			return err
		}
	}
	p.tenant = m.GetTenant()
	return nil
}

// knownStatus refuses to list the tasks of a state that there isn't: the decoder leaves names out that it doesn't know, and so would list all.
func knownStatus(req rpcRequest) error {
	if req.Method != "ListTasks" {
		return nil
	}
	var in struct {
		Status json.RawMessage `json:"status"`
	}
	_ = json.Unmarshal(req.Params, &in) // what isn't JSON is somebody else's to refuse
	var name string
	_ = json.Unmarshal(in.Status, &name) // "" where there is none, or where it is a number
	if _, known := pb.TaskState_value[name]; !known && name != "" {
		return badStatus(name)
	}
	return nil
}

// unary performs one operation whose request is params.
func unary[M interface {
	proto.Message
	GetTenant() string
}, R proto.Message](ctx context.Context, d *Door, p params, req rpcRequest, m M, op func(context.Context, call, M) (R, error)) (json.RawMessage, error) {
	if err := decode(req, &p, m); err != nil {
		if _, entered := d.enter(ctx, p); entered != nil { // a version that isn't spoken explains more
			return nil, entered
		}
		return nil, err
	}
	c, err := d.enter(ctx, p)
	if err != nil {
		return nil, err
	}
	out, err := op(ctx, c, m)
	if err != nil {
		return nil, err
	}
	return marshal(out)
}

func (d *Door) callJSONRPC(ctx context.Context, p params, req rpcRequest) (json.RawMessage, error) {
	switch req.Method {
	case "SendMessage":
		return unary(ctx, d, p, req, &pb.SendMessageRequest{}, d.send)
	case "GetTask":
		return unary(ctx, d, p, req, &pb.GetTaskRequest{}, d.getTask)
	case "ListTasks":
		return unary(ctx, d, p, req, &pb.ListTasksRequest{}, d.listTasks)
	case "CancelTask":
		return unary(ctx, d, p, req, &pb.CancelTaskRequest{}, d.cancelTask)
	case "CreateTaskPushNotificationConfig":
		return unary(ctx, d, p, req, &pb.TaskPushNotificationConfig{}, d.createPush)
	case "GetTaskPushNotificationConfig":
		return unary(ctx, d, p, req, &pb.GetTaskPushNotificationConfigRequest{}, d.getPush)
	case "ListTaskPushNotificationConfigs":
		return unary(ctx, d, p, req, &pb.ListTaskPushNotificationConfigsRequest{}, d.listPush)
	case "DeleteTaskPushNotificationConfig":
		return unary(ctx, d, p, req, &pb.DeleteTaskPushNotificationConfigRequest{}, d.deletePush)
	case "GetExtendedAgentCard":
		return unary(ctx, d, p, req, &pb.GetExtendedAgentCardRequest{}, d.extended)
	default:
		if _, err := d.enter(ctx, p); err != nil {
			return nil, err
		}
		return nil, a2a.Fail(a2a.MethodNotFound, "Method not found: "+strconv.Quote(clip(req.Method)))
	}
}

func (d *Door) extended(ctx context.Context, c call, _ *pb.GetExtendedAgentCardRequest) (*pb.AgentCard, error) {
	return d.extendedCard(ctx, c)
}

// streamJSONRPC answers by a stream of answers to the one request.
func (d *Door) streamJSONRPC(w http.ResponseWriter, r *http.Request, p params, req rpcRequest) {
	out := newEvents(w)
	tell := func(m *pb.StreamResponse) error {
		if m == nil {
			return out.send(nil)
		}
		b, err := a2a.Marshal(m)
		if err != nil {
			return err
		}
		return out.send(resultAnswer(req.ID, b))
	}
	if err := d.streamOp(r.Context(), p, req, tell); err != nil {
		answer := errorAnswer(req.ID, d.fault(err))
		switch {
		case !out.started:
			writeJSONRPC(w, http.StatusOK, answer)
		case !left(r.Context()):
			_ = out.send(answer)
		}
	}
}

func (d *Door) streamOp(ctx context.Context, p params, req rpcRequest, tell sink) error {
	send, subscribe := &pb.SendMessageRequest{}, &pb.SubscribeToTaskRequest{}
	var err error
	if req.Method == "SubscribeToTask" {
		err = decode(req, &p, subscribe)
	} else {
		err = decode(req, &p, send)
	}
	c, entered := d.enter(ctx, p)
	switch {
	case entered != nil:
		return entered
	case err != nil:
		return err
	case req.Method == "SubscribeToTask":
		return d.subscribe(ctx, c, subscribe, tell)
	default:
		return d.sendStream(ctx, c, send, tell)
	}
}

func resultAnswer(id, result json.RawMessage) []byte {
	out := make([]byte, 0, len(id)+len(result)+48)
	out = append(out, `{"jsonrpc":"2.0","id":`...)
	out = append(out, idOr(id)...)
	out = append(out, `,"result":`...)
	out = append(out, result...)
	return append(out, '}')
}

func errorAnswer(id json.RawMessage, fault *a2a.Error) []byte {
	out := append([]byte(`{"jsonrpc":"2.0","id":`), idOr(id)...)
	out = append(out, `,"error":`...)
	out = append(out, fault.JSONRPC()...)
	return append(out, '}')
}

func idOr(id json.RawMessage) []byte {
	if len(id) == 0 {
		return []byte("null")
	}
	return id
}

func writeJSONRPC(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", a2a.MediaJSON)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // #nosec G705 -- JSON, and its type says so
}

// clip shortens what a caller wrote.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}

// protoFault gives what a decoder says, without its habit of changing its spaces.
func protoFault(err error) string {
	plain := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	return clip(strings.TrimPrefix(plain, "proto: "))
}
