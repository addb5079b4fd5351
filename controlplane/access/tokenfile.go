package access

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// tokenPrefix makes tokens recognisable to secret scanners.
const tokenPrefix = "agt_"

// LoadToken reads the token file, or creates it (mode 0600) when it isn't there; it survives restarts. A file that
// others can read is errs.Precondition.
func LoadToken(path string) (secret.Value, error) {
	v, err := readToken(path)
	if !errs.Is(err, errs.NotFound) {
		return v, err
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	err = secret.WriteFileOnce(path, []byte(tokenPrefix+hex.EncodeToString(raw)+"\n"))
	if err != nil && !errs.Is(err, errs.Exists) {
		return secret.Value{}, fmt.Errorf("token file: %w", err)
	}
	return readToken(path)
}

func readToken(path string) (secret.Value, error) {
	f, err := os.Open(filepath.Clean(path))
	if errors.Is(err, fs.ErrNotExist) {
		return secret.Value{}, errs.New(errs.NotFound, "token file: %w", err)
	}
	if err != nil {
		return secret.Value{}, fmt.Errorf("token file: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return secret.Value{}, fmt.Errorf("token file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return secret.Value{}, errs.New(errs.Precondition, "token file %s has mode %04o: only its owner may read it (chmod 600)", path, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil {
		return secret.Value{}, fmt.Errorf("token file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return secret.Value{}, errs.New(errs.Precondition, "token file %s is empty: remove it and a new token is made", path)
	}
	return secret.NewValue(token), nil
}
