package gate

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate is a token bucket: how many a second, and how many at once.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Limits bound what callers may ask. A zero field is its default.
type Limits struct {
	Principal Rate          // calls of one principal; default 200/s, 1,000 at once
	Address   Rate          // public calls and failed authentications from one address; default 10/s, 100 at once
	Login     Rate          // logins and bootstraps from one address; default 1 in 5 s, 10 at once
	Denials   Rate          // denied calls of one principal that become audit events; default 1/s, 30 at once
	Streams   int           // streams of one principal at once; default 100
	Keys      int           // principals and addresses that are remembered at once, each; default 10,000
	Unary     time.Duration // how long a unary call may take; default 30 s
	Body      time.Duration // how long a request's body may take to arrive; default 20 s
}

func (l Limits) filled() Limits {
	defaultRate(&l.Principal, Rate{200, 1000})
	defaultRate(&l.Address, Rate{10, 100})
	defaultRate(&l.Login, Rate{0.2, 10})
	defaultRate(&l.Denials, Rate{1, 30})
	if l.Streams == 0 {
		l.Streams = 100
	}
	if l.Keys == 0 {
		l.Keys = 10_000
	}
	if l.Unary == 0 {
		l.Unary = 30 * time.Second
	}
	if l.Body == 0 {
		l.Body = 20 * time.Second
	}
	return l
}

func defaultRate(r *Rate, to Rate) {
	if *r == (Rate{}) {
		*r = to
	}
}

// buckets holds a token bucket for each key. Where there are too many keys, the one that was asked for longest ago goes: it is the
// likeliest to be full again, and then nothing is lost. Who can call from so many addresses that others' buckets are pushed out gives
// those others a fresh one, never less than they had.
type buckets struct {
	rate Rate
	most int

	mu    sync.Mutex
	byKey map[string]*list.Element // guarded by mu, like order
	order *list.List               // of *bucket, the one asked for last in front
}

type bucket struct {
	key string
	lim *rate.Limiter
}

func newBuckets(r Rate, most int) *buckets {
	return &buckets{rate: r, most: most, byKey: map[string]*list.Element{}, order: list.New()}
}

// take takes one token of a key's bucket. Where it is empty it answers how long until there is one.
func (b *buckets) take(key string, now time.Time) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.byKey[key]
	if e == nil {
		if b.order.Len() >= b.most {
			last := b.order.Back()
			delete(b.byKey, b.order.Remove(last).(*bucket).key) //nolint:errcheck,forcetypeassert // the list holds nothing else
		}
		e = b.order.PushFront(&bucket{key: key, lim: rate.NewLimiter(rate.Limit(b.rate.PerSecond), b.rate.Burst)})
		b.byKey[key] = e
	} else {
		b.order.MoveToFront(e)
	}
	lim := e.Value.(*bucket).lim //nolint:errcheck,forcetypeassert // the list holds nothing else
	res := lim.ReserveN(now, 1)
	if wait = res.DelayFrom(now); wait > 0 {
		res.CancelAt(now)
		return wait, false
	}
	return 0, true
}

// slots counts what is open at once for each key. A key with nothing open is forgotten.
type slots struct {
	most int
	mu   sync.Mutex
	open map[string]int // guarded by mu
}

func newSlots(most int) *slots { return &slots{most: most, open: map[string]int{}} }

// take answers false where a key has as many open as it may.
func (s *slots) take(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[key] >= s.most {
		return false
	}
	s.open[key]++
	return true
}

func (s *slots) give(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[key]--; s.open[key] <= 0 {
		delete(s.open, key)
	}
}
