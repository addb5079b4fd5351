package spec

import (
	"bytes"
	"encoding/json"
	"errors"
)

// MarshalJSON writes the shorter of the two forms; "<" and ">" stay as they are, for people read conditions.
func (a ApprovalTool) MarshalJSON() ([]byte, error) {
	if a.When == "" {
		return json.Marshal(a.Tool)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(struct {
		Tool string `json:"tool"`
		When string `json:"when"`
	}{a.Tool, a.When})
	return b.Bytes(), err
}

// UnmarshalJSON reads both forms, strictly but for what Check finds: an empty tool.
func (a *ApprovalTool) UnmarshalJSON(b []byte) error {
	*a = ApprovalTool{}
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &a.Tool)
	}
	var full struct {
		Tool string `json:"tool"`
		When string `json:"when"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&full); err != nil {
		return errors.New(`want "server/tool", "server", or {"tool": ..., "when": ...}`)
	}
	a.Tool, a.When = full.Tool, full.When
	return nil
}

// A2ASettings gives the settings of the A2A door, defaults included, and whether it is open. The default is open.
func (e *Expose) A2ASettings() (settings A2A, open bool) {
	settings = A2A{Streaming: new(true), Push: new(true)}
	if e == nil || len(e.A2A) == 0 {
		return settings, true
	}
	if err := json.Unmarshal(e.A2A, &open); err == nil {
		return settings, open
	}
	if err := json.Unmarshal(e.A2A, &settings); err != nil { // refused at apply
		return A2A{}, false
	}
	return settings, true
}

// setSigningKey keeps everything else as it is written.
func (e *Expose) setSigningKey(v Value) {
	var whole map[string]json.RawMessage
	key, err := json.Marshal(v)
	if err != nil || json.Unmarshal(e.A2A, &whole) != nil || whole == nil {
		return // only settings that hold a key have the place
	}
	whole["signingKey"] = key
	if raw, err := json.Marshal(whole); err == nil {
		e.A2A = raw
	}
}
