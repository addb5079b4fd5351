package redistask

import "time"

// Kill ends the goroutines without a word, as the death of the process does.
func (s *Store) Kill() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.wg.Wait()
	s.hub.fail(errClosed())
}

// Pulse is what beats bring, for a test with a clock of its own.
type Pulse struct{ p pulse }

// NewPulse makes one that has heard nothing yet.
func NewPulse() *Pulse { return &Pulse{p: newPulse()} }

// Suspect is told who is silent.
func (p *Pulse) Suspect(pairs []string, now time.Time) { p.p.suspect(pairs, now) }

// Dead gives who is dead.
func (p *Pulse) Dead(now time.Time) []string { return texts(p.p.dead(now)) }
