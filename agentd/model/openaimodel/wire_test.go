package openaimodel_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/model/openaimodel"
)

var update = flag.Bool("update", false, "rewrite what the samples in testdata are wanted to give")

var ownID = regexp.MustCompile(`call_[0-9a-f]{16}|~[0-9a-f]{16}`)

// Answers in the shapes of several vendors, written from their documentation, and what we make of them. Each is sent in one piece and
// byte by byte.
func TestWire(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/wire/*.txtar")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d samples, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			sample, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			kind, body, want := sample.Files[0].Name, sample.Files[0].Data, sample.Files[1].Data
			for _, step := range []int{len(body), 1} {
				got := hear(t, kind, body, step)
				if *update {
					sample.Files[1].Data = []byte(got)
					if err := os.WriteFile(file, txtar.Format(sample), 0o600); err != nil {
						t.Fatal(err)
					}
					return
				}
				if diff := cmp.Diff(string(want), got); diff != "" {
					t.Errorf("%d bytes at a time (-want +got):\n%s", step, diff)
				}
			}
		})
	}
}

// hear gives what a Model makes of an answer that comes in pieces.
func hear(t *testing.T, kind string, body []byte, step int) string {
	t.Helper()
	kind, responses := strings.CutPrefix(kind, "responses-")
	stream := kind == "stream"
	e := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if stream {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		}
		out := http.NewResponseController(w)
		for rest := body; len(rest) > 0; {
			n := min(step, len(rest))
			_, _ = w.Write(rest[:n])
			_ = out.Flush()
			rest = rest[n:]
		}
	})
	m := open(t, e, func(c *openaimodel.Config) {
		c.Attempts, c.Price = 1, openaimodel.Price{Input: 1, Output: 2}
		if responses {
			c.API = openaimodel.Responses
		}
	})
	var b, text, reasoning strings.Builder
	for c, err := range m.Generate(t.Context(), model.Request{Stream: stream, Messages: []model.Message{{Role: model.User, Text: "hi"}}}) {
		text.WriteString(c.Text)
		reasoning.WriteString(c.Reasoning)
		for _, call := range c.ToolCalls {
			fmt.Fprintf(&b, "call %s %s %s\n", ownID.ReplaceAllStringFunc(call.ID, func(id string) string { return id[:1] + "..." }), call.Name, call.Arguments)
		}
		if c.FinishReason != "" {
			fmt.Fprintf(&b, "finish %s by %q\n", c.FinishReason, c.Model)
		}
		if u := c.Usage; u != nil {
			fmt.Fprintf(&b, "usage %d in, %d out, estimated %v, %.6f USD\n", u.InputTokens, u.OutputTokens, u.Estimated, u.CostUSD)
		}
		if err != nil {
			var known *model.Error
			if !errors.As(err, &known) {
				t.Errorf("untyped error: %v", err)
				continue
			}
			fmt.Fprintf(&b, "error %s: %s\n", known.Code, known.Message)
		}
	}
	var head strings.Builder
	for _, part := range []struct{ name, text string }{{"reasoning", reasoning.String()}, {"text", text.String()}} {
		if part.text != "" {
			_, _ = io.WriteString(&head, fmt.Sprintf("%s %q\n", part.name, part.text))
		}
	}
	return head.String() + b.String()
}
