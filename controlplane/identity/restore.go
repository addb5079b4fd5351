package identity

import (
	"encoding/json"
	"strings"

	"github.com/agentry/agentry/internal/errs"
)

// Returning says what a key below view.IdentityPrefix becomes where a control plane becomes the one that a backup was taken of: given
// what the backup and the store have of it (nil: nothing), what is to be there (nil: nothing). The authority and what it gave are the
// backup's, or instances would be locked out. A join token that was spent since the backup would count again, so none comes back, and
// those of the store pin a root that goes. Of two revocations the one counts that ends more, and none goes.
func Returning(key string, backup, stored []byte) ([]byte, error) {
	switch {
	case strings.HasPrefix(key, joinPrefix):
		return nil, nil
	case strings.HasPrefix(key, trustPrefix+revokedPrefix) && backup == nil:
		return stored, nil
	case strings.HasPrefix(key, trustPrefix+revokedPrefix) && stored != nil:
		var theirs, ours Revocation
		if err := json.Unmarshal(backup, &theirs); err != nil {
			return nil, errs.New(errs.Invalid, "revocation %s of the backup: %w", key, err)
		}
		if json.Unmarshal(stored, &ours) == nil && ours.Before.After(theirs.Before) {
			return stored, nil
		}
		return backup, nil
	default:
		return backup, nil
	}
}

// CheckReturning says whether a record of a backup may become this control plane's: its authority opens with the key, and is of the
// same trust domain. With an authority in files there is nothing to check.
func (a *Authority) CheckReturning(key string, value []byte) error {
	if key != trustPrefix+authorityKey || a.cfg.Files != nil {
		return nil
	}
	t, err := a.unseal(value)
	if err != nil {
		return err
	}
	return a.domainOf(t)
}
