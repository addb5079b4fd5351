package scriptmodel_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/scriptmodel"
)

// post asks the Responses API and gives the answer's body.
func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/responses", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

type told struct {
	Status     string
	Incomplete *struct{ Reason string } `json:"incomplete_details"`
	Output     []struct {
		Type, Name, Arguments string
		CallID                string `json:"call_id"`
		Encrypted             string `json:"encrypted_content"`
		Content, Summary      []struct{ Text string }
	}
	Usage struct {
		Input  int `json:"input_tokens"`
		Output int `json:"output_tokens"`
	}
}

// The Responses API is answered from the rules that chat completions are, in one piece and as events that come to the same.
func TestResponses(t *testing.T) {
	t.Parallel()
	present := true
	srv := scriptmodel.New(scriptmodel.Script{Rules: []scriptmodel.Rule{
		{Name: "end", When: scriptmodel.When{ToolResult: &scriptmodel.Match{Present: &present}, Round: 2}, Reply: &scriptmodel.Reply{Text: "tool said {{toolResult}}"}},
		{Name: "call", When: scriptmodel.When{User: scriptmodel.Contains("look")}, Reply: &scriptmodel.Reply{
			Reasoning: "Let me see.", ToolCalls: []scriptmodel.ToolCall{{Name: "find", Arguments: map[string]any{"q": 1}}, {Name: "find"}}, Usage: &scriptmodel.Usage{PromptTokens: 5, CompletionTokens: 3},
		}},
		{Name: "format", When: scriptmodel.When{Format: scriptmodel.Contains("json_schema ticket")}, Reply: &scriptmodel.Reply{JSON: map[string]any{"n": 1}}},
		{Name: "cut", When: scriptmodel.When{Image: scriptmodel.Contains("cat.png")}, Reply: &scriptmodel.Reply{Text: "{{images}} cat of {{system}}", FinishReason: "length"}},
	}, Default: &scriptmodel.Reply{Text: "you said {{user}} in turn {{turn}}"}})
	web := httptest.NewServer(srv)
	t.Cleanup(web.Close)
	t.Cleanup(srv.Close)
	for name, tc := range map[string]struct {
		body string // without its braces
		want string
	}{
		"a text":   {`"input":"hello"`, "completed message:you said hello in turn 1"},
		"a format": {`"input":"hello","text":{"format":{"type":"json_schema","name":"ticket","schema":{}}}`, `completed message:{"n":1}`},
		"calls": {
			`"input":[{"role":"user","content":"look"}],"tools":[{"type":"function","name":"tools__find"}],"include":["reasoning.encrypted_content"]`,
			`completed reasoning:Let me see.! function_call:tools__find {"q":1} function_call:tools__find {}`,
		},
		"a result": {
			`"input":[{"role":"user","content":"look"},{"type":"reasoning","summary":[]},{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},{"type":"function_call","call_id":"2","name":"f","arguments":"{}"},
			{"type":"function_call_output","call_id":"1","output":"one"},{"type":"function_call_output","call_id":"2","output":"two"}]`,
			"completed message:tool said one\ntwo",
		},
		"a picture, cut": {
			`"instructions":"S","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"},{"type":"input_image","image_url":"http://h/cat.png"}]}]`,
			"incomplete(max_output_tokens) message:1 cat of S",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, whole := post(t, web.URL, `{"model":"m",`+tc.body+`}`)
			if got := tell(t, whole); code != http.StatusOK || got != tc.want {
				t.Errorf("whole: %d %q, want %q", code, got, tc.want)
			}
			code, events := post(t, web.URL, `{"model":"m","stream":true,`+tc.body+`}`)
			last, pieces := lastEvent(t, events)
			if got := tell(t, last); code != http.StatusOK || got != tc.want || !strings.Contains(tc.want, pieces) {
				t.Errorf("streamed: %d %q in pieces %q, want %q", code, got, pieces, tc.want)
			}
		})
	}
	if code, _ := post(t, web.URL, `{"model":"m","input":[]}`); code != http.StatusBadRequest {
		t.Errorf("no input: %d", code)
	}
}

// tell gives a response in short.
func tell(t *testing.T, body string) string {
	t.Helper()
	var r told
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	out := []string{r.Status}
	if r.Incomplete != nil {
		out[0] += "(" + r.Incomplete.Reason + ")"
	}
	for _, i := range r.Output {
		var s strings.Builder
		s.WriteString(i.Type + ":")
		for _, p := range slices.Concat(i.Content, i.Summary) {
			s.WriteString(p.Text)
		}
		if i.Encrypted != "" {
			s.WriteString("!")
		}
		if i.Type == "function_call" {
			s.WriteString(i.Name + " " + i.Arguments)
			if i.CallID == "" {
				t.Error("a call without an id")
			}
		}
		out = append(out, s.String())
	}
	if r.Usage.Input == 0 || r.Usage.Output == 0 {
		t.Errorf("usage %+v", r.Usage)
	}
	return strings.Join(out, " ")
}

// lastEvent gives the response that ends a stream, and the text's pieces.
func lastEvent(t *testing.T, events string) (last, pieces string) {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(events))
	var types []string
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e struct {
			Type, Delta string
			Response    json.RawMessage
			Sequence    int `json:"sequence_number"`
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		if e.Sequence != len(types) {
			t.Errorf("event %d has number %d", len(types), e.Sequence)
		}
		types = append(types, e.Type)
		if e.Type == "response.output_text.delta" {
			pieces += e.Delta
		}
		last = string(e.Response)
	}
	if diff := cmp.Diff([]string{"response.created", "response.in_progress", "response.output_item.added"}, types[:3]); diff != "" {
		t.Error(diff)
	}
	return last, pieces
}
