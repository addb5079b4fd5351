package openaidoor_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/pending/inpending"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/tool"
)

// refund is a tool that must not be called.
type refund struct{ t *testing.T }

func (r refund) Tools() []tool.Tool { return []tool.Tool{r} }

func (refund) Spec() tool.Spec {
	return tool.Spec{Name: "desk__refund", Server: "desk", Tool: "refund", Schema: json.RawMessage(`{"type":"object"}`)}
}

func (r refund) Call(context.Context, json.RawMessage) (tool.Result, error) {
	r.t.Error("the tool was called")
	return tool.Result{}, nil
}

// consenting is a door whose model says `says` and asks for a tool that needs consent.
func consenting(t *testing.T, says string) *door {
	t.Helper()
	d := open(t)
	store, err := inpending.New(inpending.Config{})
	if err != nil {
		t.Fatal(err)
	}
	rt := *d.source.rt
	rt.Tools, rt.Pending = refund{t}, store
	rt.Approval = &run.Approval{Timeout: time.Hour, Needs: func(_, name string, args map[string]any, _, _ string) (string, bool) {
		return "above 100", name == "refund" && args["amount"] == 500.0
	}}
	d.source.swap(&rt, nil)
	d.model.answer = func(_ context.Context, _ model.Request, yield func(model.Chunk, error) bool) {
		if says != "" && !yield(model.Chunk{Text: says}, nil) {
			return
		}
		yield(model.Chunk{
			ToolCalls:    []model.ToolCall{{ID: "c1", Name: "desk__refund", Arguments: `{"order":"A-7","amount":500}`}},
			FinishReason: "tool_calls", Usage: &model.Usage{InputTokens: 5, OutputTokens: 2},
		}, nil)
	}
	return d
}

type waiting struct {
	ID        string `json:"id"`
	Kind      string `json:"kind"`
	ExpiresAt string `json:"expires_at"`
	Calls     []struct {
		Tool      string         `json:"tool"`
		Arguments map[string]any `json:"arguments"`
		Needs     bool           `json:"needs_approval"`
		Why       string         `json:"why"`
	} `json:"calls"`
}

func (w waiting) check(t *testing.T, text, header string) {
	t.Helper()
	if w.ID == "" || w.ID != header || w.Kind != "approval" || w.ExpiresAt == "" || len(w.Calls) != 1 {
		t.Fatalf("%+v, header %q", w, header)
	}
	c := w.Calls[0]
	if c.Tool != "desk/refund" || !c.Needs || c.Why != "above 100" || c.Arguments["order"] != "A-7" {
		t.Errorf("%+v", c)
	}
	for _, want := range []string{"waits for approval", `desk/refund {"order":"A-7","amount":500} (above 100)`, "agentctl approvals approve " + w.ID, "agentctl approvals deny " + w.ID, "POST /api/v1/approvals/" + w.ID, w.ExpiresAt} {
		if !strings.Contains(text, want) {
			t.Errorf("the answer lacks %q:\n%s", want, text)
		}
	}
}

// A run that waits is an answer that says so, in words, in a field and in a header.
func TestWaitingWhole(t *testing.T) {
	t.Parallel()
	d := consenting(t, "Let me see.")
	resp, body := d.post(t, `{"messages":[{"role":"user","content":"refund A-7"}]}`, "X-Session-Id", "s")
	var c struct {
		Choices []struct {
			Message      struct{ Content string }
			FinishReason string `json:"finish_reason"`
		}
		Usage   map[string]int
		Agentry struct{ Pending waiting }
	}
	if err := json.Unmarshal([]byte(body), &c); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	c.Agentry.Pending.check(t, c.Choices[0].Message.Content, resp.Header.Get("X-Agentry-Pending"))
	if !strings.HasPrefix(c.Choices[0].Message.Content, "Let me see.\n\nThis waits") || c.Choices[0].FinishReason != "stop" || c.Usage["total_tokens"] != 7 {
		t.Errorf("%s", body)
	}
	// The session has one that waits: the next message is told its name, and not tried again by an SDK.
	resp, body = d.post(t, `{"messages":[{"role":"user","content":"and?"}]}`, "X-Session-Id", "s")
	if resp.StatusCode != http.StatusConflict || !strings.Contains(body, `"code":"pending"`) || resp.Header.Get("X-Agentry-Pending") != c.Agentry.Pending.ID || resp.Header.Get("X-Should-Retry") != "false" {
		t.Errorf("%d %s %v", resp.StatusCode, body, resp.Header)
	}
}

func TestWaitingInAStream(t *testing.T) {
	t.Parallel()
	for _, says := range []string{"", "Let me see."} {
		d := consenting(t, says)
		resp, body := d.post(t, `{"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"refund A-7"}]}`)
		var text, finish string
		var last waiting
		var usage map[string]int
		for line := range strings.Lines(body) {
			data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
			if !ok || data == "[DONE]" {
				continue
			}
			var c struct {
				Choices []struct {
					Delta        struct{ Content string }
					FinishReason string `json:"finish_reason"`
				}
				Usage   map[string]int
				Agentry struct{ Pending waiting }
			}
			if err := json.Unmarshal([]byte(data), &c); err != nil {
				t.Fatalf("%s: %v", data, err)
			}
			for _, ch := range c.Choices {
				text += ch.Delta.Content
				finish += ch.FinishReason
			}
			if c.Agentry.Pending.ID != "" {
				last = c.Agentry.Pending
			}
			usage = c.Usage
		}
		header := resp.Header.Get("X-Agentry-Pending")
		if says != "" { // the headers were out before it was known
			if header != "" {
				t.Errorf("header %q", header)
			}
			header = last.ID
		}
		last.check(t, text, header)
		if !strings.HasPrefix(text, says) || finish != "stop" || !strings.HasSuffix(body, "data: [DONE]\n\n") {
			t.Errorf("%s", body)
		}
		if diff := cmp.Diff(map[string]int{"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, usage); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
