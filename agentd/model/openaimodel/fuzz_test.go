package openaimodel

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/agentry/agentry/agentd/model"
)

// Whatever an endpoint sends: an answer that ends in a usage, or a failure with a code; never a panic.
func FuzzAnswer(f *testing.F) {
	files, err := filepath.Glob("testdata/wire/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("%d samples, %v", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file) // #nosec G304 -- of the testdata
		if err != nil {
			f.Fatal(err)
		}
		sample := txtar.Parse(raw)
		kind, responses := strings.CutPrefix(sample.Files[0].Name, "responses-")
		f.Add(responses, kind == "stream", 200, sample.Files[0].Data)
	}
	f.Add(false, true, 400, []byte(`[{"error":{"code":400,"message":"x"}}]`))
	f.Add(true, true, 200, []byte(`data: {"type":"response.completed","response":{"output":[7,{"type":"message","content":"x"}]}}`+"\n\n"))
	f.Add(false, true, 200, []byte("data: {\"error\": 7}\n\ndata: [1]\n\n"))
	models := map[bool]*Model{}
	for responses, api := range map[bool]API{false: ChatCompletions, true: Responses} {
		m, err := New(Config{Model: "m", BaseURL: "http://127.0.0.1:1/v1", API: api})
		if err != nil {
			f.Fatal(err)
		}
		models[responses] = m
	}
	f.Fuzz(func(t *testing.T, responses, stream bool, status int, body []byte) {
		m := models[responses]
		r := model.Request{Stream: stream, Messages: []model.Message{{Role: model.User, Text: "hi"}}}
		resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}
		var last *model.Usage
		out := &output{yield: func(c model.Chunk, _ error) bool {
			last = c.Usage
			for _, call := range c.ToolCalls {
				if call.ID == "" {
					t.Errorf("a call without an id: %+v", call)
				}
			}
			return true
		}}
		x := &exchange{status: status}
		a := &answer{}
		var err error
		switch {
		case status >= 300:
			err = refusalOf(status, body)
		case stream:
			err = m.stream(func(error) {}, time.NewTimer(time.Hour), r, resp, a, out)
		default:
			err = m.whole(r, resp, a, out)
		}
		if err != nil {
			if c := classify(context.Background(), x, err); c.code == "" || c.message == "" {
				t.Errorf("%v is classified as %+v", err, c)
			}
			return
		}
		if last == nil {
			t.Error("an answer without a usage")
		}
	})
}
