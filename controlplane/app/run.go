package app

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// part is one long-running piece of the process. run blocks until ctx ends (nil) or it broke.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// runAll runs the parts until ctx ends or the first of them fails; then the others are told to end, and it waits for
// all. A panic of a part becomes its error. A part that ends without an error before it was told to is a failure too.
func runAll(ctx context.Context, parts []part) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error // guarded by mu
	)
	for _, p := range parts {
		wg.Go(func() {
			err := guarded(ctx, p)
			if err == nil && ctx.Err() == nil {
				err = errors.New("ended by itself")
			}
			if err == nil || (ctx.Err() != nil && errors.Is(err, context.Canceled)) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				first = fmt.Errorf("%s: %w", p.name, err)
			}
			cancel()
		})
	}
	wg.Wait()
	return first
}

func guarded(ctx context.Context, p part) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return p.run(ctx)
}
