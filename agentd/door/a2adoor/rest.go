package a2adoor

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/internal/a2a"
)

// route is what a path of the HTTP+JSON binding means.
type route struct {
	name    string // of what is asked
	tenant  string
	task    string
	config  string
	methods []string
}

// parse reads the path below /a2a/v1/, of which a first segment that is no resource is the tenant.
func parse(escaped string) (route, bool) {
	var segments []string
	for s := range strings.SplitSeq(strings.TrimPrefix(escaped, "/a2a/v1/"), "/") {
		plain, err := url.PathUnescape(s)
		if err != nil || plain == "" {
			return route{}, false
		}
		segments = append(segments, plain)
	}
	var out route
	if len(segments) > 1 && !resource(segments[0]) || len(segments) > 1 && resource(segments[0]) && resource(segments[1]) && segments[0] != "tasks" {
		out.tenant, segments = segments[0], segments[1:]
	}
	switch n := len(segments); {
	case n == 1 && segments[0] == "message:send":
		out.name, out.methods = "send", []string{http.MethodPost}
	case n == 1 && segments[0] == "message:stream":
		out.name, out.methods = "stream", []string{http.MethodPost}
	case n == 1 && segments[0] == "extendedAgentCard":
		out.name, out.methods = "card", []string{http.MethodGet}
	case n == 1 && segments[0] == "tasks":
		out.name, out.methods = "list", []string{http.MethodGet}
	case n == 2 && segments[0] == "tasks":
		out.task = segments[1]
		switch id, verb, _ := cutLast(segments[1], ":"); verb {
		case "cancel":
			out.name, out.task, out.methods = "cancel", id, []string{http.MethodPost}
		case "subscribe":
			out.name, out.task, out.methods = "subscribe", id, []string{http.MethodPost, http.MethodGet}
		default:
			out.name, out.methods = "get", []string{http.MethodGet}
		}
	case n == 3 && segments[0] == "tasks" && segments[2] == "pushNotificationConfigs":
		out.name, out.task, out.methods = "pushes", segments[1], []string{http.MethodPost, http.MethodGet}
	case n == 4 && segments[0] == "tasks" && segments[2] == "pushNotificationConfigs":
		out.name, out.task, out.config, out.methods = "push", segments[1], segments[3], []string{http.MethodGet, http.MethodDelete}
	default:
		return route{}, false
	}
	return out, true
}

