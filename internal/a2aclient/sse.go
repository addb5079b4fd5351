package a2aclient

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"iter"
	"net/http"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/internal/egress"
)

// each reads the events of a stream, and hands them on.
func each(resp *http.Response, limit int64, read func([]byte, *pb.StreamResponse) error, yield func(*pb.StreamResponse, error) bool) {
	for data, err := range sse(resp, limit) {
		ev := &pb.StreamResponse{}
		if err == nil {
			err = read(data, ev)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		if !yield(ev, nil) {
			return
		}
	}
}

// sse gives the data of server-sent events. An event longer than limit ends it, and so does a connection that breaks; a clean end just ends.
func sse(resp *http.Response, limit int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		r := bufio.NewReaderSize(resp.Body, 32<<10)
		for {
			data, err := readEvent(r, limit)
			switch {
			case errors.Is(err, io.EOF):
				return
			case errors.Is(err, errLong):
				yield(nil, err)
				return
			case err != nil:
				yield(nil, link(true, egress.Origin(resp.Request.URL), err))
				return
			}
			if !yield(data, nil) {
				return
			}
		}
	}
}

// readEvent reads up to the blank line that ends an event with data. One that was cut before is none.
func readEvent(r *bufio.Reader, limit int64) ([]byte, error) {
	var data []byte
	some := false
	for {
		line, err := readLine(r, limit)
		if err != nil {
			return nil, err
		}
		if field, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			if some {
				data = append(data, '\n')
			}
			some = true
			data = append(data, bytes.TrimPrefix(field, []byte(" "))...)
		}
		switch {
		case int64(len(data)) > limit:
			return nil, errLong
		case len(line) == 0 && some:
			return data, nil
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
