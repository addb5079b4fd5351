package directory

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// keepAgain is when a try to keep the file that the store failed is repeated.
const keepAgain = time.Second

// KeepBootstrap keeps a bootstrap token in a file (mode 0600) as long as nobody is bound to the role admin everywhere, and removes the
// file once somebody is, until ctx ends. Run must run. seen hears of every token that is in the file, before it is there; a token that is
// made here counts before it is there.
func (d *Directory) KeepBootstrap(ctx context.Context, path string, seen func(secret.Value)) error {
	sweep := time.NewTicker(sweepEvery) // administrators' tokens expire without a write
	defer sweep.Stop()
	for {
		changed := d.Changed()
		var again <-chan time.Time
		if err := d.keepFile(ctx, path, seen); err != nil && ctx.Err() == nil {
			if !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.Timeout) && !errs.Is(err, errs.Conflict) {
				return err
			}
			d.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "the bootstrap token isn't kept up", slog.Any("error", err), slog.Duration("retry_in", keepAgain))
			again = time.After(keepAgain)
		}
		select {
		case <-changed:
		case <-again:
		case <-sweep.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *Directory) keepFile(ctx context.Context, path string, seen func(secret.Value)) error {
	if d.Administered() {
		return d.dropFile(ctx, path)
	}
	token, err := readBootstrap(path)
	if err != nil {
		return err
	}
	made := token.IsZero()
	if made {
		value, _, _ := newSecret()
		token = secret.NewValue(bootstrapPrefix + strings.TrimPrefix(value.Reveal(), bearerPrefix))
	}
	seen(token)
	counts, err := d.OfferBootstrap(ctx, token)
	switch {
	case err != nil:
		return err
	case !counts:
		return d.dropFile(ctx, path)
	case made: // who finds it may show it at once
		if err := secret.WriteFileOnce(path, []byte(token.Reveal()+"\n")); err != nil {
			return errs.New(errs.Precondition, "bootstrap token: %w", err)
		}
		d.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "nobody is administrator yet: log in once with the bootstrap token in this file", slog.String("file", path))
	}
	return nil
}

// readBootstrap gives the token in the file; zero where there is no file. One that others can read is errs.Precondition.
func readBootstrap(path string) (secret.Value, error) {
	f, err := os.Open(filepath.Clean(path))
	if errors.Is(err, fs.ErrNotExist) {
		return secret.Value{}, nil
	}
	if err != nil {
		return secret.Value{}, errs.New(errs.Precondition, "bootstrap token: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return secret.Value{}, errs.New(errs.Precondition, "bootstrap token: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return secret.Value{}, errs.New(errs.Precondition, "bootstrap token: %s has mode %04o: only its owner may read it (remove the file, another is made)", path, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil {
		return secret.Value{}, errs.New(errs.Precondition, "bootstrap token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if !strings.HasPrefix(token, bootstrapPrefix) || len(token) < 40 {
		return secret.Value{}, errs.New(errs.Precondition, "bootstrap token: %s holds something else: remove it, another is made", path)
	}
	return secret.NewValue(token), nil
}

func (d *Directory) dropFile(ctx context.Context, path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errs.New(errs.Precondition, "bootstrap token: %w", err)
	}
	d.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "somebody is administrator: the bootstrap token is gone", slog.String("file", path))
	return nil
}
