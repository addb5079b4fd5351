package openaimodel

import (
	"net/http"
	"strings"
	"sync/atomic"
)

// quirks is what an endpoint taught by refusing a request: each is learnt once, and the request is sent again in the other way.
type quirks struct {
	completionTokens atomic.Bool // wants max_completion_tokens in place of max_tokens
	reasoning        atomic.Bool // wants reasoning_content with every tool call, even an empty one
	signature        atomic.Bool // wants a signature with every tool call
	plain            atomic.Bool // of the Responses API: gives no encrypted reasoning, or doesn't take it back
}

// noSignature is what Gemini takes for the signature of a call that it didn't make, or whose signature was lost.
const noSignature = `{"google":{"thought_signature":"skip_thought_signature_validator"}}`

// learn reads a refusal; true: send the request again.
func (m *Model) learn(f *failure) bool {
	q := &m.quirks
	if f.status != http.StatusBadRequest {
		return false
	}
	switch {
	case m.responses:
		return strings.Contains(strings.ToLower(f.message), "encrypted") && q.plain.CompareAndSwap(false, true)
	case strings.Contains(f.message, "max_completion_tokens") && strings.Contains(f.message, "max_tokens"):
		return q.completionTokens.CompareAndSwap(false, true)
	case strings.Contains(f.message, "reasoning_content"):
		return q.reasoning.CompareAndSwap(false, true)
	case strings.Contains(f.message, "thought_signature"):
		return q.signature.CompareAndSwap(false, true)
	default:
		return false
	}
}
