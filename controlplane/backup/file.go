package backup

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/backupfile"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// File is a backup that was received and is whole. It lies in a file without a name, so that nothing is left of it when this
// process ends, however it does.
type File struct {
	Header Header
	// Cluster is the cluster record in it.
	Cluster view.Cluster
	// Counts are its records by section.
	Counts map[Section]int64

	f *os.File
	// spans are where the sections lie that come back in the order of their keys.
	spans map[Section]span
	// config are the records of ConfigSection in ascending order of the revision that counts for them (see orderOf), then of their keys.
	config []place
	// keys are those of ConfigSection that are rewritten in place, not made anew; alive are the heads among them that aren't tombstones.
	keys, alive map[string]struct{}
}

// mostEpoch is far above every epoch that was begun (they are seconds since 1970, or one more than the one before) and far below where
// counting on would begin at 0 again: instances would refuse everything for good.
const mostEpoch = 1 << 48

type span struct{ from, to int64 }

// place is where a record lies in the file.
type place struct {
	order int64
	at    int64
	size  int
}

// Check is asked about every record while a file is received; an error refuses the file.
type Check func(Record) error

// Receive takes a file in: it is spooled to dir (mode 0600: it holds sealed secrets and hashes of tokens), and read through to its last
// byte. What isn't whole, holds bytes that don't have their hash, or that check refuses, is an error, and nothing is left of it.
func Receive(ctx context.Context, dir string, in io.Reader, check Check) (*File, error) {
	f, err := os.CreateTemp(dir, "restore-*")
	if err != nil {
		return nil, fmt.Errorf("spool the backup: %w", err)
	}
	if err := errors.Join(f.Chmod(0o600), os.Remove(f.Name())); err != nil {
		return nil, errors.Join(fmt.Errorf("spool the backup: %w", err), f.Close())
	}
	out := &File{f: f, Counts: map[Section]int64{}, spans: map[Section]span{}, keys: map[string]struct{}{}, alive: map[string]struct{}{}}
	if err := out.receive(ctx, in, check); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return out, nil
}

// Close forgets the file; it is safe twice.
func (f *File) Close() error {
	if err := f.f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

func (f *File) receive(ctx context.Context, in io.Reader, check Check) error {
	spool := bufio.NewWriterSize(f.f, 256<<10)
	r, err := backupfile.NewReader(io.TeeReader(in, spool))
	if err != nil {
		return err
	}
	f.Header = r.Header
	for {
		if ctx.Err() != nil {
			return errs.New(errs.KindOf(ctx.Err()), "receive the backup: %w", ctx.Err())
		}
		_, from := r.Count()
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		_, to := r.Count()
		if err := f.index(rec, from, to); err != nil {
			return err
		}
		if err := check(rec); err != nil {
			return fmt.Errorf("record %s of the backup: %w", rec.Key, err)
		}
	}
	if err := spool.Flush(); err != nil {
		return fmt.Errorf("spool the backup: %w", err)
	}
	slices.SortStableFunc(f.config, func(a, b place) int { return cmp.Compare(a.order, b.order) })
	return f.agrees()
}

// agrees reports whether header and cluster record tell the same.
func (f *File) agrees() error {
	if f.Counts[ClusterSection] != 1 || f.Cluster.ID != f.Header.ClusterID || f.Cluster.Epoch != f.Header.Epoch || f.Cluster.Restoring != nil {
		return errs.New(errs.Invalid, "the backup's cluster record isn't what its header says")
	}
	if f.Header.Epoch > mostEpoch {
		return errs.New(errs.Invalid, "the backup is of epoch %d: no control plane ever began that", f.Header.Epoch)
	}
	return nil
}

func (f *File) index(rec Record, from, to int64) error {
	section := SectionOf(rec.Key)
	f.Counts[section]++
	switch section {
	case NoSection:
		return errs.New(errs.Invalid, "key %q doesn't belong into a backup", rec.Key)
	case ClusterSection:
		c, err := view.Decode[view.Cluster](rec.Value)
		if err != nil {
			return errs.New(errs.Invalid, "cluster record of the backup: %w", err)
		}
		f.Cluster = c
	case ConfigSection:
		order, anew := orderOf(rec)
		if !anew {
			f.keys[rec.Key] = struct{}{}
		}
		if strings.HasPrefix(rec.Key, view.HeadsPrefix) && alive(rec.Value) {
			f.alive[rec.Key] = struct{}{}
		}
		if strings.HasPrefix(rec.Key, agentHeads) {
			if _, err := mapped(rec, &became{}, rec.ModRevision); err != nil {
				return errs.New(errs.Invalid, "%s of the backup: %w", rec.Key, err)
			}
		}
		f.config = append(f.config, place{order: order, at: from, size: int(to - from)})
	default:
		if section == BlobSection {
			if h := manifest.Sum(rec.Value); rec.Key != view.BlobKey(h) {
				return errs.New(errs.Invalid, "%s of the backup doesn't have its key's hash", rec.Key)
			}
		}
		s, ok := f.spans[section]
		if !ok {
			s.from = from
		}
		s.to = to
		f.spans[section] = s
	}
	return nil
}

// walk gives the records of a section in the order of their keys.
func (f *File) walk(section Section) *cursor {
	s := f.spans[section]
	return &cursor{in: bufio.NewReaderSize(io.NewSectionReader(f.f, s.from, s.to-s.from), 64<<10)}
}

// cursor reads records that were read before, so that only the file system can fail.
type cursor struct{ in *bufio.Reader }

// next gives the next record; false: there is none.
func (c *cursor) next() (Record, bool, error) {
	if _, err := c.in.Peek(1); errors.Is(err, io.EOF) {
		return Record{}, false, nil
	}
	r, err := parse(c.in)
	return r, err == nil, err
}

// record reads one record again.
func (f *File) record(p place) (Record, error) {
	return parse(bufio.NewReaderSize(io.NewSectionReader(f.f, p.at, int64(p.size)), min(p.size, 64<<10)))
}

func parse(in *bufio.Reader) (Record, error) {
	var r Record
	text := func() []byte {
		n, err := binary.ReadUvarint(in)
		if err != nil || n > backupfile.MaxValue {
			return nil
		}
		b := make([]byte, n)
		_, _ = io.ReadFull(in, b)
		return b
	}
	r.Key, r.Value = string(text()), text()
	create, err := binary.ReadUvarint(in)
	if err != nil {
		return Record{}, fmt.Errorf("read the spooled backup: %w", err)
	}
	mod, err := binary.ReadUvarint(in)
	if err != nil {
		return Record{}, fmt.Errorf("read the spooled backup: %w", err)
	}
	r.CreateRevision, r.ModRevision = int64(create), int64(mod) //nolint:gosec // G115: was judged when it was received
	return r, nil
}
