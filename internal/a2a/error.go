package a2a

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
)

// Domain is the domain of every ErrorInfo.
const Domain = "a2a-protocol.org"

// Reason names an error in every binding.
type Reason string

// The errors of the protocol (5.4), those of JSON-RPC (9.5), and those that neither names.
const (
	TaskNotFound                   Reason = "TASK_NOT_FOUND"
	TaskNotCancelable              Reason = "TASK_NOT_CANCELABLE"
	PushNotificationNotSupported   Reason = "PUSH_NOTIFICATION_NOT_SUPPORTED"
	UnsupportedOperation           Reason = "UNSUPPORTED_OPERATION"
	ContentTypeNotSupported        Reason = "CONTENT_TYPE_NOT_SUPPORTED"
	InvalidAgentResponse           Reason = "INVALID_AGENT_RESPONSE"
	ExtendedAgentCardNotConfigured Reason = "EXTENDED_AGENT_CARD_NOT_CONFIGURED"
	ExtensionSupportRequired       Reason = "EXTENSION_SUPPORT_REQUIRED"
	VersionNotSupported            Reason = "VERSION_NOT_SUPPORTED"

	ParseError     Reason = "PARSE_ERROR"
	InvalidRequest Reason = "INVALID_REQUEST"
	MethodNotFound Reason = "METHOD_NOT_FOUND"
	InvalidParams  Reason = "INVALID_PARAMS"
	Internal       Reason = "INTERNAL_ERROR"

	Unauthenticated  Reason = "UNAUTHENTICATED"
	PermissionDenied Reason = "PERMISSION_DENIED"
	Exhausted        Reason = "RESOURCE_EXHAUSTED"
	Unavailable      Reason = "UNAVAILABLE"
	TooLarge         Reason = "REQUEST_TOO_LARGE"
	NotAllowed       Reason = "METHOD_NOT_ALLOWED"
)

// Codes are what an error is called in each binding.
type Codes struct {
	JSONRPC int
	HTTP    int
	GRPC    codes.Code
}

// Codes gives the reason's codes; an unknown one is Internal.
func (r Reason) Codes() Codes {
	switch r {
	case TaskNotFound:
		return Codes{-32001, http.StatusNotFound, codes.NotFound}
	case TaskNotCancelable:
		return Codes{-32002, http.StatusBadRequest, codes.FailedPrecondition}
	case PushNotificationNotSupported:
		return Codes{-32003, http.StatusBadRequest, codes.FailedPrecondition}
	case UnsupportedOperation:
		return Codes{-32004, http.StatusBadRequest, codes.FailedPrecondition}
	case ContentTypeNotSupported:
		return Codes{-32005, http.StatusBadRequest, codes.InvalidArgument}
	case InvalidAgentResponse:
		return Codes{-32006, http.StatusInternalServerError, codes.Internal}
	case ExtendedAgentCardNotConfigured:
		return Codes{-32007, http.StatusBadRequest, codes.FailedPrecondition}
	case ExtensionSupportRequired:
		return Codes{-32008, http.StatusBadRequest, codes.FailedPrecondition}
	case VersionNotSupported:
		return Codes{-32009, http.StatusBadRequest, codes.FailedPrecondition}
	case ParseError:
		return Codes{-32700, http.StatusBadRequest, codes.InvalidArgument}
	case InvalidRequest:
		return Codes{-32600, http.StatusBadRequest, codes.InvalidArgument}
	case MethodNotFound:
		return Codes{-32601, http.StatusNotFound, codes.Unimplemented}
	case InvalidParams:
		return Codes{-32602, http.StatusBadRequest, codes.InvalidArgument}
	case Unauthenticated:
		return Codes{-31401, http.StatusUnauthorized, codes.Unauthenticated}
	case PermissionDenied:
		return Codes{-31403, http.StatusForbidden, codes.PermissionDenied}
	case Exhausted:
		return Codes{-32000, http.StatusTooManyRequests, codes.ResourceExhausted}
	case Unavailable:
		return Codes{-32000, http.StatusServiceUnavailable, codes.Unavailable}
	case TooLarge:
		return Codes{-32600, http.StatusRequestEntityTooLarge, codes.ResourceExhausted}
	case NotAllowed:
		return Codes{-32600, http.StatusMethodNotAllowed, codes.Unimplemented}
	case Internal:
		return Codes{-32603, http.StatusInternalServerError, codes.Internal}
	default:
		return Codes{-32603, http.StatusInternalServerError, codes.Internal}
	}
}

