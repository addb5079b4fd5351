package spec

import (
	"encoding/json"
	"fmt"
)

// Schema gives the JSON Schema (draft 2020-12) of a kind as indented JSON, made from the table that also checks; x-effect says
// from when a changed field counts.
func Schema(kind string) ([]byte, error) {
	fields := Fields(kind)
	if fields == nil {
		return nil, fmt.Errorf("no schema %q", kind)
	}
	s := objectSchema(fields)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = kind
	if p, ok := s["properties"].(map[string]any); ok {
		p["$schema"] = map[string]any{"type": "string", "description": "For editors; not kept."}
	}
	switch kind {
	case KindPrompt:
		widenVariables(s)
	case KindMemory:
		widenCredential(s)
	}
	return json.MarshalIndent(s, "", "  ")
}

func objectSchema(fields []Field) map[string]any {
	properties := map[string]any{}
	var required []string
	for _, f := range fields {
		properties[f.Name] = f.schema()
		if f.Required {
			required = append(required, f.Name)
		}
	}
	s := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

func (f Field) schema() map[string]any {
	s := f.shape()
	if f.Description != "" {
		s["description"] = f.Description
	}
	if f.Default != "" {
		s["default"] = json.RawMessage(f.Default)
	}
	if f.Min != nil {
		s["minimum"] = *f.Min
	}
	if f.Max != nil {
		s["maximum"] = *f.Max
	}
	if len(f.Enum) > 0 {
		s["enum"] = f.Enum
	}
	if p := f.Rule.pattern(); p != "" {
		s["pattern"] = p
	}
	if f.Name != "" {
		s["x-effect"] = string(f.Effect)
	}
	return s
}

func (f Field) shape() map[string]any {
	switch f.Type {
	case TypeObject:
		return f.objectShape()
	case TypeMap:
		s := map[string]any{"type": "object", "additionalProperties": f.Item.schema()}
		if p := f.Keys.pattern(); p != "" {
			s["propertyNames"] = map[string]any{"pattern": p}
		}
		if f.MaxItems > 0 {
			s["maxProperties"] = f.MaxItems
		}
		return s
	case TypeList:
		s := map[string]any{"type": "array", "items": f.Item.schema()}
		if f.MaxItems > 0 {
			s["maxItems"] = f.MaxItems
		}
		return s
	case TypeDuration:
		return map[string]any{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}
	case TypeValue:
		return map[string]any{"oneOf": []any{
			map[string]any{"type": "string"},
			map[string]any{
				"type": "object", "additionalProperties": false, "required": []string{"credentialRef"},
				"properties": map[string]any{"credentialRef": map[string]any{"type": "string", "pattern": nameRule.String()}},
			},
		}}
	case TypeAny:
		return map[string]any{}
	default:
		return map[string]any{"type": string(f.Type)}
	}
}

// objectShape gives an object's schema with the shorter forms that may stand in its place.
func (f Field) objectShape() map[string]any {
	s := objectSchema(f.Fields)
	if f.Switch {
		return map[string]any{"oneOf": []any{map[string]any{"type": "boolean"}, s}}
	}
	if short, ok := find(f.Fields, f.Short); ok {
		alone := map[string]any{"type": "string"}
		if p := short.Rule.pattern(); p != "" {
			alone["pattern"] = p
		}
		return map[string]any{"oneOf": []any{alone, s}}
	}
	return s
}

// widenVariables lets a variable be its default alone.
func widenVariables(s map[string]any) {
	properties, _ := s["properties"].(map[string]any)
	vars, _ := properties["variables"].(map[string]any)
	if vars != nil {
		vars["additionalProperties"] = map[string]any{"oneOf": []any{
			map[string]any{"type": []string{"string", "number", "boolean"}}, vars["additionalProperties"],
		}}
	}
}

// widenCredential lets a credential be an object of username and password.
func widenCredential(s map[string]any) {
	properties, _ := s["properties"].(map[string]any)
	credential, _ := properties["credential"].(map[string]any)
	if one, ok := credential["oneOf"].([]any); ok {
		credential["oneOf"] = append(one, map[string]any{
			"type": "object", "additionalProperties": false, "minProperties": 1,
			"properties": map[string]any{"username": map[string]any{"type": "string"}, "password": map[string]any{"type": "string"}},
		})
	}
}
