// Package access says who is calling and whether they may. Both doors ask it before a handler runs. Today's trust
// is the dev mode's (semantics.md 13): one token file, whose bearer is administrator. It decides nothing about
// what a call does and stores nothing but that file.
package access

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
	"github.com/agentry/agentry/internal/secret"
)

// tokenPrefix makes tokens recognisable to secret scanners.
const tokenPrefix = "agt_"

// Guard authenticates callers. It is immutable and safe for concurrent use.
type Guard struct{ token secret.Value }

// New makes a Guard that accepts one token.
func New(token secret.Value) (*Guard, error) {
	if len(token.Reveal()) < 16 {
		return nil, errs.New(errs.Invalid, "access token is too short (at least 16 characters)")
	}
	return &Guard{token: token}, nil
}

// Authenticate gives the caller of a method such as "/agentry.spec.v1.SpecService/Apply". bearer is the token
// without "Bearer ". Unknown callers are errs.Unauthenticated; a method without a permission option, or one that
// the caller doesn't hold, is errs.Denied.
func (g *Guard) Authenticate(_ context.Context, fullMethod, bearer string) (Principal, error) {
	p, err := g.Bearer(bearer)
	if err != nil {
		return Principal{}, err
	}
	if _, ok := rpc.Rule(fullMethod); !ok {
		return Principal{}, errs.New(errs.Denied, "method %q isn't known, or carries no rule", fullMethod)
	}
	return p, nil
}

// Bearer gives the caller who shows a token, for doors that are no RPC.
func (g *Guard) Bearer(bearer string) (Principal, error) {
	if bearer == "" {
		return Principal{}, errs.New(errs.Unauthenticated, "no token: send the one in the control plane's token file")
	}
	if subtle.ConstantTimeCompare([]byte(bearer), []byte(g.token.Reveal())) != 1 {
		return Principal{}, errs.New(errs.Unauthenticated, "the token is not this control plane's")
	}
	return Principal{Name: "dev", Kind: Dev, Admin: true}, nil
}

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
