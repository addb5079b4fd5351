package view

import (
	"encoding/json"
	"fmt"

	"github.com/agentry/agentry/controlplane/store"
)

// Record is one of the stored shapes.
type Record interface {
	Cluster | AgentHead | PromptHead | MCPHead | CredentialHead | Applied | RefusalRecord | MoveRecord
}

// Encode gives the bytes to store: JSON, but for Applied (compacted). It panics on a time outside the years 0 to 9999, the only
// thing in a record that JSON can't hold.
func Encode[R Record](r R) []byte {
	if a, ok := any(r).(Applied); ok {
		return a.compacted()
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("view: encode %T: %v", r, err))
	}
	return b
}

// Decode reads stored bytes. Unknown fields are left out, so that a newer replica's record can be read.
// An agent's head is read with DecodeAgent.
func Decode[R Record](b []byte) (R, error) {
	var r R
	if a, ok := any(&r).(*Applied); ok && len(b) > 0 && b[0] == compactForm {
		var err error
		*a, err = expand(b)
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("decode %T: %w", r, err)
	}
	return r, nil
}

// DecodeAgent reads an agent's head. ResetHere comes back as the ResetGeneration it stands for, so that writing
// the head again doesn't move the reset.
func DecodeAgent(kv store.KV) (AgentHead, error) {
	h, err := Decode[AgentHead](kv.Value)
	if err != nil {
		return AgentHead{}, err
	}
	if h.ResetHere {
		h.ResetHere, h.ResetGeneration = false, kv.ModRevision
	}
	return h, nil
}
