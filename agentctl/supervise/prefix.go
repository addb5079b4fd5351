package supervise

import (
	"bytes"
	"io"
	"sync"
)

// maxLine bounds what is kept of a line without an end; a longer one is printed in pieces.
const maxLine = 64 << 10

// prefixer writes whole lines of many writers to one, each behind its writer's name.
type prefixer struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

func (p *prefixer) line(name, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.w, name+" | "+text+"\n")
}

func (p *prefixer) writer(name string) *lineWriter { return &lineWriter{to: p, name: name} }

// lineWriter splits one child's output into lines. It is used by that child's one copying goroutine.
type lineWriter struct {
	to   *prefixer
	name string
	buf  []byte
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.buf = append(w.buf, b...)
	for {
		i := bytes.IndexByte(w.buf, '\n')
		if i < 0 {
			break
		}
		w.to.line(w.name, string(bytes.TrimSuffix(w.buf[:i], []byte("\r"))))
		w.buf = w.buf[i+1:]
	}
	if len(w.buf) > maxLine {
		w.flush()
	}
	return len(b), nil
}

func (w *lineWriter) flush() {
	if len(w.buf) > 0 {
		w.to.line(w.name, string(w.buf))
		w.buf = nil
	}
}
