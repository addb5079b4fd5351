package restdoor_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/errs"
)

const messages = "/api/v1/sessions/s-1/messages"

func TestAnswersAndRemembers(t *testing.T) {
	t.Parallel()
	w := open(t)
	var a reply
	h := w.get(200, &a, http.MethodPost, messages, `{"message":"hello","metadata":{"team":"blue"},"stop":"END"}`)
	if a.Text != "you said: hello" || a.Reasoning != "hm" || a.Session != "s-1" || a.Agent != "helper" || a.Config != "8-3f2a91c4" || a.Usage.TotalTokens != 7 || a.FinishReason != "stop" {
		t.Errorf("answer: %+v", a)
	}
	if h.Get("X-Agentry-Config") != "8-3f2a91c4" || h.Get("X-Agentry-Revision") != "8" || h.Get("X-Session-Id") != "s-1" {
		t.Errorf("headers: %v", h)
	}
	if r := w.model.last(); r.Metadata["team"] != "blue" || !cmp.Equal(r.Stop, []string{"END"}) || r.Stream {
		t.Errorf("the model was asked %+v", r)
	}
	w.get(200, &a, http.MethodPost, messages, `{"messages":[{"role":"system","content":"be brief"},{"role":"user","content":"again","images":[{"url":"https://x.test/a.png","detail":"low"}]}],"private":true,"format":{"type":"json_object"}}`)
	r := w.model.last()
	if len(r.Messages) != 5 || len(r.Messages[4].Images) != 1 || r.Format.Type != "json_object" { // prompt, context, two recalled, the new one
		t.Errorf("the model was asked %+v", r)
	}

	var history struct {
		Session string
		Turns   []struct{ Role, Text, Config string }
	}
	w.get(200, &history, http.MethodGet, messages, "")
	type turn = struct{ Role, Text, Config string }
	want := []turn{{"user", "hello", ""}, {"assistant", "you said: hello", "8-3f2a91c4"}} // not the private one
	if diff := cmp.Diff(want, history.Turns); diff != "" {
		t.Error(diff)
	}
	var sessions struct {
		Sessions []struct {
			Session string
			Turns   int
		}
	}
	w.get(200, &sessions, http.MethodGet, "/api/v1/sessions?limit=5", "")
	if len(sessions.Sessions) != 1 || sessions.Sessions[0].Session != "s-1" || sessions.Sessions[0].Turns != 2 {
		t.Errorf("sessions: %+v", sessions)
	}
	w.get(204, nil, http.MethodDelete, "/api/v1/sessions/s-1", "")
	var f failure
	w.get(404, &f, http.MethodGet, messages, "")
	w.get(204, nil, http.MethodDelete, "/api/v1/sessions/s-1", "")
}

func TestStreamsEvents(t *testing.T) {
	t.Parallel()
	w := open(t)
	accept := []string{"Accept", "text/event-stream"}
	status, body, h := w.raw(http.MethodPost, messages, `{"message":"hello"}`, accept...)
	events := readEvents(t, body)
	if status != 200 || !strings.HasPrefix(h.Get("Content-Type"), "text/event-stream") || names(events) != "delta delta done" || !w.model.last().Stream {
		t.Fatalf("%d %v %s", status, h, body)
	}
	var a reply
	if err := json.Unmarshal([]byte(events[2].data), &a); err != nil || a.Text != "you said: hello" {
		t.Errorf("done: %s (%v)", events[2].data, err)
	}
	_, body, _ = w.raw(http.MethodPost, messages, `{"message":"use {\"amount\":7}"}`, accept...)
	events = readEvents(t, body)
	if names(events) != "tool tool delta done" || events[0].data != `{"callId":"call_1","name":"desk__refund","arguments":{"amount":7},"done":false}` || events[1].data != `{"callId":"call_1","name":"desk__refund","done":true}` {
		t.Errorf("%s", body)
	}
	_, body, _ = w.raw(http.MethodPost, messages, `{"message":"use {\"amount\":70}"}`, accept...)
	if events = readEvents(t, body); names(events) != "approval" || !strings.Contains(events[0].data, `"pending":{"id":"`) {
		t.Errorf("%s", body)
	}
	// An error before the first event is a plain one.
	status, body, _ = w.raw(http.MethodPost, "/api/v1/sessions/s-2/messages", `{"message":"fail"}`, accept...)
	if status != 429 || !strings.Contains(body, `"code":"rate_limited"`) {
		t.Errorf("%d %s", status, body)
	}
}

