package publish

import (
	"sync"
	"sync/atomic"
)

// Of small contents the newest are kept, the others are marshalled again for who needs them, which is cheaper than keeping one for
// each of thousands of agents with one instance. Larger ones are kept while their config is: what a crowd of streams is sent
// must be in memory once.
const (
	smallContent = 16 << 10
	keptSmall    = 1 << 20 // bytes
)

// writer is what contents have in common. It is safe for concurrent use; the zero value is ready.
type writer struct {
	marshals atomic.Uint64

	mu    sync.Mutex // guards what follows; a form's is never held when it is taken
	small []wrote    // oldest first
	size  int        // of their bytes
}

type wrote struct {
	form *form
	size int
}

// wrote keeps what was just marshalled, and lets the oldest go for it.
func (w *writer) wrote(f *form, size int) {
	if size > smallContent {
		return
	}
	for _, old := range w.enter(wrote{form: f, size: size}) {
		old.form.forget()
	}
}

func (w *writer) enter(f wrote) (out []wrote) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.small = append(w.small, f)
	w.size += f.size
	n := 0
	for w.size > keptSmall {
		w.size -= w.small[n].size
		n++
	}
	out = append(out, w.small[:n]...)
	clear(w.small[:n])
	w.small = w.small[n:]
	return out
}
