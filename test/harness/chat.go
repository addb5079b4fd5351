package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Answer is one answer of the OpenAI-compatible door.
type Answer struct {
	Status   int
	Text     string
	Revision string // X-Agentry-Revision
	Config   string // X-Agentry-Config
	Body     string // of an error
}

// Chat asks one question, not streaming. session may be "".
func (a *Agent) Chat(ctx context.Context, session, text string) (Answer, error) {
	resp, err := a.post(ctx, session, text, false)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return Answer{}, err
	}
	ans := newAnswer(resp)
	if resp.StatusCode != http.StatusOK {
		ans.Body = string(b)
		return ans, fmt.Errorf("chat: %d: %s", resp.StatusCode, b)
	}
	var body struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
	}
	if err := json.Unmarshal(b, &body); err != nil || len(body.Choices) == 0 {
		return ans, fmt.Errorf("chat: not a chat completion: %s (%w)", b, err)
	}
	ans.Text = body.Choices[0].Message.Content
	return ans, nil
}

// ChatStream asks one question, streaming; each is called with every piece of text as it comes and may be nil.
func (a *Agent) ChatStream(ctx context.Context, session, text string, each func(string)) (Answer, error) {
	resp, err := a.post(ctx, session, text, true)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	ans := newAnswer(resp)
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		ans.Body = string(b)
		return ans, fmt.Errorf("chat: %d: %s", resp.StatusCode, b)
	}
	var all strings.Builder
	scan := bufio.NewScanner(resp.Body)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		data, ok := strings.CutPrefix(scan.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			ans.Text = all.String()
			return ans, nil
		}
		var chunk struct {
			Choices []struct {
				Delta struct {
					Content string `json:"content"`
				} `json:"delta"`
			} `json:"choices"`
			Error json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			return ans, fmt.Errorf("chat stream: %q: %w", data, err)
		}
		if len(chunk.Error) > 0 {
			return ans, fmt.Errorf("chat stream: error event: %s", chunk.Error)
		}
		for _, c := range chunk.Choices {
			all.WriteString(c.Delta.Content)
			if each != nil && c.Delta.Content != "" {
				each(c.Delta.Content)
			}
		}
	}
	return ans, fmt.Errorf("chat stream ended without [DONE] after %q (%w)", all.String(), scan.Err())
}

func (a *Agent) post(ctx context.Context, session, text string, stream bool) (*http.Response, error) {
	body, err := json.Marshal(map[string]any{
		"model": a.Agent, "stream": stream,
		"messages": []map[string]string{{"role": "user", "content": text}},
	})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL()+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if session != "" {
		req.Header.Set("X-Session-Id", session)
	}
	return plain().Do(req)
}

func newAnswer(resp *http.Response) Answer {
	return Answer{Status: resp.StatusCode, Revision: resp.Header.Get("X-Agentry-Revision"), Config: resp.Header.Get("X-Agentry-Config")}
}
