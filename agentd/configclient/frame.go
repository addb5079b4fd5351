package configclient

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Every file that carries state is one frame:
//
//	offset  bytes
//	     0      8  magic
//	     8      4  schema version
//	    12      4  length of the body
//	    16      8  sequence, rising with every write of a generation
//	    24      8  epoch
//	    32      8  revision
//	    40     32  SHA-256 over bytes 0 to 39 and the body
//	    72         body, strict JSON
//
// Numbers are big endian. A frame is taken whole or not at all.
const (
	schemaVersion = 1
	headerSize    = 72
	sumOffset     = 40
	maxBody       = 64 << 20
	magicGood     = "AGNTGOOD"
	magicMemory   = "AGNTMEMO"
	magicIdentity = "AGNTIDEN"
)

var (
	errCorrupt = errors.New("corrupt")
	errSchema  = errors.New("written by another version")
)

type header struct {
	Sequence uint64
	Epoch    uint64
	Revision int64
}

// encodeFrame makes a frame of body's JSON.
func encodeFrame(magic string, h header, body any) ([]byte, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	if len(raw) > maxBody {
		return nil, fmt.Errorf("encode state: %d bytes, at most %d", len(raw), maxBody)
	}
	out := make([]byte, headerSize, headerSize+len(raw))
	copy(out, magic)
	binary.BigEndian.PutUint32(out[8:], schemaVersion)
	binary.BigEndian.PutUint32(out[12:], uint32(len(raw))) //nolint:gosec // bounded by maxBody above
	binary.BigEndian.PutUint64(out[16:], h.Sequence)
	binary.BigEndian.PutUint64(out[24:], h.Epoch)
	binary.BigEndian.PutUint64(out[32:], uint64(h.Revision)) //nolint:gosec // the same 64 bits, read back as they were
	out = append(out, raw...)
	sum := frameSum(out)
	copy(out[sumOffset:], sum[:])
	return out, nil
}

func frameSum(frame []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(frame[:sumOffset])
	h.Write(frame[headerSize:])
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}

// decodeFrame checks a frame and reads its body. Errors are errCorrupt or errSchema, wrapped with what was found.
func decodeFrame(magic string, frame []byte, body any) (header, error) {
	switch {
	case len(frame) < headerSize:
		return header{}, fmt.Errorf("%w: %d bytes, a header has %d", errCorrupt, len(frame), headerSize)
	case string(frame[:8]) != magic:
		return header{}, fmt.Errorf("%w: not a file of this kind", errCorrupt)
	}
	if v := binary.BigEndian.Uint32(frame[8:]); v != schemaVersion {
		return header{}, fmt.Errorf("%w: schema %d, this is %d", errSchema, v, schemaVersion)
	}
	if n := binary.BigEndian.Uint32(frame[12:]); int64(n) != int64(len(frame)-headerSize) {
		return header{}, fmt.Errorf("%w: body of %d bytes, header says %d", errCorrupt, len(frame)-headerSize, n)
	}
	sum := frameSum(frame)
	if subtle.ConstantTimeCompare(sum[:], frame[sumOffset:headerSize]) != 1 {
		return header{}, fmt.Errorf("%w: checksum differs", errCorrupt)
	}
	dec := json.NewDecoder(bytes.NewReader(frame[headerSize:]))
	dec.DisallowUnknownFields()
	if err := dec.Decode(body); err != nil {
		return header{}, fmt.Errorf("%w: body: %w", errCorrupt, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return header{}, fmt.Errorf("%w: bytes after the body", errCorrupt)
	}
	return header{
		Sequence: binary.BigEndian.Uint64(frame[16:]),
		Epoch:    binary.BigEndian.Uint64(frame[24:]),
		Revision: int64(binary.BigEndian.Uint64(frame[32:])), //nolint:gosec // the same 64 bits, as they were written
	}, nil
}

// writeFile replaces path by content so that a crash leaves the old file or the new one: write aside, sync, rename, sync
// the folder.
func writeFile(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".tmp-"+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = synced(f)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the state directory, from the settings
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	err = synced(d)
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// synced returns once what was written to f outlives a loss of power.
func synced(f *os.File) error {
	// gofail: var mutateSkipSync struct{}
	// return nil

	return f.Sync()
}
