package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const wantValue = `want a string or {"credentialRef": "name"}`

// Value is the value of a key, a header or a query parameter: a literal, or a reference to a credential.
// Its JSON is a string or {"credentialRef": "name"}. In a stored spec every secret is a reference.
type Value struct {
	Literal string
	Ref     string
}

// IsZero reports whether no value is given; encoding/json's omitzero uses it.
func (v Value) IsZero() bool { return v == Value{} }

// MarshalJSON writes the canonical form.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.Ref != "" {
		return json.Marshal(map[string]string{"credentialRef": v.Ref})
	}
	return json.Marshal(v.Literal)
}

// UnmarshalJSON reads the canonical form only; "${credential:name}" is an import reading (package specfile).
func (v *Value) UnmarshalJSON(b []byte) error {
	*v = Value{}
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &v.Literal)
	}
	var ref map[string]string
	if err := json.Unmarshal(b, &ref); err != nil || len(ref) != 1 || ref["credentialRef"] == "" {
		return errors.New(wantValue)
	}
	v.Ref = ref["credentialRef"]
	return nil
}

// Duration is a time.Duration whose JSON is a Go duration string such as "30s".
type Duration time.Duration

// Std gives the time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// MarshalText writes the shortest Go form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a Go duration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("want a duration such as \"30s\": %w", err)
	}
	*d = Duration(v)
	return nil
}
