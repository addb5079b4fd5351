// Package secret keeps secrets from being printed, seals them at rest and redacts them from text.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what every printer shows instead of a secret.
const Redacted = "[redacted]"

// Value is a secret that no printer, encoder or logger shows. Only Reveal gives it. Compare with Equal: == compares
// pointers.
type Value struct {
	// A pointer, because fmt goes past Format for %p and for unexported fields: it then prints an address.
	p *string
}

// NewValue wraps a secret.
func NewValue(s string) Value {
	if s == "" {
		return Value{}
	}
	return Value{p: &s}
}

// Reveal gives the secret itself. Call it where the secret leaves for its one destination, nowhere else.
func (v Value) Reveal() string {
	if v.p == nil {
		return ""
	}
	return *v.p
}

// IsZero reports whether there is no secret.
func (v Value) IsZero() bool { return v.p == nil }

// Equal compares two secrets in constant time.
func (v Value) Equal(o Value) bool {
	return subtle.ConstantTimeCompare([]byte(v.Reveal()), []byte(o.Reveal())) == 1
}

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
