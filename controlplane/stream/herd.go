package stream

import (
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
)

// How long an instance that is sent away stays away, at least and at most.
const (
	awayMin = 100 * time.Millisecond
	awayMax = 30 * time.Second
)

// duplicateSpread is for the older of two streams of one id: if its process still lives, it takes the id back, so not at once.
const duplicateSpread = 5 * time.Second

// rebalanceSpread is for streams that are old: they come back at once, one by one as they grew old.
const rebalanceSpread = time.Second

// ageGrace is how long the last offer of a stream that is old enough may still be answered.
const ageGrace = 15 * time.Second

// bucket admits new streams at a rate, some more after a pause, and tells the others when there will be room. It is pure.
type bucket struct {
	rate, burst float64

	tokens float64
	turned float64 // how many were turned away and are expected back; it falls at the rate
	at     time.Time
}

func newBucket(rate, burst int) *bucket {
	return &bucket{rate: float64(rate), burst: float64(burst), tokens: float64(burst)}
}

// take gives 0 to whoever may come in, else how long those before it will take.
func (b *bucket) take(now time.Time) time.Duration {
	if gained := now.Sub(b.at).Seconds() * b.rate; b.at.IsZero() || gained > 0 {
		if !b.at.IsZero() {
			b.tokens = min(b.burst, b.tokens+gained)
			b.turned = max(0, b.turned-gained)
		}
		b.at = now
	}
	if b.tokens >= 1 {
		b.tokens--
		return 0
	}
	b.turned++
	return time.Duration(b.turned / b.rate * float64(time.Second))
}

// gate is a bucket for many goroutines.
type gate struct {
	mu     sync.Mutex // guards bucket
	bucket *bucket
}

// admit gives nil, or the goodbye to whoever comes too early.
func (g *gate) admit(now time.Time) *pushv1.Goaway {
	g.mu.Lock()
	after := g.bucket.take(now)
	g.mu.Unlock()
	if after == 0 {
		return nil
	}
	return away("busy", min(after, awayMax)/2, min(after, awayMax))
}

// goaway sends an instance away for a random time within spread.
func goaway(reason string, spread time.Duration) *pushv1.Goaway { return away(reason, 0, spread) }

// away sends an instance away for at least awayMin and a part more, and a random time within spread after that.
func away(reason string, part, spread time.Duration) *pushv1.Goaway {
	after := awayMin + part + rand.N(max(spread, time.Millisecond)) //nolint:gosec // spreads load, guards nothing
	return &pushv1.Goaway{Reason: reason, RetryAfter: durationpb.New(after)}
}

// spread is the time over which so many instances should come back: twice as long as opening their streams takes, because the
// replica that they find has others to serve too.
func (h *Hub) spread(streams int) time.Duration {
	return min(time.Duration(2*float64(streams)/float64(h.cfg.OpenRate)*float64(time.Second)), h.cfg.Spread)
}

// age gives how long a new stream may live: within a tenth of MaxAge, so that those which began together don't end together.
func (h *Hub) age() time.Duration {
	return h.cfg.MaxAge*9/10 + rand.N(h.cfg.MaxAge/5+1) //nolint:gosec // spreads load, guards nothing
}

// retires reports whether a stream that is old ends now: not while the instance has something to answer, unless it was given its time.
func (c *conn) retires(late bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return late || !c.slot.open
}
