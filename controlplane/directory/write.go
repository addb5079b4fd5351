package directory

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/store"
)

// put gives the write of a record over the one at a ModRevision; 0: of a new one.
func (t *token) put(over int64) store.Txn {
	key := tokenPrefix + t.ID
	return store.Txn{If: []store.Cond{{Key: key, ModRevision: over}}, Puts: []store.KV{{Key: key, Value: encode(t)}}}
}

// told is what the audit log says of a token.
func (t *token) told() any { return t.Token }

// encode gives the JSON of a record, all of which JSON can hold.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("directory: encode %T: %v", v, err))
	}
	return b
}

// note says to the audit entry of a call what changes. nil: there was, or will be, nothing.
func note(ctx context.Context, object string, before, after any) {
	text := func(v any) string {
		if v == nil {
			return ""
		}
		return string(encode(v))
	}
	draft := audit.From(ctx)
	draft.On(object)
	draft.Changed(true, audit.Change{Object: object, Before: text(before), After: text(after)})
}
