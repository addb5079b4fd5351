package once

import (
	"bytes"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// record is the stored shape: which try of the call wrote a transaction.
type record struct {
	Nonce   string `json:"nonce"`
	Request []byte `json:"request,omitempty"`
	Answer  []byte `json:"answer,omitempty"` // an encoded anypb.Any
	Epoch   uint64 `json:"epoch,omitempty"`
	// Void says that the transaction of this number was given up: the record only keeps it from being written late.
	Void bool `json:"void,omitempty"`
}

func (r record) encode() []byte {
	b, err := json.Marshal(r)
	if err != nil { // of strings and bytes: it can't be
		panic(err)
	}
	return b
}

func decode(kv store.KV) (record, error) {
	var r record
	if err := json.Unmarshal(kv.Value, &r); err != nil {
		return record{}, errs.New(errs.Internal, "record of a call %s: %w", kv.Key, err)
	}
	return r, nil
}

// CarriedOutError says that a call was carried out before under the same key. Its kind is errs.Precondition, and Conflict-free: the
// call must not be planned anew.
type CarriedOutError struct {
	// Revision is the store revision at which it was written.
	Revision int64

	answer []byte
}

// Error says what to do.
func (e *CarriedOutError) Error() string {
	return fmt.Sprintf("a call with this idempotency key was carried out already, at store revision %d; its answer isn't kept: read what is there now", e.Revision)
}

// Unwrap gives an error with the kind.
func (e *CarriedOutError) Unwrap() error { return errs.New(errs.Precondition, "carried out already") }

// Into sets m to the answer that is kept, with its store revision; false where none of m's type is.
func (e *CarriedOutError) Into(m proto.Message) bool {
	var packed anypb.Any
	if len(e.answer) == 0 || proto.Unmarshal(e.answer, &packed) != nil || packed.UnmarshalTo(m) != nil {
		return false
	}
	r := m.ProtoReflect()
	if f := r.Descriptor().Fields().ByName("store_revision"); f != nil && f.Kind() == protoreflect.Int64Kind {
		r.Set(f, protoreflect.ValueOfInt64(e.Revision))
	}
	return true
}

// carriedOut reads the record of another try of a call.
func (c *Call) carriedOut(r record, revision int64) error {
	if !bytes.Equal(r.Request, c.request) {
		return errs.New(errs.Invalid, "this idempotency key was used for another request: every request needs a key of its own")
	}
	if r.Epoch != c.Epoch {
		return errs.New(errs.Precondition, "a call with this idempotency key was carried out at store revision %d, before a restore, which may have undone it: read what is there, and ask under another key", revision)
	}
	return &CarriedOutError{Revision: revision, answer: r.Answer}
}
