package view

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// An applied config is stored in a compact form, not as JSON like the other records: there are more of them than of all others
// together, a shared head's move writes one for each of thousands of agents, and etcd holds what was written last in memory. The
// form is compactForm, then revision, config, instance, time, the number of lines, and of each line kind, name, version and
// hash. Numbers are varints; a text has its length before it, and so do a time and a hash. Hashes stay lower hex: by that package
// collector finds what records of any release name. What follows is a newer replica's. No JSON begins with compactForm.
const compactForm = 1

// hashDigits is the length of a hash in hex, which as a varint is one byte.
const hashDigits = 2 * sha256.Size

// compacted gives an applied config's bytes.
func (a Applied) compacted() []byte {
	size := 64 + len(a.Config) + len(a.Instance)
	for _, l := range a.Lines {
		size += 8 + len(l.Kind) + len(l.Name) + len(l.Version) + 2*len(l.SHA256)
	}
	b := append(make([]byte, 0, size), compactForm)
	b = binary.AppendVarint(b, a.Revision)
	b = appendText(b, a.Config)
	b = appendText(b, a.Instance)
	at, err := a.Time.MarshalBinary()
	if err != nil {
		panic(fmt.Sprintf("view: encode applied config: %v", err)) // see Encode
	}
	b = appendText(b, at)
	b = binary.AppendUvarint(b, uint64(len(a.Lines)))
	for _, l := range a.Lines {
		b = appendText(appendText(appendText(b, l.Kind), l.Name), l.Version)
		if l.SHA256.IsZero() {
			b = append(b, 0)
		} else {
			b = hex.AppendEncode(append(b, hashDigits), l.SHA256[:])
		}
	}
	return b
}

func appendText[T string | []byte](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// expand reads what compacted wrote.
func expand(b []byte) (Applied, error) {
	r := reader{rest: b}
	if r.number() != compactForm {
		return Applied{}, errs.New(errs.Invalid, "not a compact applied config")
	}
	a := Applied{Revision: r.signed(), Config: string(r.text()), Instance: string(r.text())}
	if at := r.text(); !r.bad {
		if err := a.Time.UnmarshalBinary(at); err != nil {
			return Applied{}, fmt.Errorf("time of an applied config: %w", err)
		}
	}
	n := r.number()
	if r.bad || n > uint64(len(r.rest)) { // a line takes more than a byte
		return Applied{}, errs.New(errs.Invalid, "an applied config of %d bytes ends early", len(b))
	}
	if n > 0 {
		a.Lines = make([]manifest.Line, n)
	}
	for i := range a.Lines {
		l := &a.Lines[i]
		l.Kind, l.Name, l.Version = kindOf(r.text()), string(r.text()), string(r.text())
		switch digits := r.text(); len(digits) {
		case 0: // a credential has none
		case hashDigits:
			if _, err := hex.Decode(l.SHA256[:], digits); err != nil {
				r.bad = true
			}
		default:
			r.bad = true
		}
	}
	if r.bad {
		return Applied{}, errs.New(errs.Invalid, "an applied config of %d bytes is cut off or broken", len(b))
	}
	return a, nil
}

// kindOf gives the kinds that we know without a copy each.
func kindOf(b []byte) string {
	for _, k := range [...]string{manifest.KindAgent, manifest.KindPrompt, manifest.KindMCP, manifest.KindPolicy, manifest.KindCredential} {
		if string(b) == k {
			return k
		}
	}
	return string(b)
}

// reader takes numbers and texts off the front; bad once something wasn't there.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	return took(r, v, n)
}

func (r *reader) signed() int64 {
	v, n := binary.Varint(r.rest)
	return took(r, v, n)
}

func took[N uint64 | int64](r *reader, v N, n int) N {
	if n <= 0 || r.bad {
		r.bad = true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// text gives bytes of the input.
func (r *reader) text() []byte {
	n := r.number()
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	t := r.rest[:n]
	r.rest = r.rest[n:]
	return t
}
