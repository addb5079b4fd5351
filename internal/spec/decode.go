package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/gowebpki/jcs"
)

// Canonical gives the RFC 8785 bytes of v. A whole number beyond 2^53 is refused.
func Canonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	if err := exactNumbers(raw); err != nil {
		return nil, err
	}
	out, err := jcs.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	return out, nil
}

func exactNumbers(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		if n, ok := t.(json.Number); ok {
			if err := exactNumber(n.String()); err != nil {
				return err
			}
		}
	}
}

// DecodeAgent reads the canonical bytes of an agent's revision, strictly: an unknown field, a wrong type or a missing
// required field is an error that names it. Ranges were checked at apply.
func DecodeAgent(b []byte) (*Agent, error) { return decode[Agent](b, KindAgent, agentFields()) }

// DecodePrompt reads the canonical bytes of a prompt's version, strictly.
func DecodePrompt(b []byte) (*Prompt, error) {
	return decode[Prompt](b, KindPrompt, promptFields(false))
}

// DecodeMCPServer reads the canonical bytes of an MCP entry's version, strictly.
func DecodeMCPServer(b []byte) (*MCPServer, error) {
	return decode[MCPServer](b, KindMCP, mcpFields(false))
}

// DecodePolicy reads the canonical bytes of a policy, strictly.
func DecodePolicy(b []byte) (*Policy, error) { return decode[Policy](b, "policy", policyFields()) }

func decode[T any](b []byte, kind string, fields []Field) (*T, error) {
	doc, err := generic(b)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", kind, err)
	}
	if _, faults := Check(doc, fields); len(faults) > 0 {
		return nil, fmt.Errorf("decode %s: %w", kind, FaultsError(faults))
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("decode %s: %w", kind, err)
	}
	return v, nil
}

// generic reads exactly one JSON object.
func generic(b []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var doc map[string]any
	if err := d.Decode(&doc); err != nil {
		return nil, err
	}
	if doc == nil {
		return nil, errors.New("null is no object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return doc, nil
}

// fromDoc turns a document that Check has cleaned into a T.
func fromDoc[T any](clean map[string]any) (T, error) {
	var v T
	raw, err := json.Marshal(clean)
	if err != nil {
		return v, fmt.Errorf("encode: %w", err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, fmt.Errorf("decode: %w", err)
	}
	return v, nil
}
