package fleet

import "time"

// renewal is the end of an era: every stream ends with it, and nothing may be concluded until its instances are back.
type renewal struct {
	began    time.Time
	expected int // instances that were connected when the era ended
}

// Renew says that an era ended: a restore began, or a new epoch did. As after a start the fleet isn't complete until as many instances as
// were connected have come back, or there was time enough for all.
func (t *Table) Renew(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &renewal{began: now}
	if last := t.renewed.Load(); last != nil && !t.settled.Load() {
		r.expected = last.expected // they had no time to come back
	}
	connected := 0
	for _, g := range t.agents {
		for _, e := range g.byID {
			if e.inst.Connected {
				connected++
			}
		}
	}
	r.expected = max(r.expected, connected)
	t.renewed.Store(r)
	t.settled.Store(false)
}

// started is from when on instances have had time to come.
func (t *Table) started() time.Time {
	if r := t.renewed.Load(); r != nil {
		return r.began
	}
	return t.cfg.Started
}

// returned says whether all who were connected when the era ended came back. The mutex is held.
func (t *Table) returned() bool {
	r := t.renewed.Load()
	if r == nil || r.expected == 0 {
		return false
	}
	back := 0
	for _, g := range t.agents {
		for _, e := range g.byID {
			if e.inst.Connected && e.stamp > uint64(max(r.began.UnixNano(), 0)) {
				back++
			}
		}
	}
	return back >= r.expected
}
