package openaimodel

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

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
	x := &exchange{}
	actx, cancel := context.WithTimeoutCause(ctx, m.cfg.Timeout, errTimeout)
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
	resp, err := m.send(ctx, x, m.embeddings, jsonType, body)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(&cappedBody{body: resp.Body, left: maxAnswer})
	if err != nil {
		return nil, err
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
