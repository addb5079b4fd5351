package a2adoor

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/a2a/v03"
)

// errInterrupted ends a stream of 0.3, which is over when the task asks for something.
var errInterrupted = errors.New("the task asks for something")

// legacy reports whether a request is one of protocol 0.3, and 0.3 is spoken.
func (d *Door) legacy(p params) bool {
	if p.versions > 1 || !v03.Speaks(p.version) {
		return false
	}
	face, err := d.face()
	return err == nil && face.A2A.V03
}

// asLegacy reads and answers the service parameters as 0.3 called them.
func (d *Door) asLegacy(w http.ResponseWriter, r *http.Request, p params) params {
	p.legacy = true
	p.extensions = append(p.extensions, a2a.Extensions(r.Header.Values(v03.HeaderExtensions))...)
	w.Header().Del(a2a.HeaderExtensions)
	if on := d.activated(p.extensions); len(on) > 0 {
		w.Header().Set(v03.HeaderExtensions, strings.Join(on, ","))
	}
	return p
}

// spoken refuses versions that aren't. Without a version a request means 0.3.
func spoken(face run.Face, p params) error {
	supported := a2a.Version
	if face.A2A.V03 {
		supported = a2a.Legacy + ", " + a2a.Version
	}
	if p.legacy && face.A2A.V03 && v03.Speaks(p.version) || !p.legacy && a2a.Speaks(p.version) {
		return nil
	}
	asked := strings.TrimSpace(p.version)
	if asked == "" {
		asked = a2a.Legacy
	}
	return a2a.Fail(a2a.VersionNotSupported, "this agent speaks A2A "+supported+" here, not "+asked+" (send "+a2a.HeaderVersion+": "+a2a.Version+")",
		"version", asked, "supportedVersions", supported)
}

// serveV03 answers a JSON-RPC request of 0.3.
func (d *Door) serveV03(w http.ResponseWriter, r *http.Request, p params, req rpcRequest) {
	p = d.asLegacy(w, r, p)
	if req.Method == "message/stream" || req.Method == "tasks/resubscribe" {
		d.streamV03(w, r, p, req)
		return
	}
	result, err := d.callV03(r.Context(), p, req)
	if err != nil {
		writeJSONRPC(w, http.StatusOK, errorAnswer(req.ID, d.fault(err)))
		return
	}
	writeJSONRPC(w, http.StatusOK, resultAnswer(req.ID, result))
}

// translated performs one operation between a request and an answer of 0.3.
func translated[M, R any](ctx context.Context, d *Door, p params, raw json.RawMessage, read func(json.RawMessage) (M, error), op func(context.Context, call, M) (R, error), write func(R) (json.RawMessage, error)) (json.RawMessage, error) {
	c, err := d.enter(ctx, p)
	if err != nil {
		return nil, err
	}
	m, err := read(raw)
	if err != nil {
		return nil, err
	}
	out, err := op(ctx, c, m)
	if err != nil {
		return nil, err
	}
	return write(out)
}

func (d *Door) callV03(ctx context.Context, p params, req rpcRequest) (json.RawMessage, error) {
	switch req.Method {
	case "message/send":
		return translated(ctx, d, p, req.Params, v03.ReadSend, d.send, v03.WriteSent)
	case "tasks/get":
		return translated(ctx, d, p, req.Params, v03.ReadGet, d.getTask, v03.WriteTask)
	case "tasks/cancel":
		return translated(ctx, d, p, req.Params, v03.ReadCancel, d.cancelTask, v03.WriteTask)
	case "tasks/pushNotificationConfig/set":
		return translated(ctx, d, p, req.Params, v03.ReadSetPush, d.createPush, v03.WritePush)
	case "tasks/pushNotificationConfig/get":
		return translated(ctx, d, p, req.Params, v03.ReadGetPush, d.anyPush, v03.WritePush)
	case "tasks/pushNotificationConfig/list":
		return translated(ctx, d, p, req.Params, v03.ReadListPush, d.listPush, v03.WritePushes)
	case "tasks/pushNotificationConfig/delete":
		return translated(ctx, d, p, req.Params, v03.ReadDeletePush, d.deletePush, func(*emptypb.Empty) (json.RawMessage, error) { return json.RawMessage("null"), nil })
	case "agent/getAuthenticatedExtendedCard":
		c, err := d.enter(ctx, p)
		if err != nil {
			return nil, err
		}
		card, err := d.extendedV03(ctx, c)
		if err != nil {
			return nil, err
		}
		return d.bothCards(c.face, card, c.base)
	default:
		if _, err := d.enter(ctx, p); err != nil {
			return nil, err
		}
		return nil, a2a.Fail(a2a.MethodNotFound, "Method not found: "+strconv.Quote(clip(req.Method))+" is none of A2A 0.3 (one of 1.0 goes with "+a2a.HeaderVersion+": "+a2a.Version+")")
	}
}

