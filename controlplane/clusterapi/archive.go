package clusterapi

import (
	"context"
	"io"
	"time"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/backup"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// Bounds of saving and bringing back.
const (
	piece = 512 << 10 // of the file, in one message
	// auditWait is how long a backup waits for its audit entry to be written: a store that has no room left can still be read.
	auditWait = 5 * time.Second
	// restoreMost bounds a restore, which goes on when its caller has gone: half of one helps nobody.
	restoreMost = 30 * time.Minute
)

// recorder takes the audit events of what changes nothing.
type recorder interface {
	audit.Recorder
	Flush(ctx context.Context) error
}

// restorer brings backups back.
type restorer interface {
	Plan(ctx context.Context, f *backup.File, opts backup.Options) (backup.Result, error)
	Restore(ctx context.Context, f *backup.File, opts backup.Options) (backup.Result, error)
	AsIs(ctx context.Context, opts backup.Options, dryRun bool) (backup.Result, error)
}

// ArchiveConfig is what NewArchive needs; everything is required.
type ArchiveConfig struct {
	Store    store.Store
	Restorer restorer
	Recorder recorder
	// Check says whether a record of a backup may come back here: what it holds sealed opens. other: this control plane becomes another
	// cluster.
	Check func(r backup.Record, other bool) error
	// Dir is where a backup lies while it is brought back.
	Dir string
	// KEK names the key that values are sealed with, Version this controlplane's release.
	KEK, Version string
	Now          func() time.Time
	// RequestID gives the id of a call.
	RequestID func(ctx context.Context) string
}

// Archive is the part of the cluster's service that saves and brings back.
type Archive struct{ cfg ArchiveConfig }

// NewArchive makes an Archive.
func NewArchive(cfg ArchiveConfig) (*Archive, error) {
	if cfg.Store == nil || cfg.Restorer == nil || cfg.Recorder == nil || cfg.Check == nil || cfg.Dir == "" || cfg.Now == nil || cfg.RequestID == nil {
		return nil, errs.New(errs.Invalid, "clusterapi: store, restorer, recorder, check, dir, now and request id are required")
	}
	return &Archive{cfg: cfg}, nil
}

// pieces is a writer that sends a file in messages.
type pieces struct {
	send func([]byte) error
	buf  []byte
}

var _ io.Writer = (*pieces)(nil)

// Write gathers until a message is full.
func (p *pieces) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		k := min(len(b), piece-len(p.buf))
		p.buf = append(p.buf, b[:k]...)
		b = b[k:]
		if len(p.buf) < piece {
			continue
		}
		if err := p.flush(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func (p *pieces) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	err := p.send(p.buf)
	p.buf = p.buf[:0]
	return err
}

// received is a reader of a file that comes in messages; next gives io.EOF after the last.
type received struct {
	next func() ([]byte, error)
	rest []byte
}

var _ io.Reader = (*received)(nil)

// Read reads what has come.
func (r *received) Read(into []byte) (int, error) {
	for len(r.rest) == 0 {
		b, err := r.next()
		if err != nil {
			return 0, err
		}
		r.rest = b
	}
	n := copy(into, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
