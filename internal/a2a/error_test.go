package a2a_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/agentry/agentry/internal/a2a"
)

// The table of 5.4, and JSON-RPC's own codes.
func TestCodes(t *testing.T) {
	t.Parallel()
	for reason, want := range map[a2a.Reason]a2a.Codes{
		"TASK_NOT_FOUND":                     {JSONRPC: -32001, HTTP: 404, GRPC: codes.NotFound},
		"TASK_NOT_CANCELABLE":                {JSONRPC: -32002, HTTP: 400, GRPC: codes.FailedPrecondition},
		"PUSH_NOTIFICATION_NOT_SUPPORTED":    {JSONRPC: -32003, HTTP: 400, GRPC: codes.FailedPrecondition},
		"UNSUPPORTED_OPERATION":              {JSONRPC: -32004, HTTP: 400, GRPC: codes.FailedPrecondition},
		"CONTENT_TYPE_NOT_SUPPORTED":         {JSONRPC: -32005, HTTP: 400, GRPC: codes.InvalidArgument},
		"INVALID_AGENT_RESPONSE":             {JSONRPC: -32006, HTTP: 500, GRPC: codes.Internal},
		"EXTENDED_AGENT_CARD_NOT_CONFIGURED": {JSONRPC: -32007, HTTP: 400, GRPC: codes.FailedPrecondition},
		"EXTENSION_SUPPORT_REQUIRED":         {JSONRPC: -32008, HTTP: 400, GRPC: codes.FailedPrecondition},
		"VERSION_NOT_SUPPORTED":              {JSONRPC: -32009, HTTP: 400, GRPC: codes.FailedPrecondition},
		"PARSE_ERROR":                        {JSONRPC: -32700, HTTP: 400, GRPC: codes.InvalidArgument},
		"INVALID_REQUEST":                    {JSONRPC: -32600, HTTP: 400, GRPC: codes.InvalidArgument},
		"METHOD_NOT_FOUND":                   {JSONRPC: -32601, HTTP: 404, GRPC: codes.Unimplemented},
		"INVALID_PARAMS":                     {JSONRPC: -32602, HTTP: 400, GRPC: codes.InvalidArgument},
		"INTERNAL_ERROR":                     {JSONRPC: -32603, HTTP: 500, GRPC: codes.Internal},
		"UNAUTHENTICATED":                    {JSONRPC: -31401, HTTP: http.StatusUnauthorized, GRPC: codes.Unauthenticated},
		"made up":                            {JSONRPC: -32603, HTTP: 500, GRPC: codes.Internal},
	} {
		if got := reason.Codes(); got != want {
			t.Errorf("%s is %+v, want %+v", reason, got, want)
		}
		e := a2a.Fail(reason, "why", "taskId", "t")
		var rpc struct {
			Code    int
			Message string
			Data    []map[string]any
		}
		if err := json.Unmarshal(e.JSONRPC(), &rpc); err != nil || rpc.Code != want.JSONRPC || rpc.Message != "why" || rpc.Data[0]["reason"] != string(reason) || rpc.Data[0]["domain"] != "a2a-protocol.org" {
			t.Errorf("%s: %s", reason, e.JSONRPC())
		}
		if st := e.GRPC(); st.Code() != want.GRPC || len(st.Details()) != 1 {
			t.Errorf("%s: %v", reason, st)
		}
	}
}

func TestStrangersStayInside(t *testing.T) {
	t.Parallel()
	if e := a2a.Of(errors.New("dial 10.1.2.3: secret")); e.Reason != a2a.Internal || e.Message != "the agent failed internally" {
		t.Errorf("%+v", e)
	}
}

func TestExtensions(t *testing.T) {
	t.Parallel()
	if got := a2a.Extensions([]string{" a , b,", "c"}); len(got) != 3 || got[0] != "a" || got[2] != "c" {
		t.Errorf("%q", got)
	}
}
