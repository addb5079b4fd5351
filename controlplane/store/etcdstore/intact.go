package etcdstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/agentry/agentry/internal/errs"
)

// The head of a page that says where the tree's root is, as bbolt lays it out. There are two, at the first two pages, in
// the machine's own byte order.
const (
	metaAt        = 16 // behind the page's own head
	metaMagic     = 0xED0CDAED
	metaSumAt     = 56
	metaLen       = metaSumAt + 8
	minPage       = 1 << 10
	maxPage       = 1 << 24
	pageSizeAt    = 8
	highestAt     = 40 // the page behind the last one
	transaction   = 48
	restoreAdvice = "restore the data directory from a backup (or move it away to begin with an empty store)"
)

// intact refuses a database file that was cut short, before etcd maps it: etcd opens it in a goroutine of its own, where a
// panic or a read behind the end of the file ends the process with a stack trace.
func intact(dir string) error {
	file := filepath.Join(dir, "member", "snap", "db")
	logs, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	if err != nil {
		return err
	}
	damaged := func(format string, args ...any) error {
		return errs.New(errs.Precondition, "%s is damaged: %s; %s", file, fmt.Sprintf(format, args...), restoreAdvice)
	}
	f, err := os.Open(file) //nolint:gosec // G304: below the data directory that a person chose
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(logs) == 0:
		return nil // a new store
	case errors.Is(err, fs.ErrNotExist):
		return damaged("it is missing, but its log is there")
	case err != nil:
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case info.Size() == 0 && len(logs) == 0:
		return nil
	}
	m, ok := newestMeta(f)
	switch {
	case !ok:
		return damaged("none of its two heads is valid (%d bytes)", info.Size())
	case uint64(info.Size())/m.page < m.pages: //nolint:gosec // a size isn't negative
		return damaged("it has %d bytes where %d pages of %d bytes should be", info.Size(), m.pages, m.page)
	}
	return nil
}

// meta is what counts of one of the two heads.
type meta struct{ page, pages, txn uint64 }

// newestMeta gives the head that bbolt would go by.
func newestMeta(f *os.File) (best meta, ok bool) {
	offsets := []int64{0}
	for page := int64(minPage); page <= maxPage; page <<= 1 {
		offsets = append(offsets, page)
	}
	for _, at := range offsets {
		m, valid := readMeta(f, at)
		if valid && (at == 0 || m.page == uint64(at)) && (!ok || m.txn > best.txn) { //nolint:gosec // at isn't negative
			best, ok = m, true
		}
	}
	return best, ok
}

func readMeta(f *os.File, at int64) (meta, bool) {
	b := make([]byte, metaLen)
	if _, err := f.ReadAt(b, at+metaAt); err != nil {
		return meta{}, false
	}
	order := binary.NativeEndian
	sum := fnv.New64a()
	_, _ = bytes.NewReader(b[:metaSumAt]).WriteTo(sum)
	m := meta{page: uint64(order.Uint32(b[pageSizeAt:])), pages: order.Uint64(b[highestAt:]), txn: order.Uint64(b[transaction:])}
	valid := order.Uint32(b) == metaMagic && order.Uint64(b[metaSumAt:]) == sum.Sum64()
	return m, valid && m.page >= minPage && m.page <= maxPage
}
