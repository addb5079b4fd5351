package secret

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"

	"github.com/agentry/agentry/internal/errs"
)

// Place is where a sealed value belongs. It is authenticated with the value: a blob that is moved to another
// place doesn't open.
type Place struct {
	Kind      string // credential, setting
	Namespace string
	Name      string
	Version   int64
}

// aad is unambiguous: every part is preceded by its length.
func (p Place) aad(key string) []byte {
	b := []byte("agentry/sealed/v1")
	for _, s := range []string{p.Kind, p.Namespace, p.Name, key} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return binary.AppendVarint(b, p.Version)
}

// envelope is the stored form: the value under a data key of its own, the data key under the KEK.
type envelope struct {
	Schema int    `json:"v"`
	Key    string `json:"key"` // KEK id
	Wrap   []byte `json:"wrap"`
	Data   []byte `json:"data"`
}

// Seal encrypts v (AES-256-GCM) for one place under k. Sealing twice gives different bytes.
func Seal(k KEK, at Place, v Value) ([]byte, error) {
	dek := make([]byte, keySize)
	_, _ = rand.Read(dek)
	defer clear(dek)
	data, err := newGCM(dek)
	if err != nil {
		return nil, err
	}
	id := k.ID()
	aad := at.aad(id)
	wrapped, err := k.Wrap(dek, aad)
	if err != nil {
		return nil, err
	}
	return json.Marshal(envelope{Schema: 1, Key: id, Wrap: wrapped, Data: sealGCM(data, []byte(v.Reveal()), aad)})
}

// Open decrypts what Seal made for the same place. A changed or moved blob is errs.Invalid, a KEK that isn't held
// errs.Precondition.
func Open(k KEK, at Place, sealed []byte) (Value, error) {
	var e envelope
	dec := json.NewDecoder(bytes.NewReader(sealed))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil || e.Schema != 1 {
		return Value{}, errs.New(errs.Invalid, "not a sealed value")
	}
	aad := at.aad(e.Key)
	dek, err := k.Unwrap(e.Key, e.Wrap, aad)
	if err != nil {
		return Value{}, err
	}
	defer clear(dek)
	data, err := newGCM(dek)
	if err != nil {
		return Value{}, errs.New(errs.Invalid, "sealed value: %w", err)
	}
	plain, err := openGCM(data, e.Data, aad)
	if err != nil {
		return Value{}, err
	}
	return NewValue(string(plain)), nil
}

// SealedBy names the KEK that a sealed value needs; "" when the bytes are no sealed value.
func SealedBy(sealed []byte) string {
	var e envelope
	if json.Unmarshal(sealed, &e) != nil {
		return ""
	}
	return e.Key
}

// Reseal seals a value anew under the KEK's first key. changed is false, and the bytes are the given ones, where they are sealed
// with it already.
func Reseal(k KEK, at Place, sealed []byte) (out []byte, changed bool, err error) {
	if SealedBy(sealed) == k.ID() {
		return sealed, false, nil
	}
	v, err := Open(k, at, sealed)
	if err != nil {
		return nil, false, err
	}
	out, err = Seal(k, at, v)
	return out, err == nil, err
}
