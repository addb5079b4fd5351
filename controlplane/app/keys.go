package app

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/agentry/agentry/controlplane/specapi"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// openKEK opens the key that sealed secrets need. Without --kek-file the key file is "kek" in the data directory,
// made at the first start; a missing one is refused once anything was sealed, because a new key could never
// open it.
func openKEK(ctx context.Context, cfg Config, s store.Store) (secret.KEK, error) {
	path := cfg.KEKFile
	if path == "" {
		path = filepath.Join(cfg.DataDir, "kek")
	}
	kek, err := secret.OpenFileKEK(path)
	if errs.Is(err, errs.NotFound) {
		kek, err = createKEK(ctx, cfg, s, path)
	}
	if err != nil {
		return nil, err
	}
	return kek, nil
}

func createKEK(ctx context.Context, cfg Config, s store.Store, path string) (*secret.FileKEK, error) {
	sealed, err := specapi.HasSealed(ctx, s)
	switch {
	case err != nil:
		return nil, err
	case sealed:
		return nil, errs.New(errs.Precondition, "the store holds sealed secrets, but their key file %s is missing: put it back, or name it with --kek-file", path)
	case cfg.KEKFile != "":
		return nil, errs.New(errs.Precondition, "--kek-file: %s is missing (make one: umask 077; head -c 32 /dev/urandom | base64 > %s)", path, path)
	}
	kek, err := secret.CreateFileKEK(path)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	return kek, nil
}