func resource(segment string) bool {
	return segment == "message:send" || segment == "message:stream" || segment == "extendedAgentCard" || segment == "tasks"
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// serveREST answers below /a2a/v1/.
func (d *Door) serveREST(w http.ResponseWriter, r *http.Request) {
	p := d.service(r)
	d.answering(w, p)
	if d.legacy(p) {
		d.serveV03REST(w, r, p)
		return
	}
	at, ok := parse(r.URL.EscapedPath())
	if !ok {
		d.refuseHTTP(w, a2a.Fail(a2a.MethodNotFound, "there is nothing at "+clip(r.URL.Path)))
		return
	}
	if !slices.Contains(at.methods, r.Method) {
		w.Header().Set("Allow", strings.Join(at.methods, ", "))
		d.refuseHTTP(w, a2a.Fail(a2a.NotAllowed, r.Method+" is not allowed here"))
		return
	}
	p.tenant = at.tenant
	if at.name == "stream" || at.name == "subscribe" {
		d.streamREST(w, r, p, at)
		return
	}
	out, err := d.callREST(w, r, p, at)
	if err != nil {
		d.refuseHTTP(w, err)
		return
	}
	body, err := marshal(out)
	if err != nil {
		d.refuseHTTP(w, err)
		return
	}
	if at.name == "card" {
		w.Header().Set("Cache-Control", "private, max-age=60")
	}
	w.Header().Set("Content-Type", a2a.MediaA2A)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // #nosec G705 -- JSON, and nosniff is set
}

// bodyInto reads a request's body into m.
func (d *Door) bodyInto(w http.ResponseWriter, r *http.Request, m proto.Message) error {
	if err := speaksJSON(r); err != nil {
		return err
	}
	b, err := d.body(w, r)
	switch {
	case err != nil:
		return err
	case len(b) == 0:
		return nil
	case !json.Valid(b):
		return a2a.Fail(a2a.ParseError, "the body is no JSON")
	}
	if err := a2a.Unmarshal(b, m); err != nil {
		return a2a.Bad("body", protoFault(err))
	}
	return nil
}

func (d *Door) callREST(w http.ResponseWriter, r *http.Request, p params, at route) (proto.Message, error) {
	c, err := d.enter(r.Context(), p)
	if err != nil {
		return nil, err
	}
	ctx, q := r.Context(), query(r.URL.Query())
	switch at.name {
	case "send":
		req := &pb.SendMessageRequest{}
		if err := d.bodyInto(w, r, req); err != nil {
			return nil, err
		}
		if c, err = tenanted(c, req.GetTenant()); err != nil {
			return nil, err
		}
		return d.send(ctx, c, req)
	case "list":
		req, err := q.list()
		if err != nil {
			return nil, err
		}
		return d.listTasks(ctx, c, req)
	case "get":
		n, err := q.number("historyLength")
		if err != nil {
			return nil, err
		}
		return d.getTask(ctx, c, &pb.GetTaskRequest{Id: at.task, HistoryLength: n})
	case "cancel":
		req := &pb.CancelTaskRequest{}
		if err := d.bodyInto(w, r, req); err != nil {
			return nil, err
		}
		if c, err = tenanted(c, req.GetTenant()); err != nil {
			return nil, err
		}
		req.Id = at.task
		return d.cancelTask(ctx, c, req)
	case "card":
		return d.extendedCard(ctx, c)
	default:
		return d.pushREST(ctx, w, r, c, at)
	}
}

// tenanted lets a body name the tenant where the path doesn't. They may not name two.
func tenanted(c call, tenant string) (call, error) {
	switch {
	case tenant == "" || tenant == c.owner.Tenant:
		return c, nil
	case c.owner.Tenant != "":
		return c, a2a.Bad("tenant", "it is not that of the path")
	}
	c.owner.Tenant = tenant
	return c, checkID("tenant", tenant)
}

func (d *Door) pushREST(ctx context.Context, w http.ResponseWriter, r *http.Request, c call, at route) (proto.Message, error) {
	switch {
	case at.name == "pushes" && r.Method == http.MethodPost:
		req := &pb.TaskPushNotificationConfig{}
		if err := d.bodyInto(w, r, req); err != nil {
			return nil, err
		}
		c, err := tenanted(c, req.GetTenant())
		if err != nil {
			return nil, err
		}
		req.TaskId = at.task
		return d.createPush(ctx, c, req)
	case at.name == "pushes":
		return d.listPush(ctx, c, &pb.ListTaskPushNotificationConfigsRequest{TaskId: at.task})
	case r.Method == http.MethodDelete:
		return d.deletePush(ctx, c, &pb.DeleteTaskPushNotificationConfigRequest{TaskId: at.task, Id: at.config})
	default:
		return d.getPush(ctx, c, &pb.GetTaskPushNotificationConfigRequest{TaskId: at.task, Id: at.config})
	}
}

// streamREST answers by a stream.
func (d *Door) streamREST(w http.ResponseWriter, r *http.Request, p params, at route) {
	out := newEvents(w)
	tell := func(m *pb.StreamResponse) error {
		if m == nil {
			return out.send(nil)
		}
		b, err := a2a.Marshal(m)
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
			return d.subscribe(r.Context(), c, &pb.SubscribeToTaskRequest{Id: at.task}, tell)
		}
		req := &pb.SendMessageRequest{}
		if err := d.bodyInto(w, r, req); err != nil {
			return err
		}
		if c, err = tenanted(c, req.GetTenant()); err != nil {
			return err
		}
		return d.sendStream(r.Context(), c, req, tell)
	}()
	switch {
	case err == nil:
	case !out.started:
		d.refuseHTTP(w, err)
	case !left(r.Context()):
		_ = out.send(d.fault(err).HTTP())
	}
}

// query reads query parameters: camelCase, or the proto's names.
type query url.Values

func (q query) text(name string) string {
	if v := url.Values(q).Get(name); v != "" {
		return v
	}
	return url.Values(q).Get(snake(name))
}

func snake(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// number gives nil where the parameter is absent.
func (q query) number(name string) (*int32, error) {
	s := q.text(name)
	if s == "" {
		return nil, nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return nil, a2a.Bad(name, "want a number, not "+strconv.Quote(clip(s)))
	}
	return new(int32(n)), nil // #nosec G115 -- parsed with 32 bits
}

func badStatus(name string) error {
	return a2a.Bad("status", "there is no state "+strconv.Quote(clip(name))+"; want one such as TASK_STATE_WORKING")
}

func (q query) list() (*pb.ListTasksRequest, error) {
	req := &pb.ListTasksRequest{ContextId: q.text("contextId"), PageToken: q.text("pageToken")}
	var err error
	if req.PageSize, err = q.number("pageSize"); err != nil {
		return nil, err
	}
	if req.HistoryLength, err = q.number("historyLength"); err != nil {
		return nil, err
	}
	if s := q.text("status"); s != "" {
		v, ok := pb.TaskState_value[s]
		if !ok {
			return nil, badStatus(s)
		}
		req.Status = pb.TaskState(v)
	}
	if s := q.text("includeArtifacts"); s != "" {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return nil, a2a.Bad("includeArtifacts", "want true or false")
		}
		req.IncludeArtifacts = new(b)
	}
	if s := q.text("statusTimestampAfter"); s != "" {
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return nil, a2a.Bad("statusTimestampAfter", "want a time such as 2025-11-09T10:30:00Z")
		}
		req.StatusTimestampAfter = timestamppb.New(at)
	}
	return req, nil
}
