package openaidoor

import (
	"encoding/json"
	"regexp"

	"github.com/agentry/agentry/agentd/model"
)

// schemaName is what OpenAI takes for a schema's name.
var schemaName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// responseFormat is text, json_object, or json_schema with a schema. The model sees to it; the door judges the form only.
type responseFormat struct {
	Type       string `json:"type"`
	JSONSchema *struct {
		Name   string          `json:"name"`
		Schema json.RawMessage `json:"schema"`
		Strict *bool           `json:"strict"`
	} `json:"json_schema"`
}

func (f *responseFormat) check() *inputError {
	if f == nil {
		return nil
	}
	switch f.Type {
	case "", "text", "json_object":
		return nil
	case "json_schema":
	default:
		return bad("response_format.type", "response_format.type: %q (text, json_object or json_schema)", f.Type)
	}
	s := f.JSONSchema
	switch {
	case s == nil:
		return bad("response_format.json_schema", "response_format.json_schema is missing")
	case !schemaName.MatchString(s.Name):
		return bad("response_format.json_schema.name", "response_format.json_schema.name: %q (1 to 64 letters, digits, _ and -)", s.Name)
	case len(s.Schema) > 0 && s.Schema[0] != '{' && string(s.Schema) != "null":
		return bad("response_format.json_schema.schema", "response_format.json_schema.schema: want an object")
	}
	return nil
}

// format gives the checked format.
func (f *responseFormat) format() model.ResponseFormat {
	switch {
	case f == nil || f.Type == "" || f.Type == "text":
		return model.ResponseFormat{}
	case f.Type == "json_schema" && f.JSONSchema != nil:
		s := f.JSONSchema
		if string(s.Schema) == "null" {
			s.Schema = nil
		}
		return model.ResponseFormat{Type: f.Type, Name: s.Name, Schema: s.Schema, Strict: s.Strict}
	default:
		return model.ResponseFormat{Type: f.Type}
	}
}
