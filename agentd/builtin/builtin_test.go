package builtin_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/builtin"
	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/errs"
)

func TestEveryToolIsDescribedByASchema(t *testing.T) {
	t.Parallel()
	specs := builtin.Tools{}.Specs(append(builtin.Names(), "unknown", builtin.Reply))
	if len(specs) != len(builtin.Names()) {
		t.Fatalf("%d specs", len(specs))
	}
	for i, s := range specs {
		if s.Name != builtin.Names()[i] || s.Description == "" {
			t.Errorf("spec %d is %q", i, s.Name)
		}
		var schema struct{ Type string }
		if err := json.Unmarshal(s.Schema, &schema); err != nil || schema.Type != "object" {
			t.Errorf("%s: schema %s: %v", s.Name, s.Schema, err)
		}
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tool, args string
		want       *engine.Outcome
	}{
		"ask":      {builtin.AskUser, `{"question":"Which day?"}`, &engine.Outcome{Kind: engine.InputRequired, Text: "Which day?"}},
		"auth":     {builtin.RequestAuth, `{"message":"Log in."}`, &engine.Outcome{Kind: engine.AuthRequired, Text: "Log in."}},
		"reject":   {builtin.Reject, `{"reason":"no"}`, &engine.Outcome{Kind: engine.Rejected, Text: "no"}},
		"give up":  {builtin.GiveUp, `{"reason":"broken"}`, &engine.Outcome{Kind: engine.GivenUp, Text: "broken"}},
		"reply":    {builtin.Reply, `{"text":"hi"}`, &engine.Outcome{Kind: engine.Reply, Text: "hi"}},
		"no text":  {builtin.Reply, `{}`, nil},
		"a number": {builtin.AskUser, `{"question":1}`, nil},
		"blank":    {builtin.AskUser, `{"question":" "}`, nil},
		"no JSON":  {builtin.GiveUp, `[`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := builtin.Tools{}.Call(c.tool, json.RawMessage(c.args))
			var bad *tool.ArgumentsError
			if c.want == nil && !errors.As(err, &bad) {
				t.Fatalf("error is %v", err)
			}
			if c.want != nil && err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Outcome); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := (builtin.Tools{}).Call("x", nil); !errs.Is(err, errs.NotFound) {
		t.Errorf("an unknown tool: %v", err)
	}
}

func TestAttach(t *testing.T) {
	t.Parallel()
	part := func(p engine.Part) []engine.Part { return []engine.Part{p} }
	for name, c := range map[string]struct {
		args string
		want *engine.Artifact
	}{
		"text":       {`{"name":"n","text":"x"}`, &engine.Artifact{Name: "n", Parts: part(engine.Part{Text: "x"}), Last: true}},
		"data":       {`{"data":{"k":1}}`, &engine.Artifact{Parts: part(engine.Part{Data: json.RawMessage(`{"k":1}`)}), Last: true}},
		"data null":  {`{"data":null}`, &engine.Artifact{Parts: part(engine.Part{Data: json.RawMessage("null")}), Last: true}},
		"bytes":      {`{"base64":"dGNr","mediaType":"text/plain","filename":"o.txt"}`, &engine.Artifact{Parts: part(engine.Part{Bytes: []byte("tck"), MediaType: "text/plain", Filename: "o.txt"}), Last: true}},
		"url":        {`{"url":"https://example.com/o"}`, &engine.Artifact{Parts: part(engine.Part{URL: "https://example.com/o"}), Last: true}},
		"first":      {`{"artifactId":"a","text":"1"}`, &engine.Artifact{ID: "a", Parts: part(engine.Part{Text: "1"})}},
		"piece":      {`{"artifactId":"a","text":"2","append":true,"last":true}`, &engine.Artifact{ID: "a", Parts: part(engine.Part{Text: "2"}), Append: true, Last: true}},
		"none":       {`{"name":"n"}`, nil},
		"two":        {`{"text":"a","url":"https://example.com"}`, nil},
		"no base64":  {`{"base64":"!"}`, nil},
		"a file URL": {`{"url":"file:///etc/passwd"}`, nil},
		"to what":    {`{"text":"2","append":true}`, nil},
		"a list":     {`[]`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := builtin.Tools{}.Call(builtin.Attach, json.RawMessage(c.args))
			var bad *tool.ArgumentsError
			if c.want == nil {
				if !errors.As(err, &bad) {
					t.Fatalf("error is %v, result %+v", err, got)
				}
				return
			}
			if err != nil || len(got.Artifacts) != 1 {
				t.Fatalf("%v, %+v", err, got)
			}
			if diff := cmp.Diff(*c.want, got.Artifacts[0]); diff != "" {
				t.Error(diff)
			}
		})
	}
}
