package a2a

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/gowebpki/jcs"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// MaxCard bounds a card that is read, in bytes.
const MaxCard = 1 << 20

// Canonical gives the bytes of a card that its signatures are over (8.4.1): without the signatures, without fields at their default that are neither
// required nor optional by the proto, by RFC 8785. What isn't I-JSON is refused: two readers could take it for two cards.
func Canonical(card []byte) ([]byte, error) {
	if len(card) > MaxCard {
		return nil, fmt.Errorf("the card is larger than %d bytes", MaxCard)
	}
	if !jsontext.Value(card).IsValid() { // duplicate names and broken UTF-8 are not
		return nil, errors.New("the card is no I-JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(card))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		return nil, errors.New("the card is no JSON object")
	}
	if m == nil {
		return nil, errors.New("the card is no JSON object")
	}
	delete(m, "signatures")
	stripped := strip(m, (&pb.AgentCard{}).ProtoReflect().Descriptor())
	b, err := json.Marshal(stripped)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(b)
}

// Lean gives the bytes that the verifiers of @a2a-js/sdk 1.3 and of the Python SDK compute instead of Canonical: without what is empty anywhere, even where that
// says something, as {"bearer": {}} in a security requirement does. Nothing is verified by it here: a card may differ in more ways and still fit.
func Lean(card []byte) ([]byte, error) {
	canonical, err := Canonical(card)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(canonical))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if v = lean(v); v == nil {
		v = map[string]any{}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(b)
}

// lean gives what stays of a value; nil: nothing.
func lean(v any) any {
	switch v := v.(type) {
	case string:
		if v == "" {
			return nil
		}
	case []any:
		kept := make([]any, 0, len(v))
		for _, inner := range v {
			if inner = lean(inner); inner != nil {
				kept = append(kept, inner)
			}
		}
		if len(kept) == 0 {
			return nil
		}
		return kept
	case map[string]any:
		kept := make(map[string]any, len(v))
		for name, inner := range v {
			if inner = lean(inner); inner != nil {
				kept[name] = inner
			}
		}
		if len(kept) == 0 {
			return nil
		}
		return kept
	}
	return v
}

// strip takes off what is at its default. Names that the descriptor doesn't know stay: if they weren't signed, no signature fits.
func strip(m map[string]any, d protoreflect.MessageDescriptor) map[string]any {
	out := make(map[string]any, len(m))
	for name, v := range m {
		f := d.Fields().ByJSONName(name)
		if f == nil {
			f = d.Fields().ByTextName(name)
		}
		if f == nil {
			out[name] = v
			continue
		}
		if v = stripField(v, f); v != nil {
			out[name] = v
		}
	}
	return out
}

// stripField gives what stays of a field's value; nil: nothing.
func stripField(v any, f protoreflect.FieldDescriptor) any {
	switch {
	case v == nil:
		return nil
	case f.Message() != nil && f.Message().FullName().Parent() == "google.protobuf": // JSON of its own
		return v
	case f.IsMap():
		of, ok := v.(map[string]any)
		if ok && f.MapValue().Message() != nil {
			kept := make(map[string]any, len(of))
			for k, inner := range of {
				kept[k] = stripMessage(inner, f.MapValue().Message())
			}
			v = kept
		}
		return unlessEmpty(v, ok && len(of) == 0, f)
	case f.IsList():
		of, ok := v.([]any)
		if ok && f.Message() != nil {
			kept := make([]any, len(of))
			for i, inner := range of {
				kept[i] = stripMessage(inner, f.Message())
			}
			v = kept
		}
		return unlessEmpty(v, ok && len(of) == 0, f)
	case f.Message() != nil:
		return stripMessage(v, f.Message())
	default:
		return unlessEmpty(v, zero(v), f)
	}
}

func stripMessage(v any, d protoreflect.MessageDescriptor) any {
	if m, ok := v.(map[string]any); ok {
		return strip(m, d)
	}
	return v
}

func unlessEmpty(v any, empty bool, f protoreflect.FieldDescriptor) any {
	if empty && !f.HasPresence() && !required(f) {
		return nil
	}
	return v
}

func zero(v any) bool {
	switch v := v.(type) {
	case string:
		return v == ""
	case bool:
		return !v
	case json.Number:
		return strings.Trim(v.String(), "-0.") == ""
	default:
		return false
	}
}

func required(f protoreflect.FieldDescriptor) bool {
	behaviors, _ := proto.GetExtension(f.Options(), annotations.E_FieldBehavior).([]annotations.FieldBehavior)
	return slices.Contains(behaviors, annotations.FieldBehavior_REQUIRED)
}
