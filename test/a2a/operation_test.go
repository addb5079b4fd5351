package a2a

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// patience bounds one call. Nothing here takes long unless it hangs.
const patience = 30 * time.Second

// The operations (section 5.3), by their names in JSON-RPC and gRPC.
const (
	sendMessage   = "SendMessage"
	streamMessage = "SendStreamingMessage"
	getTask       = "GetTask"
	listTasks     = "ListTasks"
	cancelTask    = "CancelTask"
	subscribeTask = "SubscribeToTask"
	createPush    = "CreateTaskPushNotificationConfig"
	getPush       = "GetTaskPushNotificationConfig"
	listPush      = "ListTaskPushNotificationConfigs"
	deletePush    = "DeleteTaskPushNotificationConfig"
	extendedCard  = "GetExtendedAgentCard"
)

// operations are all of them.
func operations() []string {
	return []string{sendMessage, streamMessage, getTask, listTasks, cancelTask, subscribeTask, createPush, getPush, listPush, deletePush, extendedCard}
}

// streaming reports whether an operation answers by a stream.
func streaming(op string) bool { return op == streamMessage || op == subscribeTask }

// answer is what an operation came to, whatever the binding. Of result and fault one is set.
type answer struct {
	status int         // of HTTP; 0: gRPC
	header http.Header // of HTTP; the metadata of gRPC
	body   []byte      // of HTTP, whole; of gRPC the message's JSON
	result json.RawMessage
	fault  *fault
}

// fault is an error. Codes that a binding doesn't have are 0.
type fault struct {
	rpc     int        // error.code of JSON-RPC
	http    int        // status of HTTP+JSON
	grpc    codes.Code // of gRPC
	name    string     // error.status of HTTP+JSON
	message string
	details []map[string]any // error.data, error.details, or the status's details as their JSON
}

// detail gives the first detail of a google.rpc type.
func (f *fault) detail(name string) map[string]any {
	for _, d := range f.details {
		if d["@type"] == "type.googleapis.com/google.rpc."+name {
			return d
		}
	}
	return nil
}

// reason gives the ErrorInfo's, "" without one.
func (f *fault) reason() string {
	s, _ := f.detail("ErrorInfo")["reason"].(string)
	return s
}

// codesOf is an error's row of section 5.4.
type codesOf struct {
	rpc, http int
	grpc      codes.Code
}

// errorCodes are the codes of section 5.4, and those of JSON-RPC with what they are elsewhere.
func errorCodes() map[string]codesOf {
	return map[string]codesOf{
		"TASK_NOT_FOUND":                     {-32001, 404, codes.NotFound},
		"TASK_NOT_CANCELABLE":                {-32002, 400, codes.FailedPrecondition},
		"PUSH_NOTIFICATION_NOT_SUPPORTED":    {-32003, 400, codes.FailedPrecondition},
		"UNSUPPORTED_OPERATION":              {-32004, 400, codes.FailedPrecondition},
		"CONTENT_TYPE_NOT_SUPPORTED":         {-32005, 400, codes.InvalidArgument},
		"INVALID_AGENT_RESPONSE":             {-32006, 500, codes.Internal},
		"EXTENDED_AGENT_CARD_NOT_CONFIGURED": {-32007, 400, codes.FailedPrecondition},
		"EXTENSION_SUPPORT_REQUIRED":         {-32008, 400, codes.FailedPrecondition},
		"VERSION_NOT_SUPPORTED":              {-32009, 400, codes.FailedPrecondition},
		"PARSE_ERROR":                        {-32700, 400, codes.InvalidArgument},
		"INVALID_REQUEST":                    {-32600, 400, codes.InvalidArgument},
		"METHOD_NOT_FOUND":                   {-32601, 404, codes.Unimplemented},
		"INVALID_PARAMS":                     {-32602, 400, codes.InvalidArgument},
		"INTERNAL_ERROR":                     {-32603, 500, codes.Internal},
	}
}

