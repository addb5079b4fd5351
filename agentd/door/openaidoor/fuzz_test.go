package openaidoor

import (
	"testing"

	"github.com/agentry/agentry/agentd/engine"
)

// Whatever comes is either a fault that says so in OpenAI's terms, or a request that the engine can take.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"messages":[{"role":"user","content":"hi"}]}`,
		`{"messages":[{"role":"developer","content":[]},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}},null,{"type":"text"}]}],"stop":["a"],"stream":true}`,
		`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{}]},{"role":"user","content":"b"}],"metadata":{"session_id":1,"private":true}}`,
		`{"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":null,"strict":null}},"tool_choice":{"type":"function"},"n":1}`,
		`{"messages":[{"role":"user","content":"\ud800"}],"tools":{},"modalities":[null]}`,
		"{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}",
		`null`, `[]`, `{"messages":null}`, `{"MESSAGES":[{"ROLE":"user","Content":{"a":1}}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, fault := parse(body)
		if fault == nil {
			req, b := c.request()
			if fault = b; fault == nil {
				check(t, body, req.Messages)
				return
			}
		}
		if fault.status < 400 || fault.status > 499 || fault.Message == "" || fault.Type != typeInvalid || fault.Code == "" {
			t.Errorf("%q: %+v", body, fault)
		}
	})
}

func check(t *testing.T, body []byte, messages []engine.Message) {
	t.Helper()
	for _, m := range messages {
		switch m.Role {
		case engine.User, engine.System:
			if m.Text == "" && len(m.Images) == 0 {
				t.Errorf("%q: an empty message of the %s", body, m.Role)
			}
		case engine.Assistant:
		default:
			t.Errorf("%q: role %q", body, m.Role)
		}
		for _, i := range m.Images {
			if m.Role != engine.User || i.URL == "" {
				t.Errorf("%q: image %+v of the %s", body, i, m.Role)
			}
		}
	}
}
