package specapi

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/secret"
)

// fingerprintSetting is where the sealed fingerprint key lies. It is the first thing that is ever sealed.
const fingerprintSetting = "fingerprint-key"

// VaultConfig is what a Vault needs.
type VaultConfig struct {
	Store store.Store
	KEK   secret.KEK
	// Redactor learns every value that the vault seals or opens; nil: none does.
	Redactor *secret.Redactor
}

// Vault seals and opens credential values. It keeps none; it is safe for concurrent use.
type Vault struct {
	kek    secret.KEK
	prints atomic.Pointer[secret.Fingerprinter] // never nil
	redact *secret.Redactor
}

// HasSealed reports whether anything was ever sealed in a store.
func HasSealed(ctx context.Context, s store.Store) (bool, error) {
	_, err := s.Get(ctx, view.SettingKey(fingerprintSetting))
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// OpenVault opens the fingerprint key, or makes it on an empty store. A KEK that doesn't open it is
// errs.Precondition: it isn't the one the store was sealed with.
func OpenVault(ctx context.Context, cfg VaultConfig) (*Vault, error) {
	key := view.SettingKey(fingerprintSetting)
	at := secret.Place{Kind: "setting", Name: fingerprintSetting}
	kv, err := cfg.Store.Get(ctx, key)
	if errs.Is(err, errs.NotFound) {
		kv, err = makeFingerprintKey(ctx, cfg, key, at)
	}
	if err != nil {
		return nil, fmt.Errorf("fingerprint key: %w", err)
	}
	value, err := secret.Open(cfg.KEK, at, kv.Value)
	if err != nil {
		return nil, errs.New(errs.Precondition, "the key file doesn't open what the store has sealed (put the right one back, or name it with --kek-file): %w", err)
	}
	prints, err := secret.NewFingerprinter(value)
	if err != nil {
		return nil, err
	}
	v := &Vault{kek: cfg.KEK, redact: cfg.Redactor}
	v.prints.Store(prints)
	if v.redact == nil {
		v.redact = &secret.Redactor{}
	}
	v.redact.Add(value)
	return v, nil
}

func makeFingerprintKey(ctx context.Context, cfg VaultConfig, key string, at secret.Place) (store.KV, error) {
	sealed, err := secret.Seal(cfg.KEK, at, secret.NewFingerprintKey())
	if err != nil {
		return store.KV{}, err
	}
	_, err = cfg.Store.Commit(ctx, store.Txn{If: []store.Cond{{Key: key}}, Puts: []store.KV{{Key: key, Value: sealed}}})
	if err != nil && !errs.Is(err, errs.Conflict) { // a peer was first: its key counts
		return store.KV{}, err
	}
	return cfg.Store.Get(ctx, key)
}

// credentialPlace is the place of a credential's version. Names are unique without case.
func credentialPlace(namespace, name string, version int64) secret.Place {
	return secret.Place{Kind: manifest.KindCredential, Namespace: namespace, Name: strings.ToLower(name), Version: version}
}

// Reveal opens one version of a credential whose head was read.
func (v *Vault) Reveal(namespace, name string, head view.CredentialHead, version int64) (secret.Value, error) {
	sealed, ok := head.Sealed[version]
	if !ok || head.Deleted {
		return secret.Value{}, errs.New(errs.NotFound, "credential %s/%s has no version %d", namespace, name, version)
	}
	value, err := secret.Open(v.kek, credentialPlace(namespace, name, version), sealed)
	if err != nil {
		return secret.Value{}, fmt.Errorf("credential %s/%s version %d: %w", namespace, name, version, err)
	}
	v.redact.Add(value)
	return value, nil
}

// Seal seals the value of one version of a credential.
func (v *Vault) Seal(namespace, name string, version int64, value secret.Value) ([]byte, error) {
	v.redact.Add(value)
	return secret.Seal(v.kek, credentialPlace(namespace, name, version), value)
}

func (v *Vault) fingerprint(namespace, name string, value secret.Value) string {
	v.redact.Add(value)
	return v.prints.Load().Sum(credentialPlace(namespace, name, 0), value)
}

// KeyID names the key that values are sealed with now.
func (v *Vault) KeyID() string { return v.kek.ID() }

// Reseal gives a credential's head with every kept version sealed with the present key, and how many of them weren't.
func (v *Vault) Reseal(namespace string, head view.CredentialHead) (view.CredentialHead, int, error) {
	kept, changed := make(map[int64][]byte, len(head.Sealed)), 0
	for version, sealed := range head.Sealed {
		out, moved, err := secret.Reseal(v.kek, credentialPlace(namespace, head.Name, version), sealed)
		if err != nil {
			return head, 0, fmt.Errorf("credential %s/%s version %d: %w", namespace, head.Name, version, err)
		}
		kept[version] = out
		if moved {
			changed++
		}
	}
	head.Sealed = kept
	return head, changed, nil
}

// ResealKey seals the fingerprint key anew where it isn't sealed with the present key.
func (v *Vault) ResealKey(ctx context.Context, s store.Store) (changed bool, err error) {
	key := view.SettingKey(fingerprintSetting)
	kv, err := s.Get(ctx, key)
	if err != nil {
		return false, fmt.Errorf("fingerprint key: %w", err)
	}
	out, changed, err := secret.Reseal(v.kek, secret.Place{Kind: "setting", Name: fingerprintSetting}, kv.Value)
	if err != nil || !changed {
		return false, err
	}
	_, err = s.Commit(ctx, store.Txn{If: []store.Cond{{Key: key, ModRevision: kv.ModRevision}}, Puts: []store.KV{{Key: key, Value: out}}})
	return err == nil, err
}

// Reload opens the fingerprint key anew: a restore may have brought another.
func (v *Vault) Reload(ctx context.Context, s store.Store) error {
	next, err := OpenVault(ctx, VaultConfig{Store: s, KEK: v.kek, Redactor: v.redact})
	if err != nil {
		return err
	}
	v.prints.Store(next.prints.Load())
	return nil
}

// CheckSealed says whether what a record of the store holds sealed opens with a key: of the fingerprint key, and of every version of a
// credential. A record that holds nothing of the kind is fine. No value is kept or told to anybody.
func CheckSealed(kek secret.KEK, key string, value []byte) error {
	if key == view.SettingKey(fingerprintSetting) {
		_, err := secret.Open(kek, secret.Place{Kind: "setting", Name: fingerprintSetting}, value)
		return err
	}
	rest, ok := strings.CutPrefix(key, view.HeadPrefix(manifest.KindCredential, ""))
	namespace, name, named := strings.Cut(rest, "/")
	if !ok || !named {
		return nil
	}
	head, err := view.Decode[view.CredentialHead](value)
	if err != nil {
		return err
	}
	for version, sealed := range head.Sealed {
		if _, err := secret.Open(kek, credentialPlace(namespace, name, version), sealed); err != nil {
			return fmt.Errorf("credential %s/%s version %d: %w", namespace, name, version, err)
		}
	}
	return nil
}
