package app

import (
	"context"
	"errors"
	"log/slog"

	"go.opentelemetry.io/otel/propagation"

	"github.com/agentry/agentry/agentd/assembler"
	"github.com/agentry/agentry/agentd/tool/mcptool"
	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
)

// servers makes clients of MCP servers over streamable HTTP.
type servers struct {
	guard      *egress.Guard
	propagator propagation.TextMapPropagator
	log        *slog.Logger
}

var _ assembler.ServerFactory = servers{}

// NewServer makes one client; Connect starts it.
func (f servers) NewServer(s assembler.ServerSettings) (assembler.Server, error) {
	cfg := mcptool.Config{
		Name: s.Ref.MCPServerName, ProtocolVersion: s.Ref.ProtocolVersion, Timeout: s.Ref.Timeout.Std(),
		Headers: values(s.Ref.Headers, s.Credentials), Query: values(s.Ref.QueryParams, s.Credentials),
		Egress: f.guard, OnChange: s.Changed, Propagator: f.propagator, Log: f.log,
	}
	if cfg.ProtocolVersion == "" {
		cfg.ProtocolVersion = s.Entry.ProtocolVersion
	}
	for _, e := range s.Entry.Endpoints {
		cfg.Endpoints = append(cfg.Endpoints, mcptool.Endpoint{URL: e.URL, Weight: e.Weight})
	}
	c, err := mcptool.New(cfg)
	if err != nil {
		return nil, err
	}
	return server{c}, nil
}

// server is an MCP client as the assembler sees it.
type server struct{ client *mcptool.Server }

// Connect starts supervision and waits for the first attempt.
func (s server) Connect(ctx context.Context) error {
	s.client.Start()
	err := s.client.Probe(ctx)
	if err == nil {
		return nil
	}
	out := &assembler.ServerError{Code: phase.Unreachable, Err: err}
	var known *mcptool.Error
	if errors.As(err, &known) {
		out.Code = known.Code
	}
	return out
}

// State gives health and tools.
func (s server) State() assembler.ServerState {
	h := s.client.Health()
	st := assembler.ServerState{Healthy: h.Healthy, Code: h.Code, Message: h.Err}
	if !h.Healthy {
		return st
	}
	for _, t := range s.client.Tools() {
		d, ok := t.(interface{ Digest() string })
		if !ok {
			continue // every tool of mcptool has one
		}
		st.Tools = append(st.Tools, assembler.ServerTool{Tool: t, Digest: d.Digest()})
	}
	return st
}

// Close ends supervision.
func (s server) Close() error {
	s.client.Close()
	return nil
}

// values resolves a map of header or query values at call time.
func values(in map[string]spec.Value, c assembler.Credentials) map[string]func() secret.Value {
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]func() secret.Value, len(in))
	for name, v := range in {
		out[name] = value(v, c)
	}
	return out
}

func value(v spec.Value, c assembler.Credentials) func() secret.Value {
	if v.Ref == "" {
		literal := secret.NewValue(v.Literal)
		return func() secret.Value { return literal }
	}
	return func() secret.Value {
		s, _ := c(v.Ref)
		return s
	}
}

// signingKey judges the key of the A2A card.
func signingKey(key secret.Value) error {
	_, err := a2a.NewSigner([]byte(key.Reveal()))
	return err
}
