package a2a

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// restPath is how HTTP+JSON asks for an operation: fields in braces are taken out of the request.
type restPath struct{ method, path string }

func restPaths() map[string]restPath {
	return map[string]restPath{
		sendMessage:   {http.MethodPost, "/message:send"},
		streamMessage: {http.MethodPost, "/message:stream"},
		getTask:       {http.MethodGet, "/tasks/{id}"},
		listTasks:     {http.MethodGet, "/tasks"},
		cancelTask:    {http.MethodPost, "/tasks/{id}:cancel"},
		subscribeTask: {http.MethodGet, "/tasks/{id}:subscribe"},
		createPush:    {http.MethodPost, "/tasks/{taskId}/pushNotificationConfigs"},
		getPush:       {http.MethodGet, "/tasks/{taskId}/pushNotificationConfigs/{id}"},
		listPush:      {http.MethodGet, "/tasks/{taskId}/pushNotificationConfigs"},
		deletePush:    {http.MethodDelete, "/tasks/{taskId}/pushNotificationConfigs/{id}"},
		extendedCard:  {http.MethodGet, "/extendedAgentCard"},
	}
}

// restRequest gives method, URL and body of an operation.
func (c caller) restRequest(t *testing.T, op, request string) (method, address, body string) {
	t.Helper()
	at, known := restPaths()[op]
	if !known {
		t.Fatalf("no path of %s", op)
	}
	fields := fieldsOf(t, request)
	path := at.path
	for name, value := range fields {
		var s string
		if hole := "{" + name + "}"; strings.Contains(path, hole) && json.Unmarshal(value, &s) == nil {
			path = strings.Replace(path, hole, url.PathEscape(s), 1)
			delete(fields, name)
		}
	}
	if c.tenant != "" {
		path = "/" + url.PathEscape(c.tenant) + path
	}
	if at.method == http.MethodPost {
		return at.method, c.address[rest] + path, text(t, fields)
	}
	query := url.Values{}
	for name, value := range fields {
		var s string
		if json.Unmarshal(value, &s) != nil {
			s = string(value)
		}
		query.Set(name, s)
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return at.method, c.address[rest] + path, ""
}

func (c caller) askREST(ctx context.Context, t *testing.T, op, request string) answer {
	t.Helper()
	method, address, body := c.restRequest(t, op, request)
	return c.fetch(ctx, t, method, address, body)
}

// fetch sends one request of the HTTP+JSON binding.
func (c caller) fetch(ctx context.Context, t *testing.T, method, address, body string) answer {
	t.Helper()
	resp := c.http(ctx, t, method, address, body, "")
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, header: resp.Header, body: whole(t, resp)}
	a.readREST(t)
	return a
}

// readREST reads the body.
func (a *answer) readREST(t *testing.T) {
	t.Helper()
	if a.status/100 == 2 {
		if a.result = a.body; len(a.body) == 0 {
			a.result = json.RawMessage("{}")
		}
		return
	}
	a.fault = restFault(t, a.body)
}

// restFault reads a google.rpc.Status below "error".
func restFault(t *testing.T, body []byte) *fault {
	t.Helper()
	var in struct {
		Error *struct {
			Code    int              `json:"code"`
			Status  string           `json:"status"`
			Message string           `json:"message"`
			Details []map[string]any `json:"details"`
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &in); err != nil || in.Error == nil {
		t.Fatalf("no error of HTTP+JSON: %v\n%s", err, body)
	}
	return &fault{http: in.Error.Code, name: in.Error.Status, message: in.Error.Message, details: in.Error.Details}
}
