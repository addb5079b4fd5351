package a2adoor

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	old "github.com/a2aproject/a2a-go/a2apb"
	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/a2a/v03"
)

// parseV03 reads a path of 0.3, which has no tenants, and another name for the card.
func parseV03(escaped string) (route, bool) {
	if escaped == "/a2a/v1/card" {
		return route{name: "card", methods: []string{http.MethodGet}}, true
	}
	at, ok := parse(escaped)
	return at, ok && at.tenant == "" && at.name != "card"
}

// serveV03REST answers below /a2a/v1/.
func (d *Door) serveV03REST(w http.ResponseWriter, r *http.Request, p params) {
	p = d.asLegacy(w, r, p)
	at, ok := parseV03(r.URL.EscapedPath())
	switch {
	case !ok:
		d.refuseV03(w, a2a.Fail(a2a.MethodNotFound, "there is nothing of A2A 0.3 at "+clip(r.URL.Path)+" (paths of 1.0 go with "+a2a.HeaderVersion+": "+a2a.Version+")"))
	case !slices.Contains(at.methods, r.Method):
		w.Header().Set("Allow", strings.Join(at.methods, ", "))
		d.refuseV03(w, a2a.Fail(a2a.NotAllowed, r.Method+" is not allowed here"))
	case at.name == "stream" || at.name == "subscribe":
		d.streamV03REST(w, r, p, at)
	default:
		d.unaryV03REST(w, r, p, at)
	}
}

func (d *Door) unaryV03REST(w http.ResponseWriter, r *http.Request, p params, at route) {
	c, err := d.enter(r.Context(), p)
	if err != nil {
		d.refuseV03(w, err)
		return
	}
	out, err := d.callV03REST(r.Context(), w, r, c, at)
	if err != nil {
		d.refuseV03(w, err)
		return
	}
	if out == nil { // a config that was deleted
		w.WriteHeader(http.StatusNoContent)
		return
	}
	body, err := v03.MarshalProto(out)
	if err != nil {
		d.refuseV03(w, err)
		return
	}
	if at.name == "card" {
		w.Header().Set("Cache-Control", "private, max-age=60")
	}
	w.Header().Set("Content-Type", a2a.MediaJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // #nosec G705 -- JSON, and nosniff is set
}

// callV03REST performs one operation; nil: there is nothing to say.
func (d *Door) callV03REST(ctx context.Context, w http.ResponseWriter, r *http.Request, c call, at route) (proto.Message, error) {
	switch at.name {
	case "send":
		in := &old.SendMessageRequest{}
		if err := d.bodyV03(w, r, in); err != nil {
			return nil, err
		}
		return then(v03.FromSend(in))(func(m *pb.SendMessageRequest) (proto.Message, error) { return to(v03.ToSent)(d.send(ctx, c, m)) })
	case "get":
		n, err := query(r.URL.Query()).number("historyLength")
		if err != nil {
			return nil, err
		}
		return to(v03.ToTask)(d.getTask(ctx, c, &pb.GetTaskRequest{Id: at.task, HistoryLength: n}))
	case "list":
		return d.listV03REST(ctx, r, c)
	case "cancel":
		return to(v03.ToTask)(d.cancelTask(ctx, c, &pb.CancelTaskRequest{Id: at.task}))
	case "card":
		card, err := d.extendedV03(ctx, c)
		if err != nil {
			return nil, err
		}
		return v03.ToCard(card, places(c.base)), nil
	default:
		return d.pushV03REST(ctx, w, r, c, at)
	}
}

// then goes on where there was no error, and to translates an answer.
func then[M any](m M, err error) func(func(M) (proto.Message, error)) (proto.Message, error) {
	return func(next func(M) (proto.Message, error)) (proto.Message, error) {
		if err != nil {
			return nil, err
		}
		return next(m)
	}
}

func to[R any, Out proto.Message](translate func(R) Out) func(R, error) (proto.Message, error) {
	return func(r R, err error) (proto.Message, error) {
		if err != nil {
			return nil, err
		}
		return translate(r), nil
	}
}

func (d *Door) listV03REST(ctx context.Context, r *http.Request, c call) (proto.Message, error) {
	q := query(r.URL.Query())
	status := q.text("status")
	if status == old.TaskState_TASK_STATE_CANCELLED.String() { // of which today's spelling has one L
		status = pb.TaskState_TASK_STATE_CANCELED.String()
	}
	today := query{"status": {status}}
	for _, name := range []string{"contextId", "pageSize", "pageToken", "historyLength", "includeArtifacts"} {
		today[name] = []string{q.text(name)}
	}
	for _, name := range []string{"lastUpdatedTime", "lastUpdatedAfter"} {
		if s := q.text(name); s != "" {
			if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
				return nil, a2a.Bad(name, "want a time such as 2025-11-09T10:30:00Z")
			}
			today["statusTimestampAfter"] = []string{s}
		}
	}
	req, err := today.list()
	if err != nil {
		return nil, err
	}
	return to(v03.ToList)(d.listTasks(ctx, c, req))
}

