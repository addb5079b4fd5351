package redistask

// Kill ends the goroutines without a word, as the death of the process does.
func (s *Store) Kill() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.wg.Wait()
	s.hub.fail(errClosed())
}
