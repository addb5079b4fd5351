package audit

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/gowebpki/jcs"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/manifest"
)

// The bounds of an entry. What is longer is cut, and the entry says so.
const (
	maxEntry   = 64 << 10 // bytes of a record
	maxText    = 4 << 10  // bytes of a message or a value of a change
	maxName    = 512      // bytes of a name
	maxObjects = 8 << 10  // bytes of all objects' names
)

// Entry is one thing that happened. It is what a record of the chain says, as RFC 8785 JSON.
type Entry struct {
	Seq        int64     `json:"seq,omitempty"` // 1, 2, 3, ...; 0 while it waits for its place in the chain
	Time       time.Time `json:"time"`
	Type       Type      `json:"type"`
	Actor      string    `json:"actor,omitempty"`
	Method     string    `json:"method,omitempty"`
	Permission string    `json:"permission,omitempty"`
	Namespace  string    `json:"namespace,omitempty"`
	Objects    []string  `json:"objects,omitempty"`
	Changes    []Change  `json:"changes,omitempty"`
	Message    string    `json:"message,omitempty"`
	RequestID  string    `json:"requestId,omitempty"`
	Replica    string    `json:"replica,omitempty"`
	Outcome    string    `json:"outcome"`
}

// Origin is what this process puts into every entry that it makes.
type Origin struct {
	// Replica is this process's id.
	Replica string
	// Redact blanks known secrets; nil: nothing is blanked.
	Redact func(string) string
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// pending gives what puts an entry into the store, where it waits for the chainer.
func (o Origin) pending(e Entry) store.KV {
	at := o.now()
	if e.Time.IsZero() {
		e.Time = at
	}
	e.Time, e.Replica = e.Time.UTC().Truncate(time.Microsecond), o.Replica
	id := fmt.Sprintf("%020d-%016x", at.UnixNano(), rand.Uint64()) //nolint:gosec // G404: unique is enough, nobody may guess
	return store.KV{Key: pendingPrefix + id, Value: o.clean(e).bytes()}
}

func (o Origin) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// clean bounds an entry, and blanks what must not be in it.
func (o Origin) clean(e Entry) Entry {
	text := func(s string, most int) string {
		if o.Redact != nil {
			s = o.Redact(s)
		}
		return cut(s, most)
	}
	for _, name := range []*string{&e.Actor, &e.Method, &e.Permission, &e.Namespace, &e.RequestID, &e.Outcome} {
		*name = text(*name, maxName)
	}
	e.Message = text(e.Message, maxText)
	objects := e.Objects
	e.Objects = nil
	for i, room := 0, maxObjects; i < len(objects); i++ {
		name := text(objects[i], maxName)
		if room -= escaped(name); room < 0 {
			e.Objects = append(e.Objects, fmt.Sprintf("and %d more", len(objects)-i))
			break
		}
		e.Objects = append(e.Objects, name)
	}
	changes := e.Changes
	e.Changes = nil
	room := maxEntry - len(e.bytes()) - 1<<10
	for i, c := range changes {
		c = Change{Object: text(c.Object, maxName), Path: text(c.Path, maxName), Before: text(c.Before, maxText), After: text(c.After, maxText)}
		if secretive(c) {
			c.Before, c.After = "", ""
		}
		if room -= escaped(c) + 1; room < 0 {
			e.Changes = append(e.Changes, Change{Path: fmt.Sprintf("%d more changes don't fit into an entry", len(changes)-i)})
			break
		}
		e.Changes = append(e.Changes, c)
	}
	return e
}

// escaped gives how many bytes of JSON a value makes.
func escaped(v any) int {
	b, err := json.Marshal(v)
	if err != nil {
		return maxEntry
	}
	return len(b)
}

// secretive says whether a change's values may be a credential's. Only a version's number may be told of one.
func secretive(c Change) bool {
	return strings.HasPrefix(c.Object, manifest.KindCredential+"/") && strings.Trim(c.Before+c.After, "0123456789") != ""
}

// cut bounds a text without splitting a character.
func cut(s string, most int) string {
	if len(s) <= most {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	note := fmt.Sprintf("... (%d bytes)", len(s))
	return strings.ToValidUTF8(s[:most-len(note)], "") + note
}

func (e Entry) bytes() []byte {
	b, err := json.Marshal(e)
	if err != nil { // a time outside the years 0 to 9999
		panic(fmt.Sprintf("audit: encode an entry: %v", err))
	}
	return b
}

// record gives the canonical bytes of an entry.
func (e Entry) record() ([]byte, error) { return jcs.Transform(e.bytes()) }
