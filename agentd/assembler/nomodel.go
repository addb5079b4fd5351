package assembler

import (
	"context"
	"iter"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/phase"
)

// noModel answers for an agent without a model endpoint.
type noModel struct{}

// Generate fails with a typed error.
func (noModel) Generate(context.Context, model.Request) iter.Seq2[model.Chunk, error] {
	return func(yield func(model.Chunk, error) bool) {
		yield(model.Chunk{}, &model.Error{
			Code:    string(phase.NotSupported),
			Message: "no model endpoint is configured: set model.baseUrl in the spec, or start agentd with --model-base-url",
		})
	}
}
