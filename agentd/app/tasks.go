package app

import (
	"sync"

	"github.com/agentry/agentry/agentd/task/redistask"
)

// sharedTasks is a store of tasks that outlives the config which named it, for as long as the A2A door holds it: what it does with a task
// ends where it began.
type sharedTasks struct {
	*redistask.Store

	end func() // gives its connections back

	mu    sync.Mutex // guards users
	users int        // 0: it's closed
}

// newSharedTasks gives a store with one user.
func newSharedTasks(s *redistask.Store, end func()) *sharedTasks {
	return &sharedTasks{Store: s, end: end, users: 1}
}

// Hold adds a user; release may be called twice. See a2adoor.
func (s *sharedTasks) Hold() (release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 {
		return nil, false
	}
	s.users++
	return sync.OnceFunc(s.release), true
}

// release takes a user off; the last one closes the store.
func (s *sharedTasks) release() {
	s.mu.Lock()
	s.users--
	last := s.users == 0
	s.mu.Unlock()
	if last {
		_ = s.Close() // it says goodbye, and nothing depends on that
		s.end()
	}
}
