package stream

import (
	"cmp"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// few is how many streams of one agent are woken at once. More wait in line, so that a change to few overtakes a change to many.
	few = 64
	// atWork is how many streams of the line may be composing and sending at a time: enough to keep every core busy.
	atWork = 32
	// crowd is how many goroutines of a core may wait to run before no more streams begin. What a stream sends is written by another
	// goroutine and its answer is read by two more, so streams that begin as fast as they can compose leave thousands that wait to
	// run. An apply passes about twenty goroutines, most of them etcd's, and would stand behind all of that at each.
	crowd = 32
	// unseen is how many streams begin upon one look at the load.
	unseen = 4
	// again is when the load is looked at anew if no stream that ends its turn and no answer does it before.
	again = time.Millisecond
	// patience is how many such looks may let nobody begin before some do all the same: a process that is crowded for good by other
	// work still gets through its line.
	patience = 10
)

// line wakes many streams in turn, as long as the process keeps up. It has no goroutine: a stream that is done lets the next one
// begin, and so does an answer that was handled; one that ends or waits for a slow reader steps aside first. A stream stands in it at
// most once, so it is bounded by the number of streams.
type line struct {
	some atomic.Bool // some wait; written under the mutex

	mu      sync.Mutex // guards all below, and lined of every conn
	waiting []*conn
	busy    int
	looks   bool        // a look at the load is due
	free    int         // how many may begin before the load is looked at again
	vain    int         // looks in a row that let nobody begin
	endure  int         // how many of them may; 0: patience
	crowded func() bool // whether too many goroutines wait to run; nil: crowdedRuntime, once there is a line
}

// crowdedRuntime asks the Go scheduler, which takes a fifth of a microsecond. What it gives is for one goroutine at a time.
func crowdedRuntime() func() bool {
	sample := []metrics.Sample{{Name: "/sched/goroutines/runnable:goroutines"}}
	most := uint64(crowd * runtime.GOMAXPROCS(0)) //nolint:gosec // G115: never negative
	return func() bool {
		metrics.Read(sample)
		return sample[0].Value.Uint64() > most
	}
}

// join puts streams at the end.
func (l *line) join(conns map[string]*conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		switch {
		case c.lined:
		case !c.writing.Load():
			c.poke() // it looks by itself when it begins, or has ended
		default:
			c.lined = true
			l.waiting = append(l.waiting, c)
		}
	}
	l.advance()
}

// done is called by a stream that has nothing more to send for now, or no longer counts.
func (l *line) done(c *conn) {
	if !c.turn.CompareAndSwap(true, false) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
	l.advance()
}

// answered is called when an answer was handled: answers go before pushes, and now there is room.
func (l *line) answered() {
	if !l.some.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
}

// look is advance after a while.
func (l *line) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks = false
	if l.vain++; l.vain >= cmp.Or(l.endure, patience) {
		l.free = unseen
	}
	l.advance()
}

// advance begins as many as may. The mutex is held.
func (l *line) advance() {
	if l.crowded == nil {
		l.crowded = crowdedRuntime()
	}
	for l.busy < atWork && len(l.waiting) > 0 && l.may() {
		c := l.waiting[0]
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		c.lined = false
		if c.writing.Load() && c.turn.CompareAndSwap(false, true) {
			l.busy++
		}
		c.poke()
	}
	l.some.Store(len(l.waiting) > 0)
	switch {
	case len(l.waiting) == 0:
		l.waiting = nil // gives its memory back after a fan-out
	case !l.looks:
		l.looks = true
		time.AfterFunc(again, l.look)
	}
}

// may reports whether one more may begin for all that waits to run. The mutex is held.
func (l *line) may() bool {
	if l.free == 0 {
		if l.crowded() {
			return false
		}
		l.free = unseen
	}
	l.free--
	l.vain = 0
	return true
}

// begins and ends frame the time in which a stream takes its turns.
func (l *line) begins(c *conn) { c.writing.Store(true) }

func (l *line) ends(c *conn) {
	l.mu.Lock()
	c.writing.Store(false)
	l.mu.Unlock()
	l.done(c)
}
