package openaimodel_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/model/openaimodel"
)

const completed = `{"type":"response.completed","response":{"status":"completed","model":"m-1","output":[{"type":"message","content":[{"type":"output_text","text":"ok"}]}],"usage":{"input_tokens":7,"output_tokens":2}}}`

func byResponses(c *openaimodel.Config) { c.API = openaimodel.Responses }

// object is JSON as a body is compared.
func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestResponsesBody(t *testing.T) {
	t.Parallel()
	const usual = `"model":"qwen-plus","store":false,"include":["reasoning.encrypted_content"],"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}]`
	schema := model.ResponseFormat{Type: "json_schema", Name: "ticket", Schema: json.RawMessage(`{"type":"object"}`), Strict: new(true)}
	for name, tc := range map[string]struct {
		cfg  func(*openaimodel.Config)
		req  model.Request
		want string
	}{
		"nothing set": {want: `{"stream":false,` + usual + `}`},
		"everything": {
			cfg: func(c *openaimodel.Config) {
				c.Temperature, c.TopP, c.MaxTokens, c.SendMetadata = new(0.0), new(0.5), new(64), true
				c.ExtraBody = json.RawMessage(`{"reasoning":{"effort":"low"},"top_p":0.1,"messages":1}`)
			},
			req:  model.Request{Stream: true, Metadata: map[string]string{"k": "v"}},
			want: `{"stream":true,"temperature":0,"top_p":0.1,"max_output_tokens":64,"metadata":{"k":"v"},"reasoning":{"effort":"low"},"messages":1,` + usual + `}`,
		},
		"neither stop nor seed, which the API has not": {
			cfg:  func(c *openaimodel.Config) { c.Stop, c.Seed = []string{"END"}, new(int64(7)) },
			want: `{"stream":false,` + usual + `}`,
		},
		"a schema": {
			req:  model.Request{Format: schema},
			want: `{"stream":false,"text":{"format":{"type":"json_schema","name":"ticket","schema":{"type":"object"},"strict":true}},` + usual + `}`,
		},
		"any JSON beside what extraBody says of the text": {
			cfg:  func(c *openaimodel.Config) { c.ExtraBody = json.RawMessage(`{"text":{"verbosity":"low"}}`) },
			req:  model.Request{Format: model.ResponseFormat{Type: "json_object"}},
			want: `{"stream":false,"text":{"verbosity":"low","format":{"type":"json_object"}},` + usual + `}`,
		},
		"a format in extraBody wins": {
			cfg:  func(c *openaimodel.Config) { c.ExtraBody = json.RawMessage(`{"text":{"format":{"type":"text"}}}`) },
			req:  model.Request{Format: schema},
			want: `{"stream":false,"text":{"format":{"type":"text"}},` + usual + `}`,
		},
		"nulls leave out": {
			cfg: func(c *openaimodel.Config) {
				c.ExtraBody = json.RawMessage(`{"store":null,"include":null,"text":null}`)
			},
			req:  model.Request{Format: schema},
			want: `{"model":"qwen-plus","stream":false,"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}]}`,
		},
		"tools": {
			req: model.Request{Tools: []model.ToolSpec{{Name: "get", Description: "gets", Schema: json.RawMessage(`{"type":"object","anyOf":[{}]}`)}, {Name: "bare"}}},
			want: `{"stream":false,"tools":[{"type":"function","name":"get","description":"gets","parameters":{"type":"object","anyOf":[{}]},"strict":false},
				{"type":"function","name":"bare","parameters":{"type":"object","properties":{}},"strict":false}],` + usual + `}`,
		},
		"a conversation": {
			req: model.Request{Messages: []model.Message{
				{Role: model.System, Text: "You help."},
				{Role: model.User, Text: "What is it?", Images: []model.Image{{URL: "https://example.org/cat.png"}, {URL: "data:image/png;base64,AA", Detail: "low"}}},
				{Role: model.User, Images: []model.Image{{URL: "https://example.org/dog.png"}}},
				{Role: model.Assistant, Text: "A \"cat\"?"},
				{Role: model.User, Text: "look"},
				{Role: model.Assistant, Text: "Looking.", ToolCalls: []model.ToolCall{{ID: "c1", Name: "get"}, {ID: "c2", Name: "get", Arguments: `{"q":1}`}}},
				{Role: model.Tool, ToolCallID: "c1", Text: ""},
				{Role: model.Tool, ToolCallID: "c2", Text: "found"},
			}},
			want: `{"model":"qwen-plus","store":false,"include":["reasoning.encrypted_content"],"stream":false,"input":[
				{"type":"message","role":"system","content":[{"type":"input_text","text":"You help."}]},
				{"type":"message","role":"user","content":[{"type":"input_text","text":"What is it?"},
					{"type":"input_image","image_url":"https://example.org/cat.png","detail":"auto"},{"type":"input_image","image_url":"data:image/png;base64,AA","detail":"low"}]},
				{"type":"message","role":"user","content":[{"type":"input_image","image_url":"https://example.org/dog.png","detail":"auto"}]},
				{"type":"message","role":"assistant","content":[{"type":"output_text","text":"A \"cat\"?"}]},
				{"type":"message","role":"user","content":[{"type":"input_text","text":"look"}]},
				{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Looking."}]},
				{"type":"function_call","call_id":"c1","name":"get","arguments":"{}"},
				{"type":"function_call","call_id":"c2","name":"get","arguments":"{\"q\":1}"},
				{"type":"function_call_output","call_id":"c1","output":""},
				{"type":"function_call_output","call_id":"c2","output":"found"}]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := serve(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path != "/v1/responses":
					http.NotFound(w, r)
				case tc.req.Stream:
					sse(completed)(w, r)
				default:
					status(200, "", `{"status":"completed","output":[]}`)(w, r)
				}
			})
			m := open(t, e, func(c *openaimodel.Config) {
				c.API = openaimodel.Responses
				if tc.cfg != nil {
					tc.cfg(c)
				}
			})
			if _, err := collect(t, m, tc.req); err != nil {
				t.Fatal(err)
			}
			bodies, _ := e.requests()
			if diff := cmp.Diff(object(t, tc.want), bodies[0]); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
		})
	}
}

// done events of an answer that thinks, speaks and calls.
func thinking(id string) []string {
	item := func(place int, text string) string {
		return fmt.Sprintf(`{"type":"response.output_item.done","output_index":%d,"item":%s}`, place, text)
	}
	return []string{
		item(0, `{"type":"reasoning","id":"rs_1`+id+`","summary":[{"type":"summary_text","text":"Hm."}],"encrypted_content":"AA`+id+`","status":null}`),
		item(1, `{"type":"reasoning","id":"rs_bare","summary":[]}`),
		item(2, `{"type":"message","content":[{"type":"output_text","text":"Wait."}]}`),
		item(3, `{"type":"reasoning","id":"rs_2`+id+`","summary":[],"encrypted_content":"BB"}`),
		item(4, `{"type":"function_call","id":"fc_1","call_id":"call_1","name":"f","arguments":"{}"}`),
		item(5, `{"type":"function_call","id":"fc_2","call_id":"call_2","name":"f","arguments":"{}"}`),
		`{"type":"response.completed","response":{"status":"completed","output":[]}}`,
	}
}

// The reasoning of a round goes back where it stood, to the model that it comes from and to nobody else.
func TestResponsesReasoningGoesBack(t *testing.T) {
	t.Parallel()
	e := serve(t, sse(thinking("a")...), sse(thinking("b")...), sse(completed))
	pool := openaimodel.NewTransports(here(t))
	m := open(t, e, func(c *openaimodel.Config) { c.Transports, c.API = pool, openaimodel.Responses })
	user := model.Message{Role: model.User, Text: "hi"}
	mine, theirs := ask(t, m, user), ask(t, m, user)
	if len(mine) != 2 || mine[0].ID == theirs[0].ID || !strings.HasPrefix(mine[0].ID, "call_1~") || mine[1].ID != "call_2" {
		t.Fatalf("ids %q and %q: one conversation's must not be another's", mine, theirs)
	}
	conversation := []model.Message{
		user, {Role: model.Assistant, Text: "Wait.", ToolCalls: mine}, {Role: model.Tool, ToolCallID: mine[0].ID, Text: "1"}, {Role: model.Tool, ToolCallID: mine[1].ID, Text: "2"},
	}
	// Another Model of the endpoint, as after a change of the config.
	next := open(t, e, func(c *openaimodel.Config) {
		c.Transports, c.API, c.Temperature = pool, openaimodel.Responses, new(0.5)
	})
	_ = ask(t, next, conversation...)
	const rest = `{"type":"function_call","call_id":"call_1","name":"f","arguments":"{}"},{"type":"function_call","call_id":"call_2","name":"f","arguments":"{}"},
		{"type":"function_call_output","call_id":"call_1","output":"1"},{"type":"function_call_output","call_id":"call_2","output":"2"}`
	const spoken = `{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Wait."}]}`
	const hi = `{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}`
	bodies, _ := e.requests()
	want := object(t, `{"input":[`+hi+`,
		{"type":"reasoning","id":"rs_1a","summary":[{"type":"summary_text","text":"Hm."}],"encrypted_content":"AAa"},`+spoken+`,
		{"type":"reasoning","id":"rs_2a","summary":[],"encrypted_content":"BB"},`+rest+`]}`)["input"]
	if diff := cmp.Diff(want, bodies[2]["input"]); diff != "" {
		t.Errorf("sent back (-want +got):\n%s", diff)
	}
	bare := object(t, `{"input":[`+hi+`,`+spoken+`,`+rest+`]}`)["input"]
	other := serve(t, sse(completed))
	_ = ask(t, open(t, other, func(c *openaimodel.Config) { c.Transports, c.API = pool, openaimodel.Responses }), conversation...)
	_ = ask(t, open(t, e, func(c *openaimodel.Config) { c.Transports, c.API, c.Model = pool, openaimodel.Responses, "another" }), conversation...)
	elsewhere, _ := other.requests()
	bodies, _ = e.requests()
	for who, got := range map[string]any{"another endpoint": elsewhere[0]["input"], "another model": bodies[3]["input"]} {
		if diff := cmp.Diff(bare, got); diff != "" {
			t.Errorf("%s got (-want +got):\n%s", who, diff)
		}
	}
	chat := serve(t, sse(text("ok"), stopChunk, done))
	_ = ask(t, open(t, chat, nil), conversation...)
	if bodies, _ := chat.requests(); strings.Contains(fmt.Sprint(bodies), "rs_") || strings.Contains(fmt.Sprint(bodies), "~") {
		t.Errorf("chat completions got %v", bodies)
	}
}

// A model that gives no encrypted reasoning, or doesn't take it back, is asked without it, at once and from then on.
func TestResponsesWithoutEncryptedReasoning(t *testing.T) {
	t.Parallel()
	refusal := status(http.StatusBadRequest, "", `{"error":{"message":"Encrypted content is not supported with this model.","type":"invalid_request_error","param":"include"}}`)
	e := serve(t, sse(thinking("a")...), refusal, sse(completed))
	m := open(t, e, func(c *openaimodel.Config) { c.API, c.Attempts = openaimodel.Responses, 1 })
	calls := ask(t, m, model.Message{Role: model.User, Text: "hi"})
	for range 2 {
		_ = ask(t, m, model.Message{Role: model.User, Text: "hi"}, model.Message{Role: model.Assistant, ToolCalls: calls}, model.Message{Role: model.Tool, ToolCallID: calls[0].ID})
	}
	bodies, _ := e.requests()
	if len(bodies) != 4 || !strings.Contains(fmt.Sprint(bodies[1]), "rs_1a") || bodies[1]["include"] == nil {
		t.Fatalf("%d requests, the second %v", len(bodies), bodies[1])
	}
	for _, b := range bodies[2:] {
		if b["include"] != nil || b["store"] != false || strings.Contains(fmt.Sprint(b), "rs_1a") {
			t.Errorf("asked again with %v", b)
		}
	}
}

// A caller's stop sequence can't be honoured: it is refused before anything is sent, and costs the endpoint nothing.
func TestResponsesRefusesStop(t *testing.T) {
	t.Parallel()
	e := serve(t, sse(completed))
	_, err := collect(t, open(t, e, byResponses), model.Request{Stream: true, Stop: []string{"END"}})
	var known *model.Error
	if !errors.As(err, &known) || known.Code != "invalid" || len(known.Attempts) != 0 || !strings.Contains(known.Message, "stop") {
		t.Errorf("err = %+v", err)
	}
	if bodies, _ := e.requests(); len(bodies) != 0 {
		t.Errorf("asked %v", bodies)
	}
}

func TestResponsesFailures(t *testing.T) {
	t.Parallel()
	delta := `{"type":"response.output_text.delta","output_index":0,"delta":"par"}`
	failed := `{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"oops"},"usage":{"input_tokens":9,"output_tokens":1}}}`
	for name, tc := range map[string]struct {
		handlers []http.HandlerFunc
		code     string // "": it comes to an answer
		attempts int
		usage    model.Usage
	}{
		"refused, then well":                 {handlers: []http.HandlerFunc{status(503, "", "{}"), sse(completed)}, attempts: 2, usage: model.Usage{InputTokens: 7, OutputTokens: 2}},
		"failed, then well, and both counts": {handlers: []http.HandlerFunc{sse(failed), sse(completed)}, attempts: 2, usage: model.Usage{InputTokens: 16, OutputTokens: 3}},
		"failed after a piece":               {handlers: []http.HandlerFunc{sse(delta, failed)}, code: "http_5xx", attempts: 1},
		"no such path":                       {handlers: []http.HandlerFunc{status(404, "", `{"error":{"message":"Not Found"}}`)}, code: "invalid", attempts: 1},
		"chat completions all the same":      {handlers: []http.HandlerFunc{sse(text("hi"), stopChunk, done)}, code: "unreachable", attempts: 3},
		"a whole answer to a streamed call": {
			handlers: []http.HandlerFunc{status(200, "", `{"status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"ok"}]}],"usage":{"input_tokens":7,"output_tokens":2}}`)},
			attempts: 1, usage: model.Usage{InputTokens: 7, OutputTokens: 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := serve(t, tc.handlers...)
			got, err := collect(t, open(t, e, byResponses), model.Request{Stream: true})
			if bodies, _ := e.requests(); len(bodies) != tc.attempts {
				t.Errorf("%d requests, want %d", len(bodies), tc.attempts)
			}
			var known *model.Error
			switch {
			case tc.code == "" && (err != nil || got.Text != "ok" || got.Usage != tc.usage):
				t.Errorf("got %+v, %v", got, err)
			case tc.code != "" && (!errors.As(err, &known) || known.Code != tc.code):
				t.Errorf("err = %v, want %s", err, tc.code)
			}
		})
	}
}

// What may come without an end is capped.
func TestResponsesSizes(t *testing.T) {
	t.Parallel()
	forEver := func(lines ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for n := 0; r.Context().Err() == nil; n++ {
				for _, l := range lines {
					l = strings.ReplaceAll(strings.ReplaceAll(l, "PLACE", fmt.Sprint(n)), "LONG", strings.Repeat("x", 1<<14))
					sse(l)(w, r)
				}
			}
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"text":      forEver(`{"type":"response.output_text.delta","output_index":0,"delta":"LONG"}`),
		"arguments": forEver(`{"type":"response.function_call_arguments.delta","output_index":0,"delta":"LONG"}`),
		"calls":     forEver(`{"type":"response.output_item.added","output_index":PLACE,"item":{"type":"function_call","name":"f"}}`),
		"items":     forEver(`{"type":"response.output_item.added","output_index":PLACE,"item":{"type":"x"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := collect(t, open(t, serve(t, h), byResponses), model.Request{Stream: true})
			var known *model.Error
			if !errors.As(err, &known) || known.Code != "invalid" || len(known.Message) > 1000 {
				t.Errorf("err = %.2000v", err)
			}
		})
	}
}

func TestNewRefusesAnUnknownAPI(t *testing.T) {
	t.Parallel()
	for _, cfg := range []openaimodel.Config{
		{Model: "m", BaseURL: "http://h/v1", API: "other"},
		{Model: "m", BaseURL: "http://h/v1", API: openaimodel.Responses, ExtraBody: json.RawMessage(`{"input":[]}`)},
	} {
		if _, err := openaimodel.New(cfg); err == nil {
			t.Errorf("accepted %+v", cfg)
		}
	}
}
