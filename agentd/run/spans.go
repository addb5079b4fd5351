package run

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/telemetry"
)

// Spans carry names, counts and codes. Never content, arguments, results or an endpoint's own words.

func (r *Runner) invokeSpan(ctx context.Context, t *Turn) (context.Context, trace.Span) {
	ctx, span := r.tracer.Start(ctx, telemetry.OpInvokeAgent+" "+t.Agent, trace.WithSpanKind(trace.SpanKindServer))
	if !span.IsRecording() {
		return ctx, span
	}
	attrs := append(r.identity(t.rt),
		attribute.String(telemetry.GenAIOperation, telemetry.OpInvokeAgent),
		attribute.String(telemetry.GenAIPromptName, t.rt.PromptKey),
		attribute.String(telemetry.AgentryPromptKey, t.rt.PromptKey),
		attribute.String(telemetry.AgentryPromptVersion, t.rt.PromptVersion))
	if t.req.Session != "" {
		attrs = append(attrs, attribute.String(telemetry.GenAIConversation, t.req.Session))
	}
	span.SetAttributes(attrs...)
	return ctx, span
}

func (r *Runner) identity(rt *Runtime) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String(telemetry.GenAIAgentName, rt.Agent),
		attribute.String(telemetry.AgentryNamespace, rt.Namespace),
		attribute.Int64(telemetry.AgentryRevision, rt.Revision),
		attribute.String(telemetry.AgentryConfig, rt.Config),
		attribute.String(telemetry.AgentryInstance, r.cfg.Instance),
	}
}

func endInvoke(span trace.Span, res engine.Result, err error) {
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(
		attribute.Int64(telemetry.GenAIInputTokens, res.Usage.Input),
		attribute.Int64(telemetry.GenAIOutputTokens, res.Usage.Output),
		attribute.Bool(telemetry.AgentryUsageGuessed, res.Usage.Estimated),
	)
	var e *Error
	if errors.As(err, &e) {
		span.SetAttributes(attribute.String(telemetry.ErrorType, e.Code))
		span.SetStatus(codes.Error, e.Code)
	}
}

func (r *Runner) chatSpan(ctx context.Context, rt *Runtime, iteration int) (context.Context, trace.Span) {
	ctx, span := r.tracer.Start(ctx, telemetry.OpChat+" "+rt.ModelName, trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(append(r.identity(rt),
			attribute.String(telemetry.GenAIOperation, telemetry.OpChat),
			attribute.String(telemetry.GenAIProvider, telemetry.ProviderOpenAI),
			attribute.String(telemetry.GenAIRequestModel, rt.ModelName),
			attribute.Int(telemetry.AgentryIteration, iteration))...)
	}
	return ctx, span
}

func endChat(span trace.Span, modelID string, a engine.Answered, err error) {
	defer span.End()
	if !span.IsRecording() {
		return
	}
	if err != nil {
		code := asModelError(err).Code
		span.SetAttributes(attribute.String(telemetry.ErrorType, code))
		span.SetStatus(codes.Error, code)
		return
	}
	span.SetAttributes(
		attribute.String(telemetry.GenAIResponseModel, modelID),
		attribute.StringSlice(telemetry.GenAIFinishReasons, []string{a.FinishReason}),
		attribute.Int64(telemetry.GenAIInputTokens, a.Usage.Input),
		attribute.Int64(telemetry.GenAIOutputTokens, a.Usage.Output),
		attribute.Bool(telemetry.AgentryUsageGuessed, a.Usage.Estimated),
	)
}

func (r *Runner) toolSpan(ctx context.Context, s tool.Spec, callID string) (context.Context, trace.Span) {
	ctx, span := r.tracer.Start(ctx, telemetry.OpExecuteTool+" "+s.Name, trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String(telemetry.GenAIOperation, telemetry.OpExecuteTool),
			attribute.String(telemetry.GenAIToolName, s.Tool),
			attribute.String(telemetry.GenAIToolCallID, callID),
			attribute.String(telemetry.AgentryMCPServer, s.Server),
			attribute.String(telemetry.AgentryInstance, r.cfg.Instance))
	}
	return ctx, span
}

func endTool(span trace.Span, isError bool, err error) {
	if span.IsRecording() && (isError || err != nil) {
		kind := "tool_error"
		if err != nil {
			kind = "unreachable"
		}
		span.SetAttributes(attribute.String(telemetry.ErrorType, kind))
		span.SetStatus(codes.Error, kind)
	}
	span.End()
}
