// Package heartbeat lets a stream show that it lives while it has nothing to say: proxies cut connections that are silent. Doors use it; what a beat
// looks like is theirs.
package heartbeat

import (
	"sync"
	"time"
)

// Every is how long a stream is silent at most. Proxies wait for half a minute, and most for longer.
const Every = 15 * time.Second

// Heart beats whenever nothing was said for a while.
type Heart struct {
	every time.Duration
	beat  func()

	mu      sync.Mutex // held by whoever writes: it puts what is said and the beats one after the other
	timer   *time.Timer
	stopped bool
}

// Start makes a Heart that calls beat after each while of silence; 0: Every. Stop ends it.
func Start(every time.Duration, beat func()) *Heart {
	if every <= 0 {
		every = Every
	}
	h := &Heart{every: every, beat: beat}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(every, h.tick)
	return h
}

// Say calls say, which no beat comes between, and begins the wait anew.
func (h *Heart) Say(say func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	err := say()
	if !h.stopped {
		h.timer.Reset(h.every)
	}
	return err
}

// Stop ends the beats: after it none is under way. It may be called twice.
func (h *Heart) Stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	h.timer.Stop()
}

func (h *Heart) tick() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return
	}
	h.beat()
	h.timer.Reset(h.every)
}
