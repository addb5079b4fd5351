package configclient

import (
	"math/rand/v2"
	"time"
)

// limit gives a wait that doubles n times from floor to ceiling.
func limit(n int, floor, ceiling time.Duration) time.Duration {
	d := floor
	for ; n > 0 && d < ceiling; n-- {
		d *= 2
	}
	return min(d, ceiling)
}

// backoff gives the n-th wait (from 0) with full jitter.
func backoff(n int, floor, ceiling time.Duration) time.Duration {
	return 1 + rand.N(limit(n, floor, ceiling)) //nolint:gosec // spreads load, no secret
}

// spread gives the n-th wait (from 0) less up to a half.
func spread(n int, floor, ceiling time.Duration) time.Duration {
	d := limit(n, floor, ceiling)
	return d - rand.N(d/2+1) //nolint:gosec // spreads load, no secret
}

// jittered gives d less up to a fifth.
func jittered(d time.Duration) time.Duration {
	return d - rand.N(d/5+1) //nolint:gosec // spreads load, no secret
}