// Error is an error of the protocol.
type Error struct {
	Reason  Reason
	Message string
	Meta    map[string]string // of the ErrorInfo
	Fields  []Field           // what is wrong where, of InvalidParams
}

// Field is one fault of a request.
type Field struct{ Path, Fault string }

// Fail makes an Error. meta are pairs of key and value.
func Fail(r Reason, message string, meta ...string) *Error {
	e := &Error{Reason: r, Message: message}
	for i := 0; i+1 < len(meta); i += 2 {
		if e.Meta == nil {
			e.Meta = map[string]string{}
		}
		e.Meta[meta[i]] = meta[i+1]
	}
	return e
}

// Bad makes an InvalidParams about one field.
func Bad(path, fault string) *Error {
	return &Error{Reason: InvalidParams, Message: path + ": " + fault, Fields: []Field{{path, fault}}}
}

// Error gives the message.
func (e *Error) Error() string { return e.Message }

// Of gives err as an Error; one that is none is Internal, and its text stays here.
func Of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Fail(Internal, "the agent failed internally")
}

// Details gives the objects of error.data (JSON-RPC) and error.details (HTTP+JSON): an ErrorInfo, and a BadRequest where fields are at fault.
func (e *Error) Details() []any {
	info := map[string]any{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": string(e.Reason), "domain": Domain}
	if len(e.Meta) > 0 {
		info["metadata"] = maps.Clone(e.Meta)
	}
	out := []any{info}
	if len(e.Fields) > 0 {
		violations := make([]map[string]string, len(e.Fields))
		for i, f := range e.Fields {
			violations[i] = map[string]string{"field": f.Path, "description": f.Fault}
		}
		out = append(out, map[string]any{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations})
	}
	return out
}

// JSONRPC gives the error object of a JSON-RPC answer.
func (e *Error) JSONRPC() json.RawMessage {
	return mustJSON(map[string]any{"code": e.Reason.Codes().JSONRPC, "message": e.Message, "data": e.Details()})
}

// HTTP gives the body of an HTTP+JSON answer (google.rpc.Status below "error").
func (e *Error) HTTP() json.RawMessage {
	c := e.Reason.Codes()
	return mustJSON(map[string]any{"error": map[string]any{"code": c.HTTP, "status": statusName(c.GRPC), "message": e.Message, "details": e.Details()}})
}

// GRPC gives the gRPC status.
func (e *Error) GRPC() *status.Status {
	st := status.New(e.Reason.Codes().GRPC, e.Message)
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: string(e.Reason), Domain: Domain, Metadata: maps.Clone(e.Meta)}}
	if len(e.Fields) > 0 {
		bad := &errdetails.BadRequest{}
		for _, f := range e.Fields {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: f.Path, Description: f.Fault})
		}
		details = append(details, bad)
	}
	if with, err := st.WithDetails(details...); err == nil {
		return with
	}
	return st
}

// mustJSON writes maps of strings and numbers, which always can be.
func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage(`{}`)
	}
	return b
}

// statusName gives a code's name as google.rpc.Code spells it.
func statusName(c codes.Code) string {
	switch c {
	case codes.InvalidArgument:
		return "INVALID_ARGUMENT"
	case codes.NotFound:
		return "NOT_FOUND"
	case codes.FailedPrecondition:
		return "FAILED_PRECONDITION"
	case codes.Unimplemented:
		return "UNIMPLEMENTED"
	case codes.Unauthenticated:
		return "UNAUTHENTICATED"
	case codes.PermissionDenied:
		return "PERMISSION_DENIED"
	case codes.ResourceExhausted:
		return "RESOURCE_EXHAUSTED"
	case codes.Unavailable:
		return "UNAVAILABLE"
	default:
		return "INTERNAL"
	}
}
