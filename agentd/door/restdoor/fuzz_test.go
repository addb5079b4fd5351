package restdoor_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/run"
)

// Whatever comes, the door answers in its own shape, and the next caller is answered.
func FuzzMessage(f *testing.F) {
	w := open(f)
	w.source.change(func(rt *run.Runtime) { rt.WallTime = 100 * time.Millisecond })
	for _, seed := range []string{
		`{"message":"hello"}`, `{"message":{"content":"a","images":[{"url":"data:image/png;base64,AA==","detail":"high"}]}}`, `{"message":"use {\"amount\":70}"}`, `{"message":"use ["}`,
		`{"messages":[{"role":"assistant"},{"role":"user","content":"b"}],"private":true}`, `{"message":"a","stop":["x"],"metadata":{"private":"true"}}`, `[]`, `null`, `{`, "\x00", `{"message":null}`,
		`{"message":"a","format":{"type":"json_schema","schema":{"type":"object"},"strict":true}}`, `{"message":"fail"}`, `{"messages":[]}`, `{"message":"\ud800"}`,
	} {
		f.Add([]byte(seed), "s-1", false)
		f.Add([]byte(seed), "\xff/../%", true)
	}
	f.Fuzz(func(t *testing.T, body []byte, session string, stream bool) {
		post := func(session string, body []byte, stream bool) *httptest.ResponseRecorder {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/sessions/x/messages", bytes.NewReader(body))
			r.URL.Path = "/api/v1/sessions/" + session + "/messages"
			r.URL.RawPath = "/api/v1/sessions/" + url.PathEscape(session) + "/messages"
			r.RemoteAddr, r.Host = "127.0.0.1:9", "localhost"
			r.Header.Set("Content-Type", "application/json")
			if stream {
				r.Header.Set("Accept", "text/event-stream")
			}
			out := httptest.NewRecorder()
			w.Config.Handler.ServeHTTP(out, r)
			return out
		}
		got := post(session, body, stream)
		kind := got.Header().Get("Content-Type")
		var answer struct {
			Session string
			Error   *struct{ Code, Message string }
		}
		switch {
		case got.Code == http.StatusInternalServerError:
			t.Errorf("%d %s", got.Code, got.Body)
		case got.Code/100 == 3 || kind == "text/event-stream; charset=utf-8":
		case kind != "application/json":
			t.Errorf("%d %s", got.Code, kind)
		default:
			if err := json.Unmarshal(got.Body.Bytes(), &answer); err != nil || (got.Code >= 400) != (answer.Error != nil && answer.Error.Code != "" && answer.Error.Message != "") {
				t.Errorf("%d %s (%v)", got.Code, got.Body, err)
			}
		}
		if next := post("other", []byte(`{"message":"hello"}`), false); next.Code != http.StatusOK {
			t.Errorf("the next caller: %d %s", next.Code, next.Body)
		}
	})
}
