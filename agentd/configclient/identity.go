package configclient

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// identityBody is the body of the identity file. Its document is not ours to read.
type identityBody struct {
	Namespace string `json:"namespace"`
	Agent     string `json:"agent"`
	Document  []byte `json:"document"`
	Key       []byte `json:"key"` // sealed
}

func (s *State) identityPath() string { return filepath.Join(s.dir, "identity") }

func (s *State) identityPlace() secret.Place {
	return secret.Place{Kind: "identity", Namespace: s.namespace, Name: s.agent}
}

// LoadIdentity gives what SaveIdentity wrote. None is errs.NotFound; one that is damaged, of another agent, or sealed with a key that
// isn't held is another error. It may be called from any goroutine.
func (s *State) LoadIdentity() (document []byte, key secret.Value, err error) {
	raw, err := readBounded(s.identityPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil, secret.Value{}, errs.New(errs.NotFound, "no identity in the state directory")
	}
	if err != nil {
		return nil, secret.Value{}, err
	}
	var body identityBody
	if _, err := decodeFrame(magicIdentity, raw, &body); err != nil {
		return nil, secret.Value{}, fmt.Errorf("identity file: %w", err)
	}
	if body.Namespace != s.namespace || body.Agent != s.agent {
		return nil, secret.Value{}, fmt.Errorf("identity file: %w: of agent %s/%s", errCorrupt, body.Namespace, body.Agent)
	}
	kek := s.opening()
	if kek == nil {
		return nil, secret.Value{}, fmt.Errorf("identity file: %w: there is none", errStateKey)
	}
	key, err = secret.Open(kek, s.identityPlace(), body.Key)
	if err != nil {
		return nil, secret.Value{}, fmt.Errorf("identity file: %w: %w", errStateKey, err)
	}
	return body.Document, key, nil
}

// SaveIdentity replaces the instance's identity, its key sealed, so that a crash leaves the old one or the new one. It is written
// whatever PersistSecrets says: without it an instance could not come back. It may be called from any goroutine.
func (s *State) SaveIdentity(document []byte, key secret.Value) error {
	kek, err := s.sealing()
	if err != nil {
		return err
	}
	sealed, err := secret.Seal(kek, s.identityPlace(), key)
	if err != nil {
		return fmt.Errorf("seal identity: %w", err)
	}
	raw, err := encodeFrame(magicIdentity, header{}, identityBody{Namespace: s.namespace, Agent: s.agent, Document: document, Key: sealed})
	if err != nil {
		return err
	}
	return writeFile(s.identityPath(), raw)
}

// HasLastGood reports whether there is a config on disk to serve without the control plane.
func (s *State) HasLastGood() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots[0] > 0 || s.slots[1] > 0
}

// sealing gives the key that seals, and makes one where there is none yet.
func (s *State) sealing() (secret.KEK, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kek == nil {
		k, err := secret.CreateFileKEK(s.keyPath())
		if err != nil {
			return nil, fmt.Errorf("state key: %w", err)
		}
		s.kek = k
	}
	return s.kek, nil
}

// opening gives the key that opens; nil: none.
func (s *State) opening() secret.KEK {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kek
}
