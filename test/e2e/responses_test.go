package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/agentry/agentry/internal/scriptmodel"
	"github.com/agentry/agentry/test/harness"
)

const responsesScript = `
rules:
  - name: end
    when: {toolResult: true}
    reply: {text: "tool said {{toolResult}}"}
  - name: call
    when: {user: "/^call/"}
    reply: {reasoning: "I had better ask.", toolCalls: [{name: alpha, arguments: {q: x}}]}
default: {text: "{{system}} | {{user}}"}
`

// An agent whose model speaks the Responses API: a tool call with its reasoning given back, streamed and not, and a conversation; what that
// API lacks is said when it is applied.
func TestAModelAskedByTheResponsesAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, responsesScript)
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)
	files := helper(stub.URL, `"alpha"`)
	files["helper/model.json"] = `{"model": "scripted", "api": "responses", "maxTokens": 64, "seed": 1}`
	resp, err := w.api.Apply(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	notes := slices.DeleteFunc(slices.Clone(resp.GetNotes()), func(n string) bool { return !strings.Contains(n, "not_supported") })
	if len(notes) != 1 || !strings.Contains(notes[0], "model.seed") {
		t.Errorf("apply's notes: %q, want one about model.seed", notes)
	}
	a := w.agent(t, "helper")
	for _, stream := range []bool{false, true} {
		w.model.Clear()
		session := fmt.Sprintf("s-%t", stream)
		ask := func(text string) (harness.Answer, error) {
			if stream {
				return a.ChatStream(t.Context(), session, text, nil)
			}
			return a.Chat(t.Context(), session, text)
		}
		ans, err := ask("call it")
		if err != nil || !strings.HasPrefix(ans.Text, "tool said ") {
			t.Fatalf("stream %t: %q, %v", stream, ans.Text, err)
		}
		if ans, err = ask("and now?"); err != nil || ans.Text != "be helpful | and now?" {
			t.Errorf("stream %t: %q, %v", stream, ans.Text, err)
		}
		if err := askedByResponses(w.model.Requests(), stream); err != nil {
			t.Errorf("stream %t: %v", stream, err)
		}
	}
	if calls := stub.TakeCalls(); len(calls) != 2 {
		t.Errorf("%d tool calls, want 2", len(calls))
	}
}

// askedByResponses judges what the endpoint got: a call, the same with the tool's result and the reasoning, and the next turn.
func askedByResponses(seen []scriptmodel.Seen, stream bool) error {
	if len(seen) != 3 {
		return fmt.Errorf("%d requests, want 3", len(seen))
	}
	for _, s := range seen {
		if s.Path != "/v1/responses" || s.Stream != stream || s.MaxTokens == nil || *s.MaxTokens != 64 || strings.Contains(string(s.Body), "seed") {
			return fmt.Errorf("asked at %s (stream %t): %s", s.Path, s.Stream, s.Body)
		}
	}
	var body struct {
		Store *bool `json:"store"`
		Input []struct {
			Type      string `json:"type"`
			CallID    string `json:"call_id"`
			Encrypted string `json:"encrypted_content"`
		} `json:"input"`
	}
	if err := json.Unmarshal(seen[1].Body, &body); err != nil {
		return err
	}
	var types []string
	for _, i := range body.Input {
		types = append(types, i.Type)
	}
	want := []string{"message", "message", "reasoning", "function_call", "function_call_output"}
	if !slices.Equal(types, want) || body.Store == nil || *body.Store {
		return fmt.Errorf("the second request: %s", seen[1].Body)
	}
	if body.Input[2].Encrypted == "" || body.Input[3].CallID != body.Input[4].CallID || strings.Contains(body.Input[3].CallID, "~") {
		return errors.New("reasoning or call id: " + string(seen[1].Body))
	}
	return nil
}