func (d *Door) pushV03REST(ctx context.Context, w http.ResponseWriter, r *http.Request, c call, at route) (proto.Message, error) {
	switch {
	case at.name == "pushes" && r.Method == http.MethodPost:
		in, err := d.createV03(w, r, at)
		if err != nil {
			return nil, err
		}
		return then(v03.FromCreatePush(in))(func(m *pb.TaskPushNotificationConfig) (proto.Message, error) {
			return to(v03.ToPush)(d.createPush(ctx, c, m))
		})
	case at.name == "pushes":
		return to(v03.ToPushes)(d.listPush(ctx, c, &pb.ListTaskPushNotificationConfigsRequest{TaskId: at.task}))
	case r.Method == http.MethodDelete:
		_, err := d.deletePush(ctx, c, &pb.DeleteTaskPushNotificationConfigRequest{TaskId: at.task, Id: at.config})
		return nil, err
	default:
		return to(v03.ToPush)(d.getPush(ctx, c, &pb.GetTaskPushNotificationConfigRequest{TaskId: at.task, Id: at.config}))
	}
}

// createV03 reads a request to add a config: clients send either the config or the whole request with the config in it.
func (d *Door) createV03(w http.ResponseWriter, r *http.Request, at route) (*old.CreateTaskPushNotificationConfigRequest, error) {
	b, err := d.jsonBody(w, r)
	if err != nil {
		return nil, err
	}
	out := &old.CreateTaskPushNotificationConfigRequest{}
	var members map[string]json.RawMessage
	if json.Unmarshal(b, &members) == nil && members["config"] != nil {
		err = v03.UnmarshalProto(b, out)
	} else {
		out.Config = &old.TaskPushNotificationConfig{}
		err = v03.UnmarshalProto(b, out.GetConfig())
	}
	if err != nil {
		return nil, a2a.Bad("body", protoFault(err))
	}
	out.Parent = "tasks/" + at.task
	return out, nil
}

// jsonBody reads a request's body, which has to be JSON.
func (d *Door) jsonBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if err := speaksJSON(r); err != nil {
		return nil, err
	}
	b, err := d.body(w, r)
	switch {
	case err != nil:
		return nil, err
	case len(b) == 0:
		return []byte("{}"), nil
	case !json.Valid(b):
		return nil, a2a.Fail(a2a.ParseError, "the body is no JSON")
	}
	return b, nil
}

func (d *Door) bodyV03(w http.ResponseWriter, r *http.Request, m proto.Message) error {
	b, err := d.jsonBody(w, r)
	if err != nil {
		return err
	}
	if err := v03.UnmarshalProto(b, m); err != nil {
		return a2a.Bad("body", protoFault(err))
	}
	return nil
}

// streamV03REST answers by a stream.
func (d *Door) streamV03REST(w http.ResponseWriter, r *http.Request, p params, at route) {
	out := newEvents(w)
	tell := func(m *pb.StreamResponse) error {
		if m == nil {
			return out.send(nil)
		}
		b, err := v03.MarshalProto(v03.ToEvent(m))
		if err != nil {
			return err
		}
		return out.send(b)
	}
	err := func() error {
		c, err := d.enter(r.Context(), p)
		if err != nil {
			return err
		}
		if at.name == "subscribe" {
			return d.subscribeV03(r.Context(), c, &pb.SubscribeToTaskRequest{Id: at.task}, tell)
		}
		in := &old.SendMessageRequest{}
		if err := d.bodyV03(w, r, in); err != nil {
			return err
		}
		req, err := v03.FromSend(in)
		if err != nil {
			return err
		}
		return d.sendStream(r.Context(), c, req, tell)
	}()
	switch {
	case err == nil:
	case !out.started:
		d.refuseV03(w, err)
	case !left(r.Context()):
		_ = out.named("error", d.fault(err).JSONRPC())
	}
}

// refuseV03 answers with an error of the HTTP+JSON binding of 0.3, which looks like that of JSON-RPC.
func (d *Door) refuseV03(w http.ResponseWriter, err error) {
	fault := d.fault(err)
	body := fault.JSONRPC()
	h := w.Header()
	h.Set("Content-Type", a2a.MediaJSON)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if fault.Reason == a2a.Exhausted && h.Get("Retry-After") == "" {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(fault.Reason.Codes().HTTP)
	_, _ = w.Write(body) // #nosec G705 -- JSON, and its type says so
}
