package view

import (
	"slices"
	"strconv"

	"github.com/agentry/agentry/internal/manifest"
)

// KeptValues is how many versions of a credential's value are kept: the old ones stay usable while runtimes drain.
const KeptValues = 3

// Next gives the head with one more version, whose sealed value seal makes; of the versions before it the newest
// KeptValues-1 stay, and the needed ones (View.NeededVersions). Fingerprint and Rotated are the caller's to set.
func (h CredentialHead) Next(needed []string, seal func(version int64) ([]byte, error)) (CredentialHead, error) {
	sealed, err := seal(h.Version + 1)
	if err != nil {
		return h, err
	}
	kept := map[int64][]byte{h.Version + 1: sealed}
	for v, b := range h.Sealed {
		if v > h.Version+1-KeptValues || slices.Contains(needed, strconv.FormatInt(v, 10)) {
			kept[v] = b
		}
	}
	h.Version++
	h.Sealed = kept
	return h, nil
}

// Move gives the log entry of a change that made h out of a head at version before.
func (h CredentialHead) Move(before int64) HeadMove {
	m := HeadMove{Kind: manifest.KindCredential, Name: h.Name, Revision: h.Version, To: strconv.FormatInt(h.Version, 10)}
	if before != 0 {
		m.From = strconv.FormatInt(before, 10)
	}
	return m
}
