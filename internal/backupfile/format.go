// Package backupfile is the form of a backup: a header, records in the order of their keys, and a checksum over all of it. The control
// plane writes and reads it, agentctl checks with it what it received or is about to send. It knows nothing of what is kept.
package backupfile

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/agentry/agentry/internal/errs"
)

// Format is the version of the file that this release writes; it reads that one and no other.
const Format = 1

// magic is the file's first line, so that a person and `file` see what it is.
const magic = "agentry backup\n"

// Header is the file's second line, as JSON.
type Header struct {
	Format    int       `json:"format"`
	ClusterID string    `json:"clusterId"`
	Epoch     uint64    `json:"epoch"`
	Revision  int64     `json:"revision"` // of the store that was backed up; all records are as of it
	Taken     time.Time `json:"taken"`
	Version   string    `json:"version"` // of the controlplane that wrote the file
	// KEK names the key-encryption key that sealed values were sealed with when the backup was taken. The key isn't in the file.
	KEK string `json:"kek"`
}

// Record is one stored key with the revisions of its first and its last write.
type Record struct {
	Key            string
	Value          []byte
	CreateRevision int64
	ModRevision    int64
}

// After the two lines come the records in ascending order of their keys: uvarint length and bytes of the key, the same of the value,
// uvarint create and modify revision. A key of length 0 ends them; then follow the number of records as uvarint and the SHA-256 of
// everything before it. Nothing comes after.

// The most that a reader takes, so that a broken length can't ask for all memory.
const (
	maxHeader = 64 << 10
	maxKey    = 4 << 10
	// MaxValue is the most bytes of one value.
	MaxValue = 64 << 20
)

// Writer writes the format. It is for one goroutine.
type Writer struct {
	out     io.Writer
	sum     hash.Hash
	records uint64
	bytes   int64
	scratch []byte
}

// NewWriter begins a file.
func NewWriter(out io.Writer, h Header) (*Writer, error) {
	w := &Writer{out: out, sum: sha256.New()}
	line, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("backup header: %w", err)
	}
	return w, w.write(append(append([]byte(magic), line...), '\n'))
}

// Add writes one record. Keys must ascend.
func (w *Writer) Add(r Record) error {
	b := binary.AppendUvarint(w.scratch[:0], uint64(len(r.Key)))
	b = append(b, r.Key...)
	b = binary.AppendUvarint(b, uint64(len(r.Value)))
	b = append(b, r.Value...)
	b = binary.AppendUvarint(b, uint64(r.CreateRevision)) //nolint:gosec // G115: revisions are positive
	b = binary.AppendUvarint(b, uint64(r.ModRevision))    //nolint:gosec // G115: revisions are positive
	w.scratch = b
	w.records++
	return w.write(b)
}

// Close ends the file; the writer below is the caller's to close.
func (w *Writer) Close() error {
	if err := w.write(binary.AppendUvarint([]byte{0}, w.records)); err != nil {
		return err
	}
	return w.write(w.sum.Sum(nil))
}

// Count gives the records and bytes written so far.
func (w *Writer) Count() (records uint64, bytes int64) { return w.records, w.bytes }

func (w *Writer) write(b []byte) error {
	w.sum.Write(b)
	n, err := w.out.Write(b)
	w.bytes += int64(n)
	return err
}

// Reader reads the format. It is for one goroutine and needs memory for one record at a time.
type Reader struct {
	Header Header

	in      *bufio.Reader
	sum     hash.Hash
	at      int64 // bytes read
	records uint64
	last    string
	done    bool
}

// NewReader reads the beginning of a file. What isn't a backup, or one of another format, is errs.Invalid.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 64<<10), sum: sha256.New()}
	if got, err := r.take(len(magic)); err != nil || string(got) != magic {
		return nil, errs.New(errs.Invalid, "not a backup: the file doesn't begin with %q", magic[:len(magic)-1])
	}
	line, err := r.line()
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(line, &r.Header); err != nil {
		return nil, errs.New(errs.Invalid, "header of the backup: %w", err)
	}
	if h := r.Header; h.Format != Format {
		return nil, errs.New(errs.Invalid, "the backup has format %d (written by controlplane %s), this release reads format %d", h.Format, h.Version, Format)
	}
	if h := r.Header; h.ClusterID == "" || h.Epoch == 0 || h.Revision <= 0 {
		return nil, errs.New(errs.Invalid, "header of the backup: cluster %q, epoch %d, revision %d", h.ClusterID, h.Epoch, h.Revision)
	}
	return r, nil
}

