package stream

import "sync"

// few is how many streams of one agent are woken at once. More wait in line, so that a change to few overtakes a change to many.
const few = 64

// atWork is how many streams of the line may be composing and sending at a time: enough to keep every core busy, and so few that
// whoever isn't in the line (an answer, a change to few) waits for about a millisecond.
const atWork = 32

// line wakes many streams in turn. It has no goroutine: a stream that is done lets the next one begin, and one that ends or waits
// for a slow reader steps aside first. A stream stands in it at most once, so it is bounded by the number of streams.
type line struct {
	mu      sync.Mutex // guards all, and lined of every conn
	waiting []*conn
	busy    int
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

// advance begins as many as may. The mutex is held.
func (l *line) advance() {
	for l.busy < atWork && len(l.waiting) > 0 {
		c := l.waiting[0]
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		c.lined = false
		if c.writing.Load() && c.turn.CompareAndSwap(false, true) {
			l.busy++
		}
		c.poke()
	}
	if len(l.waiting) == 0 {
		l.waiting = nil // gives its memory back after a fan-out
	}
}

// begins and ends frame the time in which a stream takes its turns.
func (l *line) begins(c *conn) { c.writing.Store(true) }

func (l *line) ends(c *conn) {
	l.mu.Lock()
	c.writing.Store(false)
	l.mu.Unlock()
	l.done(c)
}
