package secret

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/agentry/agentry/internal/errs"
)

const keySize = 32

// KEK is a key-encryption key: it wraps the data keys of sealed objects and never leaves its keeper. All methods
// are safe for concurrent use and may block on a remote keeper.
type KEK interface {
	// ID names the key that Wrap uses now; it is no secret.
	ID() string
	// Wrap encrypts a data key, bound to aad.
	Wrap(dek, aad []byte) ([]byte, error)
	// Unwrap decrypts what the key named id wrapped with the same aad; errs.Precondition when id isn't held.
	Unwrap(id string, wrapped, aad []byte) ([]byte, error)
}

// FileKEK is a KEK whose keys lie in a file of mode 0600: one base64 key of 32 bytes per line. The first wraps,
// all unwrap, so a new key is put on top and the old one kept until everything is sealed anew.
// It protects backups and copies of the store, not against who can read the file.
type FileKEK struct {
	ids   []string
	aeads map[string]cipher.AEAD
}

// OpenFileKEK reads a key file. A missing file is errs.NotFound, one that others can read errs.Precondition.
func OpenFileKEK(path string) (*FileKEK, error) {
	f, err := os.Open(filepath.Clean(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.New(errs.NotFound, "key file: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, errs.New(errs.Precondition, "key file %s has mode %04o: only its owner may read it (chmod 600)", path, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return parseKEK(path, text)
}

func parseKEK(path string, text []byte) (*FileKEK, error) {
	k := &FileKEK{aeads: map[string]cipher.AEAD{}}
	for i, line := range bytes.Split(text, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(string(line))
		if err != nil || len(key) != keySize {
			return nil, errs.New(errs.Invalid, "key file %s:%d: want a base64 key of %d bytes", path, i+1, keySize)
		}
		aead, err := newGCM(key)
		if err != nil {
			return nil, err
		}
		id := keyID(key)
		k.ids = append(k.ids, id)
		k.aeads[id] = aead
	}
	if len(k.ids) == 0 {
		return nil, errs.New(errs.Invalid, "key file %s holds no key", path)
	}
	return k, nil
}

// CreateFileKEK writes a key file with one new key; a file that is there already is errs.Exists.
func CreateFileKEK(path string) (*FileKEK, error) {
	key := make([]byte, keySize)
	_, _ = rand.Read(key)
	if err := WriteFileOnce(path, []byte(base64.StdEncoding.EncodeToString(key)+"\n")); err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return OpenFileKEK(path)
}

// WriteFileOnce writes a file of mode 0600 that must not be there yet (errs.Exists), so that a crash leaves either
// nothing or the whole: it is written aside, synced and linked into place.
func WriteFileOnce(path string, content []byte) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return errs.New(errs.Exists, "%s: %w", path, err)
		}
		return err
	}
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ID names the wrapping key.
func (k *FileKEK) ID() string { return k.ids[0] }

// Wrap encrypts a data key with the first key.
func (k *FileKEK) Wrap(dek, aad []byte) ([]byte, error) {
	return sealGCM(k.aeads[k.ids[0]], dek, aad), nil
}

// Unwrap decrypts a data key with the key named id.
func (k *FileKEK) Unwrap(id string, wrapped, aad []byte) ([]byte, error) {
	aead, ok := k.aeads[id]
	if !ok {
		return nil, errs.New(errs.Precondition, "no key %s: the key file isn't the one this was sealed with", id)
	}
	return openGCM(aead, wrapped, aad)
}

// keyID names a key without telling anything of use about it.
func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("agentry key id\x00"), key...))
	return hex.EncodeToString(sum[:8])
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func sealGCM(a cipher.AEAD, plain, aad []byte) []byte {
	nonce := make([]byte, a.NonceSize(), a.NonceSize()+len(plain)+a.Overhead())
	_, _ = rand.Read(nonce)
	return a.Seal(nonce, nonce, plain, aad)
}

func openGCM(a cipher.AEAD, sealed, aad []byte) ([]byte, error) {
	n := a.NonceSize()
	if len(sealed) < n {
		return nil, errs.New(errs.Invalid, "sealed value is too short")
	}
	plain, err := a.Open(nil, sealed[:n], sealed[n:], aad)
	if err != nil {
		return nil, errs.New(errs.Invalid, "sealed value doesn't open: it was changed, or sealed for another place")
	}
	return plain, nil
}

var _ KEK = (*FileKEK)(nil)
