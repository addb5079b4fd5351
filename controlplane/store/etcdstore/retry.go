package etcdstore

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/agentry/agentry/internal/errs"
)

const (
	// tries bounds how often a call is tried where there is one member only, retryPause apart. Where there are several, callTimeout
	// alone bounds it: they elect a leader within seconds.
	tries      = 4
	retryPause = 100 * time.Millisecond
	// writeWithin bounds one try to write where there are several members: what was on its way to a leader that died is never
	// answered. Whether it was written isn't known then.
	writeWithin = 2500 * time.Millisecond
)

// effect says what a call does to the store.
type effect int

const (
	reads effect = iota
	writes
)

// try calls f until it succeeds, fails for good, or there was no success in time. A write is tried again only if it surely wasn't
// written.
func (s *Store) try(ctx context.Context, does effect, f func(ctx context.Context) error) error {
	until := time.Now().Add(callTimeout)
	var last error
	for n := 1; ; n++ {
		unsent, err := s.once(ctx, does, f)
		if err == nil {
			return nil
		}
		if last != nil && errors.Is(err, context.DeadlineExceeded) && does == reads {
			return last // why there was no answer tells more
		}
		last = err
		switch {
		case kindOf(err) != errs.Unavailable, does == writes && !unsent && !refused(err):
			return err
		case !s.several && n >= tries, time.Now().After(until):
			return err
		}
		timer := time.NewTimer(retryPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// once is one try; unsent says that it never left this process.
func (s *Store) once(ctx context.Context, does effect, f func(ctx context.Context) error) (unsent bool, err error) {
	if s.several && does == writes {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, writeWithin)
		defer cancel()
	}
	var mark atomic.Bool
	err = f(context.WithValue(ctx, unsentKey{}, &mark))
	return mark.Load(), err
}

type unsentKey struct{}

// neverSent tells the try under whose ctx a call failed that it never left this process.
func neverSent(ctx context.Context) {
	if mark, ok := ctx.Value(unsentKey{}).(*atomic.Bool); ok {
		mark.Store(true)
	}
}

// refused reports whether a member turned a call away before it did anything.
func refused(err error) bool {
	return errors.Is(err, rpctypes.ErrNoLeader) || errors.Is(err, rpctypes.ErrTooManyRequests) || dropped(err)
}

// dropped knows raft's answer to a write that came between two leaders; etcd passes it on as a text.
func dropped(err error) bool { return strings.Contains(err.Error(), "raft proposal dropped") }
