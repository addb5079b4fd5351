// Package secret keeps secrets from being printed, seals them at rest and redacts them from text.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what every printer shows instead of a secret.
const Redacted = "[redacted]"

// Value is a secret that no printer, encoder or logger shows. Only Reveal gives it.
type Value struct{ s string }

// NewValue wraps a secret.
func NewValue(s string) Value { return Value{s: s} }

// Reveal gives the secret itself. Call it where the secret leaves for its one destination, nowhere else.
func (v Value) Reveal() string { return v.s }

// IsZero reports whether there is no secret.
func (v Value) IsZero() bool { return v.s == "" }

// String hides it.
func (Value) String() string { return Redacted }

// GoString hides it.
func (Value) GoString() string { return Redacted }

// Format hides it from every verb.
func (Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue hides it from slog.
func (Value) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText hides it from encoders.
func (Value) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// MarshalJSON hides it from encoding/json.
func (Value) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }
