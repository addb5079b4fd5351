package store

import "github.com/agentry/agentry/internal/errs"

// MaxOps is how many writes one transaction may hold: etcd's limit as we set it in the embedded server.
const MaxOps = 1024

// Check answers Invalid for a transaction that no store would take: an empty key, a key written twice (etcd refuses
// that too), more than MaxOps writes or conditions. Implementations call it first.
func (t Txn) Check() error {
	if n := len(t.Puts) + len(t.Deletes); n > MaxOps {
		return errs.New(errs.Invalid, "transaction of %d writes, at most %d are possible", n, MaxOps)
	}
	if n := len(t.If); n > MaxOps {
		return errs.New(errs.Invalid, "transaction of %d conditions, at most %d are possible", n, MaxOps)
	}
	seen := make(map[string]struct{}, len(t.Puts)+len(t.Deletes))
	write := func(key string) error {
		if key == "" {
			return errs.New(errs.Invalid, "transaction writes an empty key")
		}
		if _, twice := seen[key]; twice {
			return errs.New(errs.Invalid, "transaction writes key %q twice", key)
		}
		seen[key] = struct{}{}
		return nil
	}
	for _, kv := range t.Puts {
		if err := write(kv.Key); err != nil {
			return err
		}
	}
	for _, key := range t.Deletes {
		if err := write(key); err != nil {
			return err
		}
	}
	return nil
}
