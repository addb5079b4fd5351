package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// floor is an agent in the standard library alone: it decodes a request, asks the model with a system prompt and one tool, calls the tool
// where the model wants it, and encodes the answer. It keeps no session and no trace, checks nothing, has no limits and retries nothing.
type floor struct {
	client   *http.Client
	upstream string
	session  string // of the MCP server
}

type floorMessage struct {
	Role      string      `json:"role"`
	Content   string      `json:"content"`
	ToolCalls []floorCall `json:"tool_calls,omitempty"`
	CallID    string      `json:"tool_call_id,omitempty"`
}

type floorCall struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

type floorTool struct {
	Type     string        `json:"type"`
	Function floorFunction `json:"function"`
}

type floorFunction struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Parameters  json.RawMessage `json:"parameters"`
}

type floorAsk struct {
	Model    string         `json:"model"`
	Messages []floorMessage `json:"messages"`
	Tools    []floorTool    `json:"tools,omitempty"`
	Stream   bool           `json:"stream,omitempty"`
}

type floorUsage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

type floorChoice struct {
	Index        int          `json:"index"`
	Message      floorMessage `json:"message"`
	FinishReason string       `json:"finish_reason"`
}

type floorAnswer struct {
	ID      string        `json:"id"`
	Object  string        `json:"object"`
	Created int64         `json:"created"`
	Model   string        `json:"model"`
	Choices []floorChoice `json:"choices"`
	Usage   floorUsage    `json:"usage"`
}

func serveFloor(ctx context.Context, upstream string, out io.Writer) error {
	f := &floor{client: &http.Client{Transport: &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 128}}, upstream: upstream}
	resp, err := f.rpc(ctx, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"floor","version":"1"}}}`)
	if err != nil {
		return err
	}
	f.session = resp.Header.Get("Mcp-Session-Id")
	_ = resp.Body.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { f.chat(w, r, nil) })
	tools := []floorTool{{Type: "function", Function: floorFunction{Name: fullName, Description: "Lists the configs of a namespace.", Parameters: json.RawMessage(schema)}}}
	mux.HandleFunc("POST /tools/v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { f.chat(w, r, tools) })
	return serve(ctx, mux, out)
}

func (f *floor) chat(w http.ResponseWriter, r *http.Request, tools []floorTool) {
	var ask floorAsk
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ask.Model, ask.Tools = "stub", tools
	ask.Messages = append([]floorMessage{{Role: "system", Content: prompt(0)}}, ask.Messages...)
	if ask.Stream {
		f.stream(w, r, ask)
		return
	}
	var used floorUsage
	for range 10 {
		var got floorAnswer
		if err := f.model(r.Context(), ask, &got); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		used.Prompt += got.Usage.Prompt
		used.Completion += got.Usage.Completion
		used.Total += got.Usage.Total
		m := got.Choices[0].Message
		if len(m.ToolCalls) == 0 {
			got.Usage = used
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(got)
			return
		}
		ask.Messages = append(ask.Messages, m)
		for _, c := range m.ToolCalls {
			text, err := f.tool(r.Context(), c)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			ask.Messages = append(ask.Messages, floorMessage{Role: "tool", Content: text, CallID: c.ID})
		}
	}
	http.Error(w, "no answer", http.StatusBadGateway)
}

func (f *floor) post(ctx context.Context, ask floorAsk) (*http.Response, error) {
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.upstream+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := f.client.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		err = fmt.Errorf("the model answers %d", resp.StatusCode)
	}
	return resp, err
}

func (f *floor) model(ctx context.Context, ask floorAsk, into *floorAnswer) error {
	resp, err := f.post(ctx, ask)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil || len(into.Choices) == 0 {
		return fmt.Errorf("the model answers %q: %w", b, err)
	}
	return nil
}

// stream decodes each chunk and writes it anew, as an agent does that looks for tool calls in it.
func (f *floor) stream(w http.ResponseWriter, r *http.Request, ask floorAsk) {
	resp, err := f.post(r.Context(), ask)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	err = eachEvent(resp.Body, func(data []byte) error {
		var chunk struct {
			ID      string `json:"id"`
			Object  string `json:"object"`
			Created int64  `json:"created"`
			Model   string `json:"model"`
			Choices []struct {
				Index int `json:"index"`
				Delta struct {
					Content   string      `json:"content,omitempty"`
					ToolCalls []floorCall `json:"tool_calls,omitempty"`
				} `json:"delta"`
				FinishReason *string `json:"finish_reason"`
			} `json:"choices"`
			Usage *floorUsage `json:"usage,omitempty"`
		}
		if err := json.Unmarshal(data, &chunk); err != nil {
			return err
		}
		b, err := json.Marshal(chunk)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", b); err != nil {
			return err
		}
		return rc.Flush()
	})
	if err == nil {
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}
}

func (f *floor) rpc(ctx context.Context, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.upstream+"/mcp", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if f.session != "" {
		req.Header.Set("Mcp-Session-Id", f.session)
	}
	resp, err := f.client.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		err = fmt.Errorf("the MCP server answers %d", resp.StatusCode)
	}
	return resp, err
}

func (f *floor) tool(ctx context.Context, c floorCall) (string, error) {
	body, err := json.Marshal(map[string]any{
		"jsonrpc": "2.0", "id": 2, "method": "tools/call",
		"params": map[string]any{"name": strings.TrimPrefix(c.Function.Name, serverName+"__"), "arguments": json.RawMessage(c.Function.Arguments)},
	})
	if err != nil {
		return "", err
	}
	resp, err := f.rpc(ctx, string(body))
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var got struct {
		Result struct {
			Content []struct {
				Text string `json:"text"`
			} `json:"content"`
		} `json:"result"`
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(b, &got); err != nil || len(got.Result.Content) == 0 {
		return "", fmt.Errorf("the MCP server answers %q: %w", b, err)
	}
	return got.Result.Content[0].Text, nil
}
