package fallback

import (
	"slices"
	"sync"
	"time"
)

// endpoint is one model and how it has done lately.
type endpoint struct {
	Endpoint

	first, most time.Duration

	mu       sync.Mutex // guards the rest
	failures int        // in a row
	until    time.Time  // cools down; it may be tried again afterwards
	trying   bool       // somebody tries it again: the others don't wait for what may hang
}

// claim takes the endpoint for a call; false while it cools down or is being tried again.
func (e *endpoint) claim(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failures == 0 {
		return true
	}
	if e.trying || now.Before(e.until) {
		return false
	}
	e.trying = true
	return true
}

// leave ends a call.
func (e *endpoint) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.trying = false
}

// works notes that it answers, and gives how often it had failed until now.
func (e *endpoint) works() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.failures
	e.failures, e.until, e.trying = 0, time.Time{}, false
	return n
}

// fails notes a failure and gives the cooldown. Calls that fail together count once.
func (e *endpoint) fails(now time.Time, asked time.Duration) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failures == 0 || !now.Before(e.until) {
		e.failures++
	}
	d := e.first << min(e.failures-1, 16)
	if d <= 0 || d > e.most {
		d = e.most
	}
	d = max(d, min(asked, e.most))
	if until := now.Add(d); until.After(e.until) {
		e.until = until
	}
	return e.until.Sub(now)
}

// soonest orders endpoints by the end of their cooldown.
func soonest(all []*endpoint) []*endpoint {
	if len(all) < 2 {
		return all
	}
	ends := make(map[*endpoint]time.Time, len(all))
	for _, e := range all {
		e.mu.Lock()
		ends[e] = e.until
		e.mu.Unlock()
	}
	slices.SortStableFunc(all, func(a, b *endpoint) int { return ends[a].Compare(ends[b]) })
	return all
}
