package v03

import (
	"bytes"
	"encoding/json"

	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/internal/a2a"
)

// MarshalProto gives the JSON of a message of the proto, with the names that 0.3.0 had: the parts of a message were its content.
func MarshalProto(m proto.Message) (json.RawMessage, error) {
	b, err := a2a.Marshal(m)
	if err != nil {
		return nil, err
	}
	return renamed(b, "parts", "content")
}

// UnmarshalProto reads such JSON; parts may be called so, too. Unknown members are left out.
func UnmarshalProto(b []byte, m proto.Message) error {
	b, err := renamed(b, "content", "parts")
	if err != nil {
		return err
	}
	return a2a.Unmarshal(b, m)
}

// renamed renames one member of the messages in an object.
func renamed(b []byte, from, to string) (json.RawMessage, error) {
	var root map[string]any
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber() // numbers are handed on as they are
	if err := dec.Decode(&root); err != nil {
		return nil, err
	}
	rename(root, from, to)
	return json.Marshal(root)
}

// rename goes where messages are, and nowhere else: what callers put into metadata and data is theirs.
func rename(in any, from, to string) {
	switch v := in.(type) {
	case []any:
		for _, e := range v {
			rename(e, from, to)
		}
	case map[string]any:
		for _, name := range []string{"task", "tasks", "statusUpdate", "status_update", "status"} {
			rename(v[name], from, to)
		}
		for _, name := range []string{"message", "msg", "request", "update"} {
			renameIn(v[name], from, to)
		}
		if all, ok := v["history"].([]any); ok {
			for _, e := range all {
				renameIn(e, from, to)
			}
		}
	}
}

func renameIn(in any, from, to string) {
	m, ok := in.(map[string]any)
	if !ok {
		return
	}
	if parts, ok := m[from].([]any); ok {
		if _, taken := m[to]; !taken {
			delete(m, from)
			m[to] = parts
		}
	}
}
