package identityapi

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// The rate of enrollments of one address.
	enrollRate  = 20
	enrollBurst = 100
	// renewals is how often an identity may renew within the life of a certificate, and at once. It needs two.
	renewals = 20
	// maxClients is how many addresses or identities are told apart. Beyond that the others share one limit.
	maxClients = 4096
)

// clients bounds how fast each address may enroll, or each identity renew.
type clients struct {
	rate  rate.Limit
	burst int

	mu     sync.Mutex // guards what follows
	by     map[string]*rate.Limiter
	others *rate.Limiter
}

func newClients(r rate.Limit, burst int) *clients {
	return &clients{rate: r, burst: burst, by: map[string]*rate.Limiter{}, others: rate.NewLimiter(enrollRate, enrollBurst)}
}

// take reports whether a client may go on now.
func (c *clients) take(client string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.by[client]
	if l == nil {
		if len(c.by) >= maxClients {
			c.forget(now)
		}
		if len(c.by) >= maxClients {
			return c.others.AllowN(now, 1)
		}
		l = rate.NewLimiter(c.rate, c.burst)
		c.by[client] = l
	}
	return l.AllowN(now, 1)
}

// forget drops who has its whole burst again.
func (c *clients) forget(now time.Time) {
	for a, l := range c.by {
		if l.TokensAt(now) >= float64(c.burst) {
			delete(c.by, a)
		}
	}
}
