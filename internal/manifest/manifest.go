// Package manifest holds the identity of a config: its lines, its hash, and the token that orders the
// configs of one agent (semantics.md 1 to 3). Both halves compute it; it does no I/O.
package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The kinds of a manifest line.
const (
	KindAgent      = "agent"
	KindPrompt     = "prompt"
	KindMCP        = "mcp"
	KindPolicy     = "policy"
	KindCredential = "credential"
)

// Hash is the SHA-256 of a manifest's lines, or of a resource's bytes.
type Hash [sha256.Size]byte

// Sum hashes resource bytes.
func Sum(b []byte) Hash { return sha256.Sum256(b) }

// String gives lower hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether no hash is set.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText gives lower hex.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads lower hex.
func (h *Hash) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil {
		return fmt.Errorf("manifest hash: %w", err)
	}
	v, ok := FromBytes(raw)
	if !ok {
		return fmt.Errorf("manifest hash: %d bytes, want %d", len(raw), sha256.Size)
	}
	*h = v
	return nil
}

// FromBytes makes a Hash of exactly 32 bytes.
func FromBytes(b []byte) (Hash, bool) {
	var h Hash
	if len(b) != len(h) {
		return h, false
	}
	copy(h[:], b)
	return h, true
}

// Line is one resource of a config. SHA256 is zero for a credential.
type Line struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Version string `json:"version"` // "-" for agent and policy, a number for credential
	SHA256  Hash   `json:"sha256"`
}

// Resource gives kind/name.
func (l Line) Resource() string { return l.Kind + "/" + l.Name }

// Text gives the line as it is hashed, without LF.
func (l Line) Text() string { return string(l.AppendText(nil)) }

// AppendText appends Text.
func (l Line) AppendText(b []byte) []byte {
	b = slices.Grow(b, len(l.Kind)+len(l.Name)+len(l.Version)+2*len(l.SHA256)+3)
	b = append(append(b, l.Kind...), ' ')
	b = append(append(b, l.Name...), ' ')
	b = append(append(b, l.Version...), ' ')
	if l.Kind == KindCredential {
		return append(b, '-')
	}
	return hex.AppendEncode(b, l.SHA256[:])
}

// Sort orders lines bytewise by their text, in place.
func Sort(lines []Line) {
	slices.SortFunc(lines, func(a, b Line) int { return strings.Compare(a.Text(), b.Text()) })
}

// Of gives the hash of a config. The lines must be sorted.
func Of(lines []Line) Hash {
	h := sha256.New()
	var text []byte
	for _, l := range lines {
		text = append(l.AppendText(text[:0]), '\n')
		h.Write(text)
	}
	var out Hash
	h.Sum(out[:0])
	return out
}

// ConfigName gives a config's name, such as "8-3f2a91c4"; "" for a zero hash.
func ConfigName(revision int64, h Hash) string {
	if h.IsZero() {
		return ""
	}
	b := append(strconv.AppendInt(make([]byte, 0, 32), revision, 10), '-')
	return string(hex.AppendEncode(b, h[:4]))
}

// Token orders the configs of one agent.
type Token struct {
	Epoch      uint64 `json:"epoch"`
	Generation int64  `json:"generation"`
	Hash       Hash   `json:"hash"`
}

// IsZero reports whether the token names nothing.
func (t Token) IsZero() bool { return t == Token{} }

// Fence is the lowest (epoch, generation) that an instance still accepts from a cluster.
type Fence struct {
	ClusterID  string `json:"clusterId"`
	Epoch      uint64 `json:"epoch"`
	Generation int64  `json:"generation"`
}

// Below reports whether t is strictly below the fence, by epoch and then generation.
func (f Fence) Below(t Token) bool {
	if t.Epoch != f.Epoch {
		return t.Epoch < f.Epoch
	}
	return t.Generation < f.Generation
}

// Raise gives the fence raised to t, never lowered.
func (f Fence) Raise(t Token) Fence {
	if f.Below(t) {
		return f
	}
	f.Epoch, f.Generation = t.Epoch, t.Generation
	return f
}
