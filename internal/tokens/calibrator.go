package tokens

import (
	"math"
	"sync/atomic"
)

// The bounds of a Calibrator's factor: beyond them the counts are of something else than the texts.
const (
	minFactor = 0.25
	maxFactor = 4
	// weight is that of the newest observation.
	weight = 0.2
)

// Calibrator learns how far a model's own counts are from the estimate. Its zero value is ready, with a factor of 1; a nil one stays there.
// It may be used from many goroutines.
type Calibrator struct{ bits atomic.Uint64 } // of a float64; 0: no observation yet

// Factor gives actual by estimated tokens as observed, from 0.25 to 4.
func (c *Calibrator) Factor() float64 {
	if c == nil {
		return 1
	}
	if b := c.bits.Load(); b != 0 {
		return math.Float64frombits(b)
	}
	return 1
}

// Observe learns from one call's counts; ones that are not positive are ignored.
func (c *Calibrator) Observe(estimated, actual int64) {
	if c == nil || estimated <= 0 || actual <= 0 {
		return
	}
	seen := min(max(float64(actual)/float64(estimated), minFactor), maxFactor)
	for {
		old := c.bits.Load()
		next := seen
		if old != 0 {
			next = (1-weight)*math.Float64frombits(old) + weight*seen
		}
		if c.bits.CompareAndSwap(old, math.Float64bits(next)) {
			return
		}
	}
}

// Estimate gives the tokens of s by Estimate and the factor, rounded up.
func (c *Calibrator) Estimate(s string) int {
	return int(math.Ceil(float64(Estimate(s)) * c.Factor()))
}
