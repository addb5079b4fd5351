package front

import (
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/agentry/agentry/agentd/run"
)

// maxCallers bounds the callers that are counted apart. Those beyond share one bucket.
const maxCallers = 4096

// limit takes one request off the caller's bucket. Callers without a key of the config are told apart by address, not by what they show,
// which they could change with every request.
func (f *Front) limit(w http.ResponseWriter, c Caller, peer netip.Addr, in run.Inbound) *Refusal {
	if in.PerMinute <= 0 {
		return nil
	}
	burst := in.Burst
	if burst <= 0 {
		burst = max(1, in.PerMinute/6)
	}
	name := "key " + c.Principal
	if !c.Authenticated {
		name = "from " + peer.String()
	}
	wait := f.limits.take(name, f.now(), float64(in.PerMinute)/60, float64(burst))
	if wait == 0 {
		return nil
	}
	seconds := int(math.Ceil(wait.Seconds()))
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	return &Refusal{
		Status: http.StatusTooManyRequests, Code: CodeRateLimited,
		Message: fmt.Sprintf("more than %d requests a minute (%d at once): try again in %d s", in.PerMinute, burst, seconds),
	}
}

// bucket holds tokens: one per request, refilled with time.
type bucket struct {
	tokens float64
	at     time.Time
}

// buckets are those of all callers.
type buckets struct {
	max int

	mu  sync.Mutex // guards by
	by  map[string]*bucket
	all bucket // of those for whom there is no place
}

func newBuckets(most int) *buckets { return &buckets{max: most, by: map[string]*bucket{}} }

// take takes a token at a time, or says how long until there is one. The rate, in tokens per second, and the burst may differ from call to call.
func (b *buckets) take(name string, now time.Time, rate, burst float64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.by[name]
	if one == nil {
		one = b.place(name, now, rate, burst)
	}
	one.refill(now, rate, burst)
	if one.tokens >= 1 {
		one.tokens--
		return 0
	}
	return time.Duration((1 - one.tokens) / rate * float64(time.Second))
}

// place makes a bucket, full. Where there are too many, those that are full again are forgotten, for a new one is no different.
func (b *buckets) place(name string, now time.Time, rate, burst float64) *bucket {
	if len(b.by) >= b.max {
		for other, o := range b.by {
			if o.refill(now, rate, burst); o.tokens >= burst {
				delete(b.by, other)
			}
		}
	}
	if len(b.by) >= b.max {
		if b.all.at.IsZero() {
			b.all = bucket{burst, now}
		}
		return &b.all
	}
	one := &bucket{burst, now}
	b.by[name] = one
	return one
}

func (b *bucket) refill(now time.Time, rate, burst float64) {
	if passed := now.Sub(b.at); passed > 0 {
		b.tokens += passed.Seconds() * rate
		b.at = now
	}
	b.tokens = min(b.tokens, burst)
}
