// Package filesink appends audit entries to a file, one line of JSON each, in the form that package auditchain verifies. Package app
// makes one for --audit-file; audit.Forward alone uses it. It never changes a line that is written, and keeps no entry in memory.
package filesink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/internal/auditchain"
	"github.com/agentry/agentry/internal/errs"
)

// tail is how much of a file's end is read at a time to find its last line.
const tail = 64 << 10

// Sink is a file. It is safe for concurrent use.
type Sink struct {
	path string

	mu   sync.Mutex // guards what follows
	file *os.File
	at   auditchain.Point // of the last line
}

// Open opens a file (0600, made if it isn't there) and reads where it ends. A last line that was cut off, as by a crash, is
// removed: its entry is written again.
func Open(path string) (*Sink, error) {
	s := &Sink{path: path}
	if err := s.open(); err != nil {
		return nil, err
	}
	at, end, err := last(s.file)
	if err == nil {
		err = s.file.Truncate(end)
	}
	if err != nil {
		_ = s.file.Close()
		return nil, fmt.Errorf("audit file %s: %w", path, err)
	}
	s.at = at
	return s, nil
}

func (s *Sink) open() error {
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("audit file: %w", err)
	}
	s.file = f
	return nil
}

// last gives the last whole line's entry and where it ends.
func last(f *os.File) (auditchain.Point, int64, error) {
	info, err := f.Stat()
	if err != nil {
		return auditchain.Point{}, 0, err
	}
	var text []byte // the file's end
	for from := info.Size(); from > 0; {
		n := min(from, tail)
		from -= n
		part := make([]byte, n)
		if _, err := f.ReadAt(part, from); err != nil && !errors.Is(err, io.EOF) {
			return auditchain.Point{}, 0, err
		}
		text = slices.Concat(part, text)
		end := bytes.LastIndexByte(text, '\n')
		if end < 0 {
			continue
		}
		begin := bytes.LastIndexByte(text[:end], '\n')
		if begin < 0 && from > 0 {
			continue
		}
		l, _, seq, err := auditchain.ParseLine(text[begin+1 : end])
		if err != nil {
			return auditchain.Point{}, 0, fmt.Errorf("its last line can't be read, move the file away: %w", err)
		}
		return auditchain.Point{Seq: seq, Hash: l.Hash}, from + int64(end) + 1, nil
	}
	const begins = `{"hash":"`
	if n := min(len(text), len(begins)); string(text[:n]) != begins[:n] {
		return auditchain.Point{}, 0, errs.New(errs.Precondition, "it is no audit file: name another")
	}
	return auditchain.Point{}, 0, nil
}

// Position is the seq of the last line; 0 where there is none.
func (s *Sink) Position() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at.Seq
}

// Begin does nothing: a new file begins with the window.
func (*Sink) Begin(int64) error { return nil }

// Write appends entries and waits until they are on disk. A file that was moved away is made anew, and goes on with these.
func (s *Sink) Write(_ context.Context, entries []audit.Chained) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reopen(); err != nil {
		return err
	}
	info, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("audit file: %w", err)
	}
	var text []byte
	at := s.at
	for _, e := range entries {
		previous := at.Hash
		if e.Seq != at.Seq+1 || previous == "" {
			previous = e.Previous
		}
		text = auditchain.AppendLine(text, e.Link, previous)
		at = auditchain.Point{Seq: e.Seq, Hash: e.Hash}
	}
	if _, err = s.file.Write(text); err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		// What was written in part must not stay: the entries come again.
		return fmt.Errorf("audit file: %w", errors.Join(err, s.file.Truncate(info.Size())))
	}
	s.at = at
	return nil
}

// reopen opens the path anew where it isn't the open file any more.
func (s *Sink) reopen() error {
	is, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("audit file: %w", err)
	}
	named, err := os.Stat(s.path)
	if err == nil && os.SameFile(is, named) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("audit file: %w", err)
	}
	old := s.file
	if err := s.open(); err != nil {
		return err
	}
	_ = old.Close()
	return nil
}

// Close closes the file.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file.Close()
}

var _ audit.Sink = (*Sink)(nil)
