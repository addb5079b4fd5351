package openaidoor_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/model"
)

// What a caller sends beside text gets to the model.
func TestImagesAndFormats(t *testing.T) {
	t.Parallel()
	d := open(t)
	resp, body := d.post(t, `{"messages":[{"role":"user","content":[{"type":"text","text":"what is this?"},
		{"type":"image_url","image_url":{"url":"https://example.com/a.png","detail":"low"}},
		{"type":"image_url","image_url":"data:image/png;base64,AAAA"}]},
		{"role":"user","content":[{"type":"image_url","image_url":{"url":"HTTP://example.com/b.png"}}]}],
		"response_format":{"type":"json_schema","json_schema":{"name":"thing","strict":true,"schema":{"type":"object"}}}}`)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	strict := true
	wantFormat := model.ResponseFormat{Type: "json_schema", Name: "thing", Schema: json.RawMessage(`{"type":"object"}`), Strict: &strict}
	if diff := cmp.Diff(wantFormat, d.model.last().Format); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want := []model.Message{
		{Role: "system", Text: "You help."},
		{Role: "user", Text: "what is this?", Images: []model.Image{{URL: "https://example.com/a.png", Detail: "low"}, {URL: "data:image/png;base64,AAAA"}}},
		{Role: "user", Images: []model.Image{{URL: "HTTP://example.com/b.png"}}},
	}
	if diff := cmp.Diff(want, d.model.last().Messages); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	d.post(t, `{"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_object"}}`)
	if diff := cmp.Diff(model.ResponseFormat{Type: "json_object"}, d.model.last().Format); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
