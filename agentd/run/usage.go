package run

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentry/agentry/agentd/engine"
)

// maxConfigs bounds the configs that are counted apart between two beats; what comes beyond is counted under "".
const maxConfigs = 64

// Buckets is the number of latency buckets.
const Buckets = 13

// bounds are push.proto's, in milliseconds; the last bucket has none.
func bounds() [Buckets - 1]int64 {
	return [Buckets - 1]int64{5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000}
}

// Usage counts requests of one config. Errors are requests that failed other than by the caller's leaving; Latency holds counts per bucket
// (not cumulative) with push.proto's bounds.
type Usage struct {
	Config       string
	Requests     uint64
	Errors       uint64
	Latency      [Buckets]uint64
	InputTokens  uint64
	OutputTokens uint64
}

// ledger counts. A request touches it once, at its end.
type ledger struct {
	mu    sync.Mutex // guards usage and total
	usage map[string]*Usage
	total Usage
}

func (l *ledger) add(config string, took time.Duration, u engine.Usage, bad bool) {
	bucket := Buckets - 1
	for i, b := range bounds() {
		if took <= time.Duration(b)*time.Millisecond {
			bucket = i
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, to := range []*Usage{l.of(config), &l.total} {
		to.Requests++
		to.Latency[bucket]++
		to.count(u)
		if bad {
			to.Errors++
		}
	}
}

// spend counts tokens that no request asked for.
func (l *ledger) spend(config string, u engine.Usage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of(config).count(u)
	l.total.count(u)
}

func (u *Usage) count(e engine.Usage) {
	u.InputTokens += uint64(max(e.Input, 0))   // #nosec G115 -- not negative
	u.OutputTokens += uint64(max(e.Output, 0)) // #nosec G115 -- not negative
}

// of gives a config's counts; mu is held.
func (l *ledger) of(config string) *Usage {
	of := l.usage[config]
	if of == nil {
		if len(l.usage) >= maxConfigs {
			config = ""
		}
		if of = l.usage[config]; of == nil {
			of = &Usage{Config: config}
			l.usage[config] = of
		}
	}
	return of
}

// TakeUsage gives what was counted since the last call, by config name, and begins anew: for a beat.
func (r *Runner) TakeUsage() []Usage {
	r.ledger.mu.Lock()
	taken := r.ledger.usage
	r.ledger.usage = map[string]*Usage{}
	r.ledger.mu.Unlock()
	out := make([]Usage, 0, len(taken))
	for u := range maps.Values(taken) {
		out = append(out, *u)
	}
	slices.SortFunc(out, func(a, b Usage) int { return strings.Compare(a.Config, b.Config) })
	return out
}

// Total gives the counts since the start, over all configs: for metrics.
func (r *Runner) Total() Usage {
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	return r.ledger.total
}
