package app

import (
	"cmp"
	"log/slog"
	"maps"

	"github.com/agentry/agentry/agentd/assembler"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/model/fallback"
	"github.com/agentry/agentry/agentd/model/openaimodel"
	"github.com/agentry/agentry/internal/spec"
)

// models makes clients of OpenAI-compatible endpoints, which share connections.
type models struct {
	transports *openaimodel.Transports
	log        *slog.Logger
}

var _ assembler.ModelFactory = models{}

// NewModel makes one client, or one for the model and each of its fallbacks.
func (f models) NewModel(s assembler.ModelSettings) (model.Model, error) {
	specs := endpoints(s)
	cfg := fallback.Config{Log: f.log}
	var made []closingModel
	for i, m := range specs {
		c, err := f.client(m, s.Credentials, i < len(specs)-1)
		if err != nil {
			for _, c := range made {
				c.Model.Close()
			}
			return nil, err
		}
		made = append(made, c)
		cfg.Endpoints = append(cfg.Endpoints, fallback.Endpoint{Name: m.Model, Model: c})
	}
	if len(made) == 1 {
		return made[0], nil
	}
	return fallback.New(cfg)
}

// endpoints gives the model and its fallbacks, each with its effective base URL. A fallback without one is asked where the model is, with
// the model's key and headers unless it has its own; another address gets what is written at the fallback only. An operator's override of
// the address holds for all.
func endpoints(s assembler.ModelSettings) []spec.Model {
	first := s.Spec
	override := spec.EffectiveBaseURL(first.BaseURL) != s.BaseURL
	first.BaseURL, first.Fallbacks = s.BaseURL, nil
	out := []spec.Model{first}
	for _, m := range s.Spec.Fallbacks {
		if m.BaseURL == "" {
			if m.APIKey.IsZero() {
				m.APIKey = first.APIKey
			}
			headers := maps.Clone(first.Headers)
			if headers == nil {
				headers = m.Headers
			} else {
				maps.Copy(headers, m.Headers)
			}
			m.Headers = headers
		}
		if override {
			m.BaseURL = ""
		}
		m.BaseURL = cmp.Or(spec.EffectiveBaseURL(m.BaseURL), s.BaseURL)
		out = append(out, m)
	}
	return out
}

// client makes a client of one endpoint; standby says that another is asked when it fails.
func (f models) client(m spec.Model, credentials assembler.Credentials, standby bool) (closingModel, error) {
	cfg := openaimodel.Config{
		Model: m.Model, BaseURL: m.BaseURL, API: openaimodel.API(m.API), Headers: values(m.Headers, credentials),
		Temperature: m.Temperature, TopP: m.TopP, MaxTokens: m.MaxTokens, Stop: m.Stop, Seed: m.Seed,
		ExtraBody: m.ExtraBody, SendMetadata: m.SendMetadata, Timeout: m.Timeout.Std(), Standby: standby, Transports: f.transports,
	}
	if !m.APIKey.IsZero() {
		cfg.APIKey = value(m.APIKey, credentials)
	}
	if m.Retry != nil {
		cfg.Attempts, cfg.Backoff = m.Retry.Attempts, m.Retry.Backoff.Std()
	}
	if m.Price != nil {
		cfg.Price = openaimodel.Price{Input: m.Price.Input, Output: m.Price.Output}
	}
	c, err := openaimodel.New(cfg)
	if err != nil {
		return closingModel{}, err
	}
	return closingModel{c}, nil
}

// closingModel lets the pool end a client.
type closingModel struct{ *openaimodel.Model }

// Close gives the shared connections back.
func (m closingModel) Close() error {
	m.Model.Close()
	return nil
}
