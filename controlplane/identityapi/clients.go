package identityapi

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The rate of enrollments of one address, and how many addresses are told apart. Beyond that the others share one.
const (
	enrollRate  = 20
	enrollBurst = 100
	maxClients  = 4096
)

// clients bounds how fast each address may enroll.
type clients struct {
	mu     sync.Mutex // guards what follows
	by     map[string]*rate.Limiter
	others *rate.Limiter
}

func newClients() *clients {
	return &clients{by: map[string]*rate.Limiter{}, others: rate.NewLimiter(enrollRate, enrollBurst)}
}

// take reports whether an address may enroll now.
func (c *clients) take(address string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.by[address]
	if l == nil {
		if len(c.by) >= maxClients {
			c.forget(now)
		}
		if len(c.by) >= maxClients {
			return c.others.AllowN(now, 1)
		}
		l = rate.NewLimiter(enrollRate, enrollBurst)
		c.by[address] = l
	}
	return l.AllowN(now, 1)
}

// forget drops who has its whole burst again.
func (c *clients) forget(now time.Time) {
	for a, l := range c.by {
		if l.TokensAt(now) >= enrollBurst {
			delete(c.by, a)
		}
	}
}
