package app

import (
	"fmt"
	"time"
)

// Timing says how long the silence of an instance is tolerated. Zero means fleet's defaults: 45 s until STALE, 30 s from the loss of a
// stream until OFFLINE, 10 min until it is forgotten, 35 s after a start until the fleet counts as complete. The protocol is made for the
// defaults, so only the environment changes them, for tests: AGENTRY_FLEET_STALE_AFTER, AGENTRY_FLEET_LEASE, AGENTRY_FLEET_REMOVE_AFTER,
// AGENTRY_FLEET_SETTLE.
type Timing struct {
	StaleAfter  time.Duration
	Lease       time.Duration
	RemoveAfter time.Duration
	Settle      time.Duration
	// LeafTTL is how long the certificate of an instance is valid: AGENTRY_IDENTITY_LEAF_TTL, default 24 h.
	LeafTTL time.Duration
}

// timing reads the environment. What can't be read is -1, which validate refuses.
func timing(env func(string) string) Timing {
	var t Timing
	for name, into := range t.all() {
		if v := env(name); v != "" {
			d, err := time.ParseDuration(v)
			if err != nil || d <= 0 {
				d = -1
			}
			*into = d
		}
	}
	return t
}

func (t *Timing) all() map[string]*time.Duration {
	return map[string]*time.Duration{
		"AGENTRY_FLEET_STALE_AFTER": &t.StaleAfter, "AGENTRY_FLEET_LEASE": &t.Lease,
		"AGENTRY_FLEET_REMOVE_AFTER": &t.RemoveAfter, "AGENTRY_FLEET_SETTLE": &t.Settle,
		"AGENTRY_IDENTITY_LEAF_TTL": &t.LeafTTL,
	}
}

// faults lists what is wrong.
func (t Timing) faults() []error {
	var out []error
	for name, d := range t.all() {
		if *d < 0 {
			out = append(out, fmt.Errorf("%s: must be a duration above zero", name))
		}
	}
	if t.Settle > 0 && t.RemoveAfter > 0 && t.RemoveAfter < t.Settle {
		out = append(out, fmt.Errorf("AGENTRY_FLEET_REMOVE_AFTER: %s is less than AGENTRY_FLEET_SETTLE, %s: nothing may be removed before the fleet is complete", t.RemoveAfter, t.Settle))
	}
	return out
}
