package a2aclient

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"iter"
	"net/http"

	"github.com/agentry/agentry/internal/egress"
)

// sse gives the data of server-sent events. An event longer than limit ends it, and so does a connection that breaks; a clean end just ends.
func sse(resp *http.Response, limit int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		r := bufio.NewReaderSize(resp.Body, 32<<10)
		var data []byte
		some := false
		for {
			line, err := readLine(r, limit)
			field, isData := bytes.CutPrefix(line, []byte("data:"))
			switch {
			case err != nil && !errors.Is(err, io.EOF):
				if !errors.Is(err, errLong) {
					err = link(true, egress.Origin(resp.Request.URL), err)
				}
				yield(nil, err)
				return
			case isData:
				if some {
					data = append(data, '\n')
				}
				some = true
				if data = append(data, bytes.TrimPrefix(field, []byte(" "))...); int64(len(data)) > limit {
					yield(nil, errLong)
					return
				}
			case len(line) == 0 && some && err == nil: // one without its blank line was cut
				if !yield(data, nil) {
					return
				}
				data, some = nil, false
			}
			if err != nil {
				return
			}
		}
	}
}

var errLong = invalid("an event is too large")

// readLine reads a line without its end, by CRLF, LF or the end of the body.
func readLine(r *bufio.Reader, limit int64) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if int64(len(line)) > limit {
			return nil, errLong
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), err
		}
	}
}
