package spec

import (
	"bytes"
	"encoding/json"
	"errors"
)

// MarshalJSON writes the shorter of the two forms.
func (a ApprovalTool) MarshalJSON() ([]byte, error) {
	if a.When == "" {
		return json.Marshal(a.Tool)
	}
	return json.Marshal(struct {
		Tool string `json:"tool"`
		When string `json:"when"`
	}{a.Tool, a.When})
}

// UnmarshalJSON reads both forms, strictly.
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
	if err := d.Decode(&full); err != nil || full.Tool == "" {
		return errors.New(`want "server/tool", "server", or {"tool": ..., "when": ...}`)
	}
	a.Tool, a.When = full.Tool, full.When
	return nil
}

// A2ASettings gives the settings of the A2A door and whether it is open. The default is open, with the defaults.
func (e *Expose) A2ASettings() (settings A2A, open bool) {
	if e == nil || len(e.A2A) == 0 {
		return A2A{}, true
	}
	var on bool
	if err := json.Unmarshal(e.A2A, &on); err == nil {
		return A2A{}, on
	}
	if err := json.Unmarshal(e.A2A, &settings); err != nil { // refused at apply
		return A2A{}, false
	}
	return settings, true
}
