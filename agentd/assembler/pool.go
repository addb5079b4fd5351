package assembler

import (
	"sync"
	"sync/atomic"

	"github.com/agentry/agentry/internal/secret"
)

// pool shares clients by use count: the same key is the same client, and the last release ends it. One goroutine at a
// time takes; any may release.
type pool[T any] struct {
	end   func(T)
	mu    sync.Mutex // guards items and their uses
	items map[string]*shared[T]
}

// shared is one client in use, with the credentials that its calls are made with.
type shared[T any] struct {
	value T
	creds *holder
	key   string
	uses  int
	pool  *pool[T]
}

func newPool[T any](end func(T)) *pool[T] {
	return &pool[T]{end: end, items: map[string]*shared[T]{}}
}

// take gives the client of a key, made by build if there is none. The caller releases it once.
func (p *pool[T]) take(key string, view credentials, build func(Credentials) (T, error)) (*shared[T], error) {
	p.mu.Lock()
	s, ok := p.items[key]
	if ok {
		s.uses++
	}
	p.mu.Unlock()
	if ok {
		return s, nil
	}
	h := &holder{}
	h.set(view)
	v, err := build(h.get)
	if err != nil {
		return nil, err
	}
	s = &shared[T]{value: v, creds: h, key: key, uses: 1, pool: p}
	p.mu.Lock()
	p.items[key] = s
	p.mu.Unlock()
	return s, nil
}

func (s *shared[T]) release() {
	p := s.pool
	p.mu.Lock()
	s.uses--
	last := s.uses == 0
	if last {
		delete(p.items, s.key)
	}
	p.mu.Unlock()
	if last && p.end != nil {
		p.end(s.value)
	}
}

// credentials are the values of one config. They are never changed.
type credentials map[string]secret.Value

// holder lets a client's credentials change under it: calls ask at the moment they are made.
type holder struct{ view atomic.Pointer[credentials] }

func (h *holder) set(c credentials) { h.view.Store(&c) }

func (h *holder) get(name string) (secret.Value, bool) {
	v, ok := (*h.view.Load())[name]
	return v, ok
}
