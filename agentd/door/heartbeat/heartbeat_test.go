package heartbeat_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentry/agentry/agentd/door/heartbeat"
)

func TestHeart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var beats atomic.Int32
		h := heartbeat.Start(0, func() { beats.Add(1) })
		said := func(after time.Duration, want int32) {
			t.Helper()
			<-time.After(after) // by the bubble's clock
			synctest.Wait()
			if got := beats.Load(); got != want {
				t.Errorf("%d beats, want %d", got, want)
			}
		}
		said(14*time.Second, 0)
		if err := h.Say(func() error { return nil }); err != nil {
			t.Error(err)
		}
		said(14*time.Second, 0) // something was said meanwhile
		said(2*time.Second, 1)
		said(30*time.Second, 3)
		gone := errors.New("gone")
		if err := h.Say(func() error { return gone }); !errors.Is(err, gone) {
			t.Error(err)
		}
		h.Stop()
		said(time.Minute, 3)
		_ = h.Say(func() error { return nil })
		said(time.Minute, 3)
		h.Stop()
	})
}

// TestHeartAlone: no beat comes while something is said, and none after Stop. The race detector looks on.
func TestHeartAlone(t *testing.T) {
	t.Parallel()
	n, beats := 0, make(chan struct{}, 1)
	h := heartbeat.Start(time.Microsecond, func() {
		n++
		select {
		case beats <- struct{}{}:
		default:
		}
	})
	for range 200 {
		_ = h.Say(func() error { n++; return nil })
	}
	<-beats
	h.Stop()
	n++
}