// anyPush gives the config that is named, or where none is, the one that is named as the task, or the first.
func (d *Door) anyPush(ctx context.Context, c call, req *pb.GetTaskPushNotificationConfigRequest) (*pb.TaskPushNotificationConfig, error) {
	if req.GetId() != "" {
		return d.getPush(ctx, c, req)
	}
	all, err := d.listPush(ctx, c, &pb.ListTaskPushNotificationConfigsRequest{TaskId: req.GetTaskId()})
	if err != nil {
		return nil, err
	}
	for _, p := range all.GetConfigs() {
		if p.GetId() == req.GetTaskId() {
			return p, nil
		}
	}
	if len(all.GetConfigs()) > 0 {
		return all.GetConfigs()[0], nil
	}
	return nil, a2a.Fail(a2a.TaskNotFound, "the task has no push notification config", "taskId", req.GetTaskId())
}

// extendedV03 is the extended card, whose absence has an error of its own in 0.3.
func (d *Door) extendedV03(ctx context.Context, c call) (*pb.AgentCard, error) {
	if !c.face.Keys {
		return nil, a2a.Fail(a2a.ExtendedAgentCardNotConfigured, "this agent has no extended card (supportsAuthenticatedExtendedCard)")
	}
	return d.extendedCard(ctx, c)
}

// streamV03 answers by a stream of answers to the one request.
func (d *Door) streamV03(w http.ResponseWriter, r *http.Request, p params, req rpcRequest) {
	out := newEvents(w)
	tell := func(m *pb.StreamResponse) error {
		if m == nil {
			return out.send(nil)
		}
		b, err := v03.WriteEvent(m)
		if err != nil {
			return err
		}
		return out.send(resultAnswer(req.ID, b))
	}
	err := func() error {
		c, err := d.enter(r.Context(), p)
		if err != nil {
			return err
		}
		if req.Method == "tasks/resubscribe" {
			m, err := v03.ReadSubscribe(req.Params)
			if err != nil {
				return err
			}
			return d.subscribeV03(r.Context(), c, m, tell)
		}
		m, err := v03.ReadSend(req.Params)
		if err != nil {
			return err
		}
		return d.sendStream(r.Context(), c, m, tell)
	}()
	if err != nil {
		answer := errorAnswer(req.ID, d.fault(err))
		switch {
		case !out.started:
			writeJSONRPC(w, http.StatusOK, answer)
		case !left(r.Context()):
			_ = out.send(answer)
		}
	}
}

// subscribeV03 is subscribe, which in 0.3 ends as well when the task asks for something.
func (d *Door) subscribeV03(ctx context.Context, c call, req *pb.SubscribeToTaskRequest, tell sink) error {
	err := d.subscribe(ctx, c, req, func(m *pb.StreamResponse) error {
		if err := tell(m); err != nil {
			return err
		}
		if v03.Final(m) {
			return errInterrupted
		}
		return nil
	})
	if errors.Is(err, errInterrupted) {
		return nil
	}
	return err
}
