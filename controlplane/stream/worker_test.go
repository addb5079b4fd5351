package stream

import (
	"testing"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

type panicking struct{}

func (panicking) Target(snapshot.InstanceID, int64, func(manifest.Hash) bool) (*snapshot.Rendered, error) {
	panic("a config that nobody thought of")
}

// A worker serves many streams, so what breaks one must end that one alone.
func TestAPanicInATurnEndsOneStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Targets = panicking{} })
	w.connect() // the world ends well only if its server was seen to run
	w.untilEarly()
	c := &conn{hub: w.hub, wake: make(chan struct{}, 1), stops: make(chan end, 1)}
	c.push()
	select {
	case e := <-c.stops:
		if !errs.Is(e.err, errs.Internal) {
			t.Errorf("ends with %v", e.err)
		}
	default:
		t.Error("it goes on")
	}
	if !c.sending.TryLock() {
		t.Error("nobody can send any more")
	}
}
