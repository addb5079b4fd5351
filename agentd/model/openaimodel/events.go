package openaimodel

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"sync"
)

// events reads server-sent events as chat endpoints write them: each data line is one. Comments, event names and empty lines are passed
// over; lines of no such kind are kept, for some servers end a stream with a bare error object.
type events struct {
	r     *bufio.Reader
	long  []byte // a line that is longer than the reader's buffer
	stray []byte
	done  bool // the server said [DONE]
}

// maxStray bounds what is kept of lines that are no events, in bytes.
const maxStray = maxErrorBody

// readers are for streams, 4 KiB each.
var readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }} //nolint:gochecknoglobals // a pool serves all

func newEvents(r io.Reader) *events {
	br, _ := readers.Get().(*bufio.Reader)
	br.Reset(r)
	return &events{r: br}
}

// close gives the reader back: what next gave must not be used any more.
func (e *events) close() {
	e.r.Reset(nil)
	readers.Put(e.r)
	e.r = nil
}

// next gives the data of the next event, which is valid until the next call. io.EOF says that the stream ended, done whether the server
// said so.
func (e *events) next() ([]byte, error) {
	for {
		line, err := e.line()
		line = bytes.TrimSpace(line)
		data, ok := bytes.CutPrefix(line, []byte("data:"))
		switch {
		case ok:
			if data = bytes.TrimLeft(data, " \t"); string(data) == "[DONE]" {
				e.done = true
				return nil, io.EOF
			}
			if len(data) > 0 {
				return data, nil // an error comes again
			}
		case len(line) > 0 && line[0] == '{', len(e.stray) > 0:
			if len(e.stray)+len(line) <= maxStray {
				e.stray = append(e.stray, line...)
			}
		}
		if err != nil {
			return nil, e.ended(err)
		}
	}
}

// drain reads what follows [DONE], which is the end as a rule.
func (e *events) drain() {
	for n := 0; n < 4096; {
		d, err := e.r.Discard(max(e.r.Buffered(), 1))
		if n += d; err != nil {
			return
		}
	}
}

// ended gives the error of a stream that is over: the server's own where it wrote one.
func (e *events) ended(err error) error {
	var said struct {
		Error *refusal `json:"error"`
	}
	if len(e.stray) > 0 && errors.Is(err, io.EOF) && json.Unmarshal(e.stray, &said) == nil && said.Error.said() {
		return said.Error
	}
	return err
}

func (e *events) line() ([]byte, error) {
	line, err := e.r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	e.long = e.long[:0]
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(e.long)+len(line) > maxEvent {
			return nil, errTooLarge
		}
		e.long = append(e.long, line...)
		line, err = e.r.ReadSlice('\n')
	}
	e.long = append(e.long, line...)
	return e.long, err
}
