// Package auditchain is the arithmetic of the audit log's hash chain: how an entry's hash is made, and whether a run of entries is
// whole. The control plane chains with it, agentctl verifies with it what the control plane sent and what the audit file holds. It
// reads and writes nothing and knows of a record no more than its "seq".
package auditchain

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
)

// Genesis is what the first entry of a log goes on from. It returns 64 zeros, the length of a hash.
func Genesis() string { return strings.Repeat("0", 2*sha256.Size) }

// Point is a place in a chain: an entry's seq and its hash. The zero Point is the beginning.
type Point struct {
	Seq  int64
	Hash string
}

// Link is one entry as it is stored: the bytes of its record (RFC 8785 JSON) and its hash.
type Link struct {
	Record []byte
	Hash   string
}

// Sum gives an entry's hash: the SHA-256 of the previous entry's hash, as its 64 hex characters, followed by the record's bytes. Both
// are text, so that a shell does it too: printf '%s%s' "$previous" "$record" | sha256sum.
func Sum(previous string, record []byte) string {
	h := sha256.New()
	h.Write([]byte(previous))
	h.Write(record)
	return hex.EncodeToString(h.Sum(nil))
}

// Fault is the first entry that doesn't hold.
type Fault struct {
	Seq int64
	Why string
}

// String gives the fault as a sentence.
func (f *Fault) String() string { return fmt.Sprintf("entry %d: %s", f.Seq, f.Why) }

// Verifier takes the entries of a log one by one. It is for one goroutine.
type Verifier struct{ at Point }

// NewVerifier begins behind a point: the first entry must be the next one.
func NewVerifier(from Point) *Verifier {
	if from.Seq == 0 && from.Hash == "" {
		from.Hash = Genesis()
	}
	return &Verifier{at: from}
}

// At gives the last entry that held.
func (v *Verifier) At() Point { return v.at }

// Next answers nil where a link is the next entry of the chain. After a fault the verifier stays where it is.
func (v *Verifier) Next(l Link) *Fault {
	want := v.at.Seq + 1
	whole := Sum(v.at.Hash, l.Record) == l.Hash
	var record struct {
		Seq int64 `json:"seq"`
	}
	err := json.Unmarshal(l.Record, &record)
	switch {
	case err == nil && record.Seq > want && !whole:
		return &Fault{Seq: want, Why: fmt.Sprintf("it is missing, or its record was changed: what follows entry %d says that it is %d", v.at.Seq, record.Seq)}
	case !whole:
		return &Fault{Seq: want, Why: "its hash isn't that of its record and the hash before it: one of them was changed"}
	case err != nil:
		return &Fault{Seq: want, Why: "its record isn't JSON"}
	case record.Seq != want:
		return &Fault{Seq: want, Why: fmt.Sprintf("its record says that it is %d", record.Seq)}
	}
	v.at = Point{Seq: want, Hash: l.Hash}
	return nil
}

// End answers nil where the last entry that held is the chain's end. Entries that were cut off at the end show only so.
func (v *Verifier) End(end Point) *Fault {
	if end.Seq == 0 && end.Hash == "" {
		end.Hash = Genesis()
	}
	switch {
	case end.Seq > v.at.Seq:
		return &Fault{Seq: v.at.Seq + 1, Why: fmt.Sprintf("it is missing: the chain ends at %d", end.Seq)}
	case end.Seq < v.at.Seq:
		return &Fault{Seq: end.Seq + 1, Why: fmt.Sprintf("the chain ends at %d, before it", end.Seq)}
	case end.Hash != v.at.Hash:
		return &Fault{Seq: v.at.Seq, Why: "its hash isn't the one that the chain ends with"}
	}
	return nil
}

// Verify takes a whole run of entries behind from that must end at end, and gives the first fault; nil: it is whole.
func Verify(from, end Point, links iter.Seq[Link]) *Fault {
	v := NewVerifier(from)
	for l := range links {
		if f := v.Next(l); f != nil {
			return f
		}
	}
	return v.End(end)
}
