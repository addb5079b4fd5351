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
	// atWork is how many workers take the turns of the line at most; there are no more than cores, because they wait for nobody.
	atWork = 32
	// crowd is how many goroutines of a core may wait to run before no more streams begin. What is sent is written by a stream's own
	// goroutine and its answer is read by two more, so turns that are taken as fast as they can compose leave thousands that wait to
	// run. An apply passes about twenty goroutines, most of them etcd's, and would stand behind all of that at each.
	crowd = 32
	// alone is how many streams one worker serves without another's help.
	alone = 8
	// unseen is how many streams begin upon one look at the load.
	unseen = 4
	// again is when the load is looked at anew if no stream that ends its turn and no answer does it before.
	again = time.Millisecond
	// patience is how many such looks may let nobody begin before some do all the same: a process that is crowded for good by other
	// work still gets through its line.
	patience = 10
)

// line serves many streams in turn, as long as the process keeps up. A few workers compose and send for all of them: to wake each
// stream's own goroutine for it costs a turn at the scheduler more, and a stack that has to grow. Workers are there only while they
// have something to do. A stream that ends or waits for a slow reader is left to its own goroutine. A stream stands in it at most
// once, so it is bounded by the number of streams.
type line struct {
	some atomic.Bool // some wait; written under the mutex

	mu      sync.Mutex // guards all below, and lined of every conn
	waiting []*conn
	start   func(work func()) // runs a worker that the hub waits for
	busy    int               // workers
	looks   bool              // a look at the load is due
	free    int               // how many may begin before the load is looked at again
	vain    int               // looks in a row that let nobody begin
	endure  int               // how many of them may; 0: patience
	crowded func() bool       // whether too many goroutines wait to run; nil: crowdedRuntime, once there is a line
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

// advance lets workers begin, as many as may. The mutex is held.
func (l *line) advance() {
	if l.crowded == nil {
		l.crowded = crowdedRuntime()
	}
	for l.busy < min(atWork, runtime.GOMAXPROCS(0)) {
		c := l.next()
		if c == nil {
			break
		}
		l.busy++
		l.start(func() { l.work(c) })
		if len(l.waiting) < alone {
			break // it is done with them before another would have begun
		}
	}
	l.rest()
}

// work takes the turns of streams, c's first, until there is none or too many goroutines wait to run.
func (l *line) work(c *conn) {
	for {
		c.push()
		l.mu.Lock()
		if c = l.next(); c == nil {
			l.busy--
			l.rest()
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
	}
}

// next gives a stream whose turn it is; nil: there is none now. The mutex is held. The stream's handler can't end before the mutex is
// free, so who is started for it counts before a Shutdown could have seen the last.
func (l *line) next() *conn {
	for len(l.waiting) > 0 && l.may() {
		c := l.waiting[0]
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		c.lined = false
		if c.writing.Load() {
			return c
		}
		c.poke()
	}
	return nil
}

// rest leaves what still waits for later. The mutex is held.
func (l *line) rest() {
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

// begins and ends frame the time in which workers may take a stream's turns.
func (l *line) begins(c *conn) { c.writing.Store(true) }

func (l *line) ends(c *conn) {
	l.mu.Lock()
	c.writing.Store(false)
	l.mu.Unlock()
}
