package a2aclient

import (
	"context"
	"encoding/json"
	"net/http"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/egress"
)

// jsonrpc is the JSON-RPC binding.
type jsonrpc struct {
	web   *web
	at    *endpoint
	limit int64
}

// rpcAnswer is an answer of JSON-RPC.
type rpcAnswer struct {
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    int             `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	} `json:"error"`
}

func (t *jsonrpc) send(ctx context.Context, op operation, req message, stream bool) (*http.Response, error) {
	params, err := a2a.Marshal(req)
	if err != nil {
		return nil, told(a2a.Bad("request", "it is no JSON"))
	}
	body, err := json.Marshal(struct {
		Version string          `json:"jsonrpc"`
		ID      string          `json:"id"`
		Method  operation       `json:"method"`
		Params  json.RawMessage `json:"params"`
	}{"2.0", "1", op, params})
	if err != nil {
		return nil, err
	}
	return t.web.do(ctx, exchange{method: http.MethodPost, url: t.at.url("", nil), header: t.at.header, body: body, stream: stream})
}

func (t *jsonrpc) call(ctx context.Context, op operation, req, out message) error {
	resp, err := t.send(ctx, op, req, false)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return t.plain(resp, out)
}

// plain reads an answer that is no stream, whatever its status.
func (t *jsonrpc) plain(resp *http.Response, out message) error {
	b, err := readAll(resp, t.limit)
	if err != nil {
		return err
	}
	var a rpcAnswer
	if json.Unmarshal(b, &a) != nil || (a.Error == nil && len(a.Result) == 0) {
		return notTold(resp, b)
	}
	return a.read(out)
}

// read gives the result, or the error that was told.
func (a rpcAnswer) read(out message) error {
	if a.Error == nil {
		if out == nil {
			return nil
		}
		if err := a2a.Unmarshal(a.Result, out); err != nil {
			return invalid("the result can't be read: %v", err)
		}
		return nil
	}
	e := &a2a.Error{Reason: a2a.Internal, Message: a.Error.Message}
	for _, r := range known() {
		if r.Codes().JSONRPC == a.Error.Code {
			e.Reason = r
			break
		}
	}
	var details []json.RawMessage
	if json.Unmarshal(a.Error.Data, &details) == nil {
		detailOf(details, e)
	}
	return told(e)
}

// notTold makes the error of an answer that is none of the protocol's.
func notTold(resp *http.Response, body []byte) error {
	where := egress.Origin(resp.Request.URL)
	switch {
	case resp.StatusCode == http.StatusOK:
		return invalid("%s answers by what is none of the protocol's", where)
	case missing(resp.StatusCode):
		return link(false, where, statusError(resp.Status))
	case resp.StatusCode == http.StatusBadGateway, resp.StatusCode == http.StatusServiceUnavailable, resp.StatusCode == http.StatusGatewayTimeout:
		return link(true, where, statusError(resp.Status))
	default:
		return told(&a2a.Error{Reason: ofHTTP(resp.StatusCode), Message: where + ": " + resp.Status + oneLine(body)})
	}
}

// statusError is a status without an answer of the protocol.
type statusError string

func (s statusError) Error() string { return "it answers " + clip(string(s)) }

// oneLine gives the beginning of a body that is no JSON, for people.
func oneLine(body []byte) string {
	if len(body) == 0 {
		return ""
	}
	return ": " + clip(string(body[:min(len(body), 200)]))
}

func (t *jsonrpc) stream(ctx context.Context, op operation, req message) events {
	return func(yield func(*pb.StreamResponse, error) bool) {
		resp, err := t.send(ctx, op, req, true)
		if err != nil {
			yield(nil, err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		if !isStream(resp) { // an error before the stream, or an agent that doesn't stream
			one := &pb.StreamResponse{}
			if err := t.plain(resp, one); err != nil {
				yield(nil, err)
				return
			}
			yield(one, nil)
			return
		}
		each(resp, t.limit, func(data []byte, ev *pb.StreamResponse) error {
			var a rpcAnswer
			if json.Unmarshal(data, &a) != nil {
				return invalid("an event can't be read")
			}
			return a.read(ev)
		}, yield)
	}
}

func (t *jsonrpc) close() {}
