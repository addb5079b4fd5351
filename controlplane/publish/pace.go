package publish

import "time"

// The windows in which changes of one agent are merged (push-protocol.md rule 11).
const (
	firstWindow = 10 * time.Millisecond
	lastWindow  = time.Second
)

// pace says when the changes of one agent go out: the first at once, and what arrives within the window after it together at its
// end, which opens a window twice as long. A window in which nothing arrived ends the churn. It is pure; zero is quiet.
type pace struct {
	window  time.Duration // 0: quiet
	until   time.Time     // end of the window
	waiting bool          // something arrived within it
}

// quiet reports whether what arrives now goes out at once.
func (p *pace) quiet(now time.Time) bool {
	return p.window == 0 || (!p.waiting && !now.Before(p.until))
}

// sent opens the next window after a change went out.
func (p *pace) sent(now time.Time) {
	switch {
	case p.quiet(now):
		p.window = firstWindow
	default:
		p.window = min(2*p.window, lastWindow)
	}
	p.until, p.waiting = now.Add(p.window), false
}
