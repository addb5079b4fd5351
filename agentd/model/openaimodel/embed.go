package openaimodel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	openai "github.com/sashabaranov/go-openai"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
)

// embedBatch is how many texts one request carries: some endpoints take no more than ten.
const embedBatch = 10

var _ model.Embedder = (*Model)(nil)

// Embed gives one vector for each text, in order, by POST /embeddings at the endpoint: in batches, each within the model's Timeout and
// tried again like a chat call. The error is a *model.Error unless ctx ended. See model.Embedder.
func (m *Model) Embed(ctx context.Context, name string, texts []string) ([][]float32, error) {
	if name == "" {
		return nil, errs.New(errs.Invalid, "embeddings: no model is named")
	}
	out := make([][]float32, 0, len(texts))
	for len(texts) > 0 {
		n := min(len(texts), embedBatch)
		vectors, err := m.embedBatch(ctx, name, texts[:n])
		if err != nil {
			return nil, err
		}
		if len(out) > 0 && len(out[0]) != len(vectors[0]) {
			return nil, &model.Error{Code: string(phase.Invalid), Message: fmt.Sprintf("embeddings of %d and of %d numbers in one answer", len(out[0]), len(vectors[0]))}
		}
		out = append(out, vectors...)
		texts = texts[n:]
	}
	return out, nil
}

// embedBatch asks until it's answered, as often as a chat call is.
func (m *Model) embedBatch(ctx context.Context, name string, texts []string) ([][]float32, error) {
	var attempts []model.Attempt
	for n := 1; ; n++ {
		started := time.Now()
		vectors, fail := m.embedOnce(ctx, name, texts)
		if fail == nil {
			return vectors, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		fail.message = m.scrub(fail.message)
		attempts = append(attempts, model.Attempt{Model: name, Status: fail.status, Err: fail.message, Elapsed: time.Since(started)})
		wait, again := m.wait(n, fail)
		if !again || tooLate(ctx, wait) {
			return nil, &model.Error{Code: fail.code, Message: fail.message, Attempts: attempts, RetryAfter: fail.retryAfter}
		}
		if !pause(ctx, wait) {
			return nil, context.Cause(ctx)
		}
	}
}

func (m *Model) embedOnce(ctx context.Context, name string, texts []string) ([][]float32, *failure) {
	x := &exchange{whole: true}
	actx, cancel := context.WithTimeoutCause(withExchange(ctx, x), m.cfg.Timeout, errTimeout)
	defer cancel()
	vectors, err := m.embed(actx, x, name, texts)
	if err != nil {
		return nil, classify(actx, x, err)
	}
	return vectors, nil
}

func (m *Model) embed(ctx context.Context, x *exchange, name string, texts []string) ([][]float32, error) {
	body, err := json.Marshal(struct {
		Model  string   `json:"model"`
		Input  []string `json:"input"`
		Format string   `json:"encoding_format"`
	}{name, texts, "float"})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.base+"/embeddings", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := m.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, statusError(x.status, raw)
	}
	return vectorsOf(raw, len(texts))
}

// vectorsOf reads an answer: want vectors of one length, each in its text's place.
func vectorsOf(raw []byte, want int) ([][]float32, error) {
	var in struct {
		Data []struct {
			Index     *int      `json:"index"`
			Embedding []float32 `json:"embedding"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, &protocolError{"embeddings: " + err.Error()}
	}
	if len(in.Data) != want {
		return nil, &protocolError{fmt.Sprintf("%d embeddings for %d texts", len(in.Data), want)}
	}
	out := make([][]float32, want)
	for i, d := range in.Data {
		at := i
		if d.Index != nil {
			at = *d.Index
		}
		switch {
		case at < 0 || at >= want || out[at] != nil:
			return nil, &protocolError{fmt.Sprintf("embeddings: index %d twice or out of range", at)}
		case len(d.Embedding) == 0 || len(d.Embedding) != len(in.Data[0].Embedding):
			return nil, &protocolError{"embeddings of different lengths"}
		}
		out[at] = d.Embedding
	}
	return out, nil
}

// statusError gives an error answer's text.
func statusError(status int, raw []byte) error {
	var in struct {
		Error json.RawMessage `json:"error"`
	}
	var said struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Code    any    `json:"code"`
	}
	if json.Unmarshal(raw, &in) == nil && json.Unmarshal(in.Error, &said) == nil && said.Message != "" {
		return &openai.APIError{HTTPStatusCode: status, Message: said.Message, Type: said.Type, Code: said.Code}
	}
	return &openai.RequestError{HTTPStatusCode: status, Body: raw, Err: errors.New("refused")}
}
