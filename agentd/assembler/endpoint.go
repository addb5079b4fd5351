package assembler

import (
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/tokens"
)

// endpoint is a model client with what was learnt of how it counts tokens.
type endpoint struct {
	model.Model

	calibrator *tokens.Calibrator
}

// Close ends the client, where it can be ended.
func (e endpoint) Close() error {
	closeIfCloser(e.Model)
	return nil
}

// embedder gives the endpoint's embeddings; nil: it has none.
func (s *set) embedder() model.Embedder {
	if s.model == nil {
		return nil
	}
	e, _ := s.model.value.Model.(model.Embedder)
	return e
}