// ask performs a unary operation whose request is JSON as the protocol's proto has it; the tenant is the caller's.
func (c caller) ask(t *testing.T, op, request string) answer {
	t.Helper()
	if streaming(op) {
		t.Fatalf("%s answers by a stream", op)
	}
	ctx, cancel := c.patient(t)
	defer cancel()
	switch c.binding {
	case jsonrpc:
		return c.askJSONRPC(ctx, t, op, request)
	case rest:
		return c.askREST(ctx, t, op, request)
	default:
		return c.askGRPC(ctx, t, op, request)
	}
}

// patient bounds a call. Where one gets no answer, the tests that follow need not wait for theirs.
func (c caller) patient(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			c.world.hung.Store(true)
		}
	})
	return ctx, cancel
}

// try performs any operation, of a streaming one up to its first event.
func (c caller) try(t *testing.T, op, request string) answer {
	t.Helper()
	if !streaming(op) {
		return c.ask(t, op, request)
	}
	s, refused := c.open(t, op, request)
	if s == nil {
		return refused
	}
	defer s.close()
	return refused
}

// must performs a unary operation that has to work; its answer is read strictly into out.
func (c caller) must(t *testing.T, op, request string, out proto.Message) answer {
	t.Helper()
	a := c.ask(t, op, request)
	if a.fault != nil {
		t.Fatalf("%s %s: %+v", op, request, a.fault)
	}
	strictly(t, a.result, out)
	return a
}

// refused performs an operation that has to fail for this reason, with the codes that belong to it.
func (c caller) refused(t *testing.T, op, request, reason string) *fault {
	t.Helper()
	a := c.try(t, op, request)
	if a.fault == nil {
		t.Fatalf("%s %s was answered: %s", op, request, a.result)
	}
	c.checkFault(t, a, reason)
	return a.fault
}

// checkFault wants an error to be of this reason in every part.
func (c caller) checkFault(t *testing.T, a answer, reason string) {
	t.Helper()
	want, known := errorCodes()[reason]
	if !known {
		t.Fatalf("no codes for %q", reason)
	}
	f := a.fault
	if f.reason() != reason || f.detail("ErrorInfo")["domain"] != "a2a-protocol.org" || f.message == "" {
		t.Errorf("want %s with its ErrorInfo and a message, have %+v", reason, f)
	}
	switch c.binding {
	case jsonrpc:
		if f.rpc != want.rpc {
			t.Errorf("%s: code %d, want %d", reason, f.rpc, want.rpc)
		}
	case rest:
		if f.http != want.http || a.status != want.http {
			t.Errorf("%s: status %d, code %d, want %d", reason, a.status, f.http, want.http)
		}
	default:
		if f.grpc != want.grpc {
			t.Errorf("%s: %s, want %s", reason, f.grpc, want.grpc)
		}
	}
}

// strictly reads JSON that must be what the proto says, without unknown fields.
func strictly(t *testing.T, b []byte, out proto.Message) {
	t.Helper()
	if err := protojson.Unmarshal(b, out); err != nil {
		t.Fatalf("no %s: %v\n%s", out.ProtoReflect().Descriptor().Name(), err, b)
	}
}

// fieldsOf reads a request's JSON as an object.
func fieldsOf(t *testing.T, request string) map[string]json.RawMessage {
	t.Helper()
	out := map[string]json.RawMessage{}
	if request == "" {
		return out
	}
	if err := json.Unmarshal([]byte(request), &out); err != nil {
		t.Fatalf("the test's own request: %v\n%s", err, request)
	}
	return out
}

// withTenant adds the caller's tenant to a request.
func (c caller) withTenant(t *testing.T, request string) string {
	t.Helper()
	if c.tenant == "" && request != "" {
		return request
	}
	fields := fieldsOf(t, request)
	if c.tenant != "" {
		fields["tenant"] = json.RawMessage(text(t, c.tenant))
	}
	return text(t, fields)
}
