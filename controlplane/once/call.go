package once

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

// MaxKey is how many characters a caller's key may have.
const MaxKey = 128

// maxAnswer is how many bytes of an answer are kept. A larger one isn't: who asks again hears only that the call was carried out.
const maxAnswer = 64 << 10

// Call is one call that writes: its transactions are numbered, and each is written once, however often it is sent. It is safe for
// concurrent use; its transactions are written one after the other.
type Call struct {
	// Epoch is the store's when the call began; 0: it doesn't matter. It must not change once the call writes.
	Epoch uint64

	prefix  string // of its records
	nonce   string // tells this try of the call from others
	request []byte // digest of what is asked, nil where the caller gave no key
	keyed   bool   // the caller may ask again under the same key

	writing sync.Mutex // held while a transaction is written
	next    int        // number of the next transaction; guarded by writing

	mu     sync.Mutex // guards what follows
	answer []byte     // an encoded anypb.Any
}

// New begins a call of a principal. key is the caller's own, under which it may ask again; "": it gave none. request is what it asks.
// A key that is too long or isn't printable is errs.Invalid.
func New(principal, key, method string, request proto.Message) (*Call, error) {
	c := &Call{nonce: random(), keyed: key != ""}
	if !c.keyed {
		c.prefix = prefixOf("", random())
		return c, nil
	}
	if len(key) > MaxKey {
		return nil, errs.New(errs.Invalid, "the idempotency key has %d characters, at most %d are possible", len(key), MaxKey)
	}
	for _, b := range []byte(key) {
		if b <= ' ' || b > '~' {
			return nil, errs.New(errs.Invalid, "the idempotency key must be of printable ASCII characters without spaces")
		}
	}
	c.prefix = prefixOf(principal, key)
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return nil, errs.New(errs.Invalid, "request: %w", err)
	}
	// Under the key, which is stored nowhere: what is asked may hold a secret.
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = fmt.Fprintf(mac, "%s\n", method)
	_, _ = mac.Write(b)
	c.request = mac.Sum(nil)[:16]
	return c, nil
}

// prefixOf is where the records of a call lie. A random key can't be another's: it is hashed with nobody as its principal.
func prefixOf(principal, key string) string {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(principal)))
	h := sha256.New()
	for _, part := range [][]byte{n[:], []byte(principal), []byte(key)} {
		_, _ = h.Write(part)
	}
	return view.OncePrefix + hex.EncodeToString(h.Sum(nil)) + "/"
}

func (c *Call) key(n int) string { return fmt.Sprintf("%s%04d", c.prefix, n) }

type callKey struct{}

// With gives a context whose transactions are those of a call.
func With(ctx context.Context, c *Call) context.Context { return context.WithValue(ctx, callKey{}, c) }

// From gives the call of a context; nil where there is none.
func From(ctx context.Context) *Call {
	c, _ := ctx.Value(callKey{}).(*Call)
	return c
}

// Answer leaves what the call of ctx will answer, to be kept with its next transactions; a later one takes its place. Its field
// store_revision, if it has one, is set to the transaction's when it is given out again. It must hold no secret. Without a call, or
// a key of the caller, it does nothing.
func Answer(ctx context.Context, m proto.Message) {
	c := From(ctx)
	if c == nil || !c.keyed {
		return
	}
	packed, err := anypb.New(m)
	var b []byte
	if err == nil {
		b, err = proto.Marshal(packed)
	}
	if err != nil || len(b) > maxAnswer {
		b = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = b
}

// record gives what is stored with a transaction of the call.
func (c *Call) record() record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return record{Nonce: c.nonce, Request: c.request, Answer: c.answer, Epoch: c.Epoch}
}

func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
