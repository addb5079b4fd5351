package auditchain

import (
	"encoding/json"
	"fmt"
)

// AppendLine adds a link as one line of an audit file: {"hash":"...","previous":"...","record":{...}} and a line feed. The record's
// bytes stay as they are.
func AppendLine(b []byte, l Link, previous string) []byte {
	b = append(b, `{"hash":"`...)
	b = append(b, l.Hash...)
	b = append(b, `","previous":"`...)
	b = append(b, previous...)
	b = append(b, `","record":`...)
	b = append(b, l.Record...)
	return append(b, "}\n"...)
}

// ParseLine reads one line of an audit file. The previous hash lets a file that begins anywhere be verified: NewVerifier with it
// and the seq before the first line's.
func ParseLine(line []byte) (l Link, previous string, seq int64, err error) {
	var in struct {
		Hash     string          `json:"hash"`
		Previous string          `json:"previous"`
		Record   json.RawMessage `json:"record"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return Link{}, "", 0, fmt.Errorf("line of an audit file: %w", err)
	}
	var record struct {
		Seq int64 `json:"seq"`
	}
	if err := json.Unmarshal(in.Record, &record); err != nil {
		return Link{}, "", 0, fmt.Errorf("record in a line of an audit file: %w", err)
	}
	return Link{Record: in.Record, Hash: in.Hash}, in.Previous, record.Seq, nil
}