// A caller who goes away ends the model's call.
func TestLeavingCancels(t *testing.T) {
	t.Parallel()
	w := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL+messages, strings.NewReader(`{"message":"slow"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	resp, err := w.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-w.model.left:
	case <-time.After(10 * time.Second):
		t.Error("the model's call goes on")
	}
}

func TestApproves(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.keys(key("ann", false), key("bob", true), key("eve", false))
	ann, bob, eve := []string{"X-API-Key", "k-ann"}, []string{"Authorization", "Bearer k-bob"}, []string{"X-API-Key", "k-eve"}
	var a reply
	h := w.get(202, &a, http.MethodPost, messages, `{"message":"use {\"amount\":70}"}`, ann...)
	p := a.Pending
	if p == nil || h.Get("X-Agentry-Pending") != p.ID || h.Get("Location") != "/api/v1/approvals/"+p.ID {
		t.Fatalf("%+v %v", a, h)
	}
	if len(p.Calls) != 1 || p.Calls[0].Tool != "desk/refund" || p.Calls[0].Why != "amount > 50" || !p.Calls[0].Needs || string(p.Calls[0].Arguments) != `{"amount":70}` || p.Principal != "ann" || p.Engine != nil {
		t.Errorf("pending: %+v", p)
	}
	// The session waits; another one doesn't.
	var f failure
	w.get(409, &f, http.MethodPost, messages, `{"message":"and?"}`, ann...)
	if f.Error.Code != run.CodePending || f.Error.Pending != p.ID {
		t.Errorf("%+v", f)
	}
	w.get(200, nil, http.MethodPost, "/api/v1/sessions/s-9/messages", `{"message":"hi"}`, ann...)

	// Who may look, and who may decide.
	one := "/api/v1/approvals/" + p.ID
	w.get(401, &f, http.MethodGet, "/api/v1/approvals", "")
	w.get(403, &f, http.MethodGet, "/api/v1/approvals", "", ann...)
	w.get(403, &f, http.MethodPost, one, `{"decision":"approve"}`, ann...)
	w.get(404, &f, http.MethodGet, one, "", eve...)
	w.get(404, &f, http.MethodDelete, one, "", eve...)
	w.get(200, nil, http.MethodGet, one, "", ann...)
	var list struct{ Approvals []waiting }
	w.get(200, &list, http.MethodGet, "/api/v1/approvals", "", bob...)
	if len(list.Approvals) != 1 || list.Approvals[0].ID != p.ID || list.Approvals[0].State != "waiting" {
		t.Errorf("%+v", list)
	}
	for _, body := range []string{`{}`, `{"decision":"yes"}`, `{"decision":"deny","arguments":{"call_1":{}}}`, `{"decision":"approve","arguments":{"call_1":7}}`, `{"decision":"approve","x":1}`} {
		if w.get(400, &f, http.MethodPost, one, body, bob...); f.Error.Code != run.CodeInvalid {
			t.Errorf("%s: %+v", body, f)
		}
	}
	// Another config serves by now; the arguments are changed.
	w.source.change(func(rt *run.Runtime) { rt.Revision, rt.Config = 9, "9-00000000" })
	w.get(202, nil, http.MethodPost, one, `{"decision":"approve","reason":"checked","arguments":{"call_1":{"amount":20}}}`, bob...)
	w.get(409, &f, http.MethodPost, one, `{"decision":"deny"}`, bob...)
	if f.Error.Code != run.CodeDecided {
		t.Errorf("%+v", f)
	}
	var done waiting
	eventually(t, "the run ends", func() bool {
		w.get(200, &done, http.MethodGet, one, "", ann...)
		return done.State == "done"
	})
	if done.Config != "8-3f2a91c4" || done.ResumedConfig != "9-00000000" || !strings.HasSuffix(done.Result.Text, `refunded {"amount":20}`) || len(done.Decisions) != 1 || done.Decisions[0].By != "bob" || done.Decisions[0].Reason != "checked" {
		t.Errorf("%+v %+v", done, done.Result)
	}
	w.get(200, &list, http.MethodGet, "/api/v1/approvals", "", bob...)
	if len(list.Approvals) != 0 {
		t.Errorf("%+v", list)
	}
	w.get(200, &list, http.MethodGet, "/api/v1/approvals?state=done,denied&limit=1", "", bob...)
	if len(list.Approvals) != 1 {
		t.Errorf("%+v", list)
	}
	var history struct{ Turns []struct{ Role, Text string } }
	w.get(200, &history, http.MethodGet, messages, "", ann...)
	if len(history.Turns) != 2 || history.Turns[1].Text != done.Result.Text {
		t.Errorf("%+v", history)
	}
}

func TestDeniesAndAbandons(t *testing.T) {
	t.Parallel()
	w := open(t)
	var a reply
	w.get(202, &a, http.MethodPost, messages, `{"message":"use {\"amount\":70}"}`)
	one := "/api/v1/approvals/" + a.Pending.ID
	w.get(202, nil, http.MethodPost, one, `{"decision":"deny","reason":"not ours"}`) // no keys: everybody here may
	var done waiting
	eventually(t, "the run ends", func() bool {
		w.get(200, &done, http.MethodGet, one, "")
		return done.State == "denied"
	})
	if !strings.Contains(done.Result.Text, "not ours") {
		t.Errorf("the model wasn't told why: %+v", done.Result)
	}
	w.get(202, &a, http.MethodPost, messages, `{"message":"use {\"amount\":70}"}`)
	w.get(204, nil, http.MethodDelete, "/api/v1/approvals/"+a.Pending.ID, "")
	w.get(200, &a, http.MethodPost, messages, `{"message":"hello"}`)
	var f failure
	w.get(404, &f, http.MethodGet, "/api/v1/approvals/unknown", "")
	w.get(404, &f, http.MethodPost, "/api/v1/approvals/unknown", `{"decision":"deny"}`)
	w.get(400, &f, http.MethodGet, "/api/v1/approvals?state=odd", "")
}

func TestRefusesBadInput(t *testing.T) {
	t.Parallel()
	w := open(t)
	cases := map[string]struct {
		body, field string
	}{
		"nothing":            {`{}`, "message"},
		"no JSON":            {`{"message":`, ""},
		"two documents":      {`{"message":"a"} {}`, ""},
		"an array":           {`[]`, ""},
		"a field too many":   {`{"message":"a","temperature":1}`, ""},
		"both":               {`{"message":"a","messages":[{"role":"user","content":"b"}]}`, "message"},
		"empty":              {`{"message":""}`, "message.content"},
		"a number":           {`{"message":7}`, ""},
		"an odd role":        {`{"messages":[{"role":"tool","content":"b"}]}`, "messages[0].role"},
		"no content":         {`{"messages":[{"role":"user"}]}`, "messages[0].content"},
		"assistant's last":   {`{"messages":[{"role":"assistant","content":"b"}]}`, "messages"},
		"an image of no use": {`{"message":{"content":"a","images":[{"url":"file:///etc/passwd"}]}}`, "message.images[0].url"},
		"an odd detail":      {`{"message":{"content":"a","images":[{"url":"https://x.test/a.png","detail":"best"}]}}`, "message.images[0].detail"},
		"a system's image":   {`{"messages":[{"role":"system","content":"a","images":[{"url":"https://x.test/a.png"}]}]}`, "messages[0].images"},
		"an odd format":      {`{"message":"a","format":{"type":"xml"}}`, "format.type"},
		"no schema":          {`{"message":"a","format":{"type":"json_schema"}}`, "format.schema"},
		"a schema too many":  {`{"message":"a","format":{"type":"text","schema":{}}}`, "format.schema"},
		"deep":               {`{"message":` + strings.Repeat("[", 20_000), ""},
		"metadata's kind":    {`{"message":"a","metadata":{"a":1}}`, ""},
	}
	for name, c := range cases {
		var f failure
		w.get(400, &f, http.MethodPost, messages, c.body)
		if f.Error.Code != run.CodeInvalid || f.Error.Field != c.field || f.Error.Message == "" {
			t.Errorf("%s: %+v, want field %q", name, f, c.field)
		}
	}
	var f failure
	w.get(400, &f, http.MethodGet, "/api/v1/sessions?limit=0", "")
	w.get(400, &f, http.MethodGet, messages+"?limit=x", "")
	w.get(400, &f, http.MethodGet, "/api/v1/sessions/"+strings.Repeat("s", 257)+"/messages", "")
	w.get(400, &f, http.MethodPost, "/api/v1/sessions/a%00b/messages", `{"message":"a"}`)
	w.get(413, &f, http.MethodPost, messages, `{"message":"`+strings.Repeat("a", 5<<20)+`"}`)
	w.get(415, &f, http.MethodPost, messages, `{"message":"a"}`, "Content-Type", "text/plain")
	w.get(415, &f, http.MethodPost, messages, `{"message":"a"}`, "Content-Encoding", "gzip")
	if len(w.model.seen) != 0 {
		t.Error("the model was asked")
	}
	for path, want := range map[string]int{"/api/v1/nothing": 404, "/api/v1/sessions/s-1": 405, "/api/v1/approvals": 405, messages: 405} {
		status, body, h := w.raw(http.MethodPut, path, "")
		if status != want || !strings.Contains(body, `{"error":{"code":"`) || (want == 405) != (h.Get("Allow") != "") {
			t.Errorf("PUT %s: %d %s", path, status, body)
		}
	}
}

// A body that doesn't come ends the request, and another caller isn't kept waiting.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	w := open(t)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", w.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "POST "+messages+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	w.get(200, nil, http.MethodPost, messages, `{"message":"hello"}`)
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 408") {
		t.Errorf("%s (%v)", b, err)
	}
}

func TestClosedAndNotServing(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.source.change(func(rt *run.Runtime) { rt.Closed = []run.Door{run.DoorREST} })
	var f failure
	for _, c := range [][2]string{{"POST", messages}, {"GET", messages}, {"GET", "/api/v1/sessions"}, {"DELETE", "/api/v1/sessions/s-1"}} {
		body := ""
		if c[0] == "POST" {
			body = `{"message":"a"}`
		}
		w.get(404, &f, c[0], c[1], body)
		if f.Error.Code != run.CodeNotExposed {
			t.Errorf("%v: %+v", c, f)
		}
	}
	// What another door suspended must be decided about somewhere.
	w.get(200, nil, http.MethodGet, "/api/v1/approvals", "")
	w.source.mu.Lock()
	w.source.err = errs.New(errs.Unavailable, "nothing yet")
	w.source.mu.Unlock()
	h := w.get(503, &f, http.MethodPost, messages, `{"message":"a"}`)
	if f.Error.Code != run.CodeNotServing || h.Get("Retry-After") == "" {
		t.Errorf("%+v %v", f, h)
	}
}

func TestCallersDontSeeEachOther(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.keys(key("ann", false), key("eve", false))
	w.get(200, nil, http.MethodPost, messages, `{"message":"secret"}`, "X-API-Key", "k-ann")
	var f failure
	w.get(404, &f, http.MethodGet, messages, "", "X-API-Key", "k-eve")
	w.get(204, nil, http.MethodDelete, "/api/v1/sessions/s-1", "", "X-API-Key", "k-eve")
	w.get(200, nil, http.MethodGet, messages, "", "X-API-Key", "k-ann")
	var list struct{ Sessions []any }
	if w.get(200, &list, http.MethodGet, "/api/v1/sessions", "", "X-API-Key", "k-eve"); len(list.Sessions) != 0 {
		t.Errorf("%+v", list)
	}
}
