package etcdstore_test

import (
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/etcdstore"
	"github.com/agentry/agentry/internal/errs"
)

// TestHolderFallsSilent shows both ends of a silence: the key of a holder that is gone goes by itself, and a holder whose etcd is
// gone stops believing in its key.
func TestHolderFallsSilent(t *testing.T) {
	const ttl = 2 * time.Second
	server := startServer(t, serverBinary(t))
	gone := dial(t, etcdstore.ClientConfig{Endpoints: []string{server.addr}})
	s := dial(t, etcdstore.ClientConfig{Endpoints: []string{server.addr}})
	if _, err := gone.Hold(t.Context(), store.KV{Key: "h/gone"}, ttl); err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil { // as a process that died: nothing is released
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; {
		_, err := s.Get(t.Context(), "h/gone")
		if errs.Is(err, errs.NotFound) {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the key of a silent holder is still there: %v", err)
		}
	}
	h, err := s.Hold(t.Context(), store.KV{Key: "h/kept"}, ttl)
	if err != nil {
		t.Fatal(err)
	}
	server.kill(t)
	select {
	case <-h.Lost():
	case <-time.After(patience):
		t.Fatal("a holder that can't reach etcd believes in its key")
	}
}
