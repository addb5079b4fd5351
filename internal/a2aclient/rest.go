package a2aclient

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/internal/a2a"
)

// rest is the HTTP+JSON binding.
type rest struct {
	web   *web
	at    *endpoint
	limit int64
}

// route is a request of HTTP+JSON.
type route struct {
	method, path string
	query        url.Values
	body         message // nil: none
}

// routeOf gives an operation's request, without the tenant in its body.
func routeOf(op operation, req message) (route, error) {
	out := route{method: http.MethodGet, query: url.Values{}}
	var tenant string
	task := func(id string) string { return "/tasks/" + url.PathEscape(id) }
	switch r := req.(type) {
	case *pb.SendMessageRequest:
		tenant, out.method, out.path = r.GetTenant(), http.MethodPost, "/message:send"
		if op == opStream {
			out.path = "/message:stream"
		}
		if tenant != "" {
			r = proto.CloneOf(r)
			r.Tenant = ""
		}
		out.body = r
	case *pb.GetTaskRequest:
		tenant, out.path = r.GetTenant(), task(r.GetId())
		number(out.query, "historyLength", r.HistoryLength)
	case *pb.ListTasksRequest:
		tenant, out.path = r.GetTenant(), "/tasks"
		list(out.query, r)
	case *pb.CancelTaskRequest:
		tenant, out.method, out.path, out.body = r.GetTenant(), http.MethodPost, task(r.GetId())+":cancel", &pb.CancelTaskRequest{Metadata: r.GetMetadata()}
	case *pb.SubscribeToTaskRequest:
		tenant, out.path = r.GetTenant(), task(r.GetId())+":subscribe"
	case *pb.TaskPushNotificationConfig:
		tenant, out.method, out.path = r.GetTenant(), http.MethodPost, task(r.GetTaskId())+"/pushNotificationConfigs"
		if tenant != "" {
			r = proto.CloneOf(r)
			r.Tenant = ""
		}
		out.body = r
	case *pb.GetTaskPushNotificationConfigRequest:
		tenant, out.path = r.GetTenant(), task(r.GetTaskId())+"/pushNotificationConfigs/"+url.PathEscape(r.GetId())
	case *pb.ListTaskPushNotificationConfigsRequest:
		tenant, out.path = r.GetTenant(), task(r.GetTaskId())+"/pushNotificationConfigs"
		if r.GetPageSize() != 0 {
			out.query.Set("pageSize", strconv.Itoa(int(r.GetPageSize())))
		}
		text(out.query, "pageToken", r.GetPageToken())
	case *pb.DeleteTaskPushNotificationConfigRequest:
		tenant, out.method, out.path = r.GetTenant(), http.MethodDelete, task(r.GetTaskId())+"/pushNotificationConfigs/"+url.PathEscape(r.GetId())
	case *pb.GetExtendedAgentCardRequest:
		tenant, out.path = r.GetTenant(), "/extendedAgentCard"
	default:
		return out, told(a2a.Fail(a2a.MethodNotFound, "no such operation"))
	}
	if tenant != "" {
		out.path = "/" + url.PathEscape(tenant) + out.path
	}
	return out, nil
}

func list(q url.Values, r *pb.ListTasksRequest) {
	text(q, "contextId", r.GetContextId())
	if r.GetStatus() != 0 {
		q.Set("status", r.GetStatus().String())
	}
	number(q, "pageSize", r.PageSize)
	text(q, "pageToken", r.GetPageToken())
	number(q, "historyLength", r.HistoryLength)
	if r.GetStatusTimestampAfter() != nil {
		q.Set("statusTimestampAfter", r.GetStatusTimestampAfter().AsTime().UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	if r.IncludeArtifacts != nil {
		q.Set("includeArtifacts", strconv.FormatBool(r.GetIncludeArtifacts()))
	}
}

func text(q url.Values, name, v string) {
	if v != "" {
		q.Set(name, v)
	}
}

func number(q url.Values, name string, v *int32) {
	if v != nil {
		q.Set(name, strconv.Itoa(int(*v)))
	}
}

func (t *rest) send(ctx context.Context, r route, stream bool) (*http.Response, error) {
	x := exchange{method: r.method, url: t.at.url(r.path, r.query), header: t.at.header, stream: stream}
	if r.body != nil {
		b, err := a2a.Marshal(r.body)
		if err != nil {
			return nil, told(a2a.Bad("request", "it is no JSON"))
		}
		x.body = b
	}
	return t.web.do(ctx, x)
}

func (t *rest) call(ctx context.Context, op operation, req, out message) error {
	r, err := routeOf(op, req)
	if err != nil {
		return err
	}
	resp, err := t.send(ctx, r, false)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return t.plain(resp, out)
}

// plain reads an answer that is no stream.
func (t *rest) plain(resp *http.Response, out message) error {
	b, err := readAll(resp, t.limit)
	switch {
	case err != nil:
		return err
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return faultOf(resp, b)
	case out == nil:
		return nil
	}
	if err := a2a.Unmarshal(b, out); err != nil {
		return invalid("the answer can't be read: %v", err)
	}
	return nil
}

// faultOf reads the error of an answer: a google.rpc.Status below "error".
func faultOf(resp *http.Response, body []byte) error {
	var in struct {
		Error *struct {
			Message string            `json:"message"`
			Details []json.RawMessage `json:"details"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &in) != nil || in.Error == nil {
		return notTold(resp, body)
	}
	e := &a2a.Error{Reason: ofHTTP(resp.StatusCode), Message: in.Error.Message}
	detailOf(in.Error.Details, e)
	return told(e)
}

func (t *rest) stream(ctx context.Context, op operation, req message) events {
	return func(yield func(*pb.StreamResponse, error) bool) {
		r, err := routeOf(op, req)
		if err != nil {
			yield(nil, err)
			return
		}
		resp, err := t.open(ctx, op, r)
		if err != nil {
			yield(nil, err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		if !isStream(resp) || resp.StatusCode != http.StatusOK {
			one := &pb.StreamResponse{}
			if err := t.plain(resp, one); err != nil {
				yield(nil, err)
				return
			}
			yield(one, nil)
			return
		}
		each(resp, t.limit, func(data []byte, ev *pb.StreamResponse) error {
			if a2a.Unmarshal(data, ev) != nil {
				return invalid("an event can't be read")
			}
			return nil
		}, yield)
	}
}

// open asks for a stream. The proto has subscriptions at GET, the text at POST: who serves one of them only is asked by the other.
func (t *rest) open(ctx context.Context, op operation, r route) (*http.Response, error) {
	resp, err := t.send(ctx, r, true)
	if err != nil || op != opSubscribe || (resp.StatusCode != http.StatusMethodNotAllowed && resp.StatusCode != http.StatusNotFound) {
		return resp, err
	}
	if again, err := t.again(ctx, r, resp); again != nil || err != nil {
		return again, err
	}
	return resp, nil
}

// again asks for a subscription by POST. The answer to GET stays open where nothing more is known by POST.
func (t *rest) again(ctx context.Context, r route, first *http.Response) (*http.Response, error) {
	r.method, r.body = http.MethodPost, &pb.SubscribeToTaskRequest{}
	resp, err := t.send(ctx, r, true)
	if err != nil {
		_ = first.Body.Close()
		return nil, err
	}
	if resp.StatusCode == http.StatusMethodNotAllowed {
		_ = resp.Body.Close()
		return nil, nil //nolint:nilnil // the first answer counts
	}
	_ = first.Body.Close()
	return resp, nil
}

func (t *rest) close() {}
