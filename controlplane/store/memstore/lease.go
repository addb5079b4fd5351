package memstore

import (
	"context"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

var _ store.Leases = (*Store)(nil)

// Hold writes a key that is this holder's until it releases it, somebody else writes or removes it, Expire, or Close. No time passes
// here: a holder in this process is never silent by itself.
func (s *Store) Hold(ctx context.Context, kv store.KV, ttl time.Duration, conds ...store.Cond) (store.Held, error) {
	if ttl <= 0 {
		return nil, errs.New(errs.Invalid, "hold %q: ttl of %s (above 0)", kv.Key, ttl)
	}
	h := &held{store: s, key: kv.Key, lost: make(chan struct{})}
	revision, err := s.commit(ctx, store.Txn{If: conds, Puts: []store.KV{kv}}, h)
	if err != nil {
		return nil, err
	}
	h.revision = revision
	return h, nil
}

// Expire removes a held key as if its holder had been silent for the ttl. The holder doesn't know until tell is called: it stood
// still, and has yet to look at its clock. Expire answers NotFound for a key that nobody holds.
func (s *Store) Expire(key string) (tell func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.leases[key]
	if h == nil {
		return nil, errs.New(errs.NotFound, "nobody holds key %q", key)
	}
	delete(s.leases, key)
	s.apply(store.Txn{Deletes: []string{key}}, nil)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		h.lose()
	}, nil
}

// held is a key that a holder in this process keeps.
type held struct {
	store *Store
	key   string
	lost  chan struct{}

	// Under the store's lock.
	revision int64
	gone     bool // lost is closed
}

// Revision is that of the last write.
func (h *held) Revision() int64 {
	h.store.mu.Lock()
	defer h.store.mu.Unlock()
	return h.revision
}

// Lost is closed when the key is gone.
func (h *held) Lost() <-chan struct{} { return h.lost }

func (h *held) lose() {
	if !h.gone {
		h.gone = true
		close(h.lost)
	}
}

// Update writes a new value; Conflict if the key isn't this holder's any more.
func (h *held) Update(ctx context.Context, value []byte) error {
	s := h.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(ctx); err != nil {
		return err
	}
	if s.leases[h.key] != h {
		h.lose()
		return errs.New(errs.Conflict, "key %q isn't held any more", h.key)
	}
	h.revision = s.apply(store.Txn{Puts: []store.KV{{Key: h.key, Value: value}}}, h)
	return nil
}

// Release removes the key, if it still is this holder's.
func (h *held) Release(ctx context.Context) error {
	s := h.store
	s.mu.Lock()
	defer s.mu.Unlock()
	defer h.lose()
	if s.leases[h.key] != h {
		return nil
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	delete(s.leases, h.key)
	s.apply(store.Txn{Deletes: []string{h.key}}, nil)
	return nil
}

// detach ends the holding of a key that is written by a transaction; by is who holds it from now on, nil: nobody.
func (s *Store) detach(key string, by *held) {
	if h := s.leases[key]; h != nil && h != by {
		h.lose()
		delete(s.leases, key)
	}
	if by != nil && by.key == key {
		s.leases[key] = by
	}
}