// Next gives the next record, whose value is the caller's, and io.EOF after the last one, once everything was checked: only then is
// any record known to be whole. A file that was cut, changed or written on is errs.Invalid.
func (r *Reader) Next() (Record, error) {
	if r.done {
		return Record{}, io.EOF
	}
	key, err := r.text(maxKey)
	if err != nil {
		return Record{}, err
	}
	if len(key) == 0 {
		if err := r.end(); err != nil {
			return Record{}, err
		}
		r.done = true
		return Record{}, io.EOF
	}
	out := Record{Key: string(key)}
	if out.Value, err = r.text(MaxValue); err != nil {
		return Record{}, err
	}
	create, err := r.number()
	if err != nil {
		return Record{}, err
	}
	mod, err := r.number()
	if err != nil {
		return Record{}, err
	}
	out.CreateRevision, out.ModRevision = int64(create), int64(mod) //nolint:gosec // G115: judged in the next line
	switch {
	case out.CreateRevision <= 0 || out.ModRevision < out.CreateRevision || out.ModRevision > r.Header.Revision:
		return Record{}, r.broken("key %q was made at revision %d and written at %d", out.Key, out.CreateRevision, out.ModRevision)
	case out.Key <= r.last:
		return Record{}, r.broken("key %q comes after %q", out.Key, r.last)
	}
	r.last = out.Key
	r.records++
	return out, nil
}

// Count gives the records and bytes read so far.
func (r *Reader) Count() (records uint64, bytes int64) { return r.records, r.at }

func (r *Reader) end() error {
	n, err := r.number()
	if err != nil {
		return err
	}
	want := r.sum.Sum(nil)
	got, err := r.take(sha256.Size)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(got, want):
		return r.broken("the checksum at its end is another")
	case n != r.records:
		return r.broken("it holds %d records and says %d", r.records, n)
	}
	if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
		return r.broken("something follows its end")
	}
	return nil
}

func (r *Reader) line() ([]byte, error) {
	var out []byte
	for len(out) < maxHeader {
		b, err := r.take(1)
		if err != nil {
			return nil, err
		}
		if b[0] == '\n' {
			return out, nil
		}
		out = append(out, b[0])
	}
	return nil, r.broken("its header is longer than %d bytes", maxHeader)
}

func (r *Reader) text(most uint64) ([]byte, error) {
	n, err := r.number()
	if err != nil {
		return nil, err
	}
	if n > most {
		return nil, r.broken("it says that %d bytes follow, at most %d are possible", n, most)
	}
	return r.take(int(n)) //nolint:gosec // G115: at most 64 MiB
}

// chunk bounds what is allocated for bytes that may not be there.
const chunk = 1 << 20

func (r *Reader) take(n int) ([]byte, error) {
	out := make([]byte, 0, min(n, chunk))
	for len(out) < n {
		from := len(out)
		out = append(out, make([]byte, min(n-from, chunk))...)
		got, err := io.ReadFull(r.in, out[from:])
		r.at += int64(got)
		if err != nil {
			return nil, r.cut(err)
		}
	}
	r.sum.Write(out)
	return out, nil
}

func (r *Reader) number() (uint64, error) {
	n, err := binary.ReadUvarint(counting{r})
	if errs.Is(err, errs.Invalid) {
		return 0, err
	}
	if err != nil {
		return 0, r.broken("a number: %w", err)
	}
	return n, nil
}

// counting reads single bytes and counts them.
type counting struct{ *Reader }

// ReadByte reads one.
func (c counting) ReadByte() (byte, error) {
	b, err := c.in.ReadByte()
	if err != nil {
		return 0, c.cut(err)
	}
	c.at++
	c.sum.Write([]byte{b})
	return b, nil
}

func (r *Reader) cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return r.broken("it ends too early")
	}
	return fmt.Errorf("read the backup: %w", err)
}

func (r *Reader) broken(format string, args ...any) error {
	return errs.New(errs.Invalid, "the backup is broken at byte %d: "+format, append([]any{r.at}, args...)...)
}
