package command

import (
	"context"
	"time"

	"connectrpc.com/connect"
)

const (
	// patienceOfWatch is how often in a row a watch may begin anew at another replica without hearing anything, and betweenWatches
	// how long it waits before each.
	patienceOfWatch = 12
	betweenWatches  = 500 * time.Millisecond
)

// follow hands over what a watch sends until each says done, each fails, or ctx ends. Where there are several replicas it goes on at
// another one when one ends it or dies; open is called again then, and asks for what comes after what was handed over.
func follow[M any](ctx context.Context, cl *client, open func(context.Context) (*connect.ServerStreamForClient[M], error), each func(*M) (done bool, err error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for silent := 0; ; silent++ {
		server, began := cl.servers.current(), time.Now()
		heard, done, err := listen(ctx, open, each)
		if done {
			return err
		}
		if heard || time.Since(began) > patienceOfWatch*betweenWatches { // it was served, though there was nothing to tell
			silent = 0
		}
		if !cl.servers.several() || silent >= patienceOfWatch || (err != nil && !elsewhere(ctx, err)) || ctx.Err() != nil || nearDeadline(ctx) {
			return cl.ended(ctx, err)
		}
		cl.servers.leave(server)
		timer := time.NewTimer(betweenWatches)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// listen runs one watch; done says that it ended by each, with its error.
func listen[M any](ctx context.Context, open func(context.Context) (*connect.ServerStreamForClient[M], error), each func(*M) (bool, error)) (heard, done bool, err error) {
	stream, err := open(ctx)
	if err != nil {
		return false, false, err
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		heard = true
		if done, err := each(stream.Msg()); err != nil || done {
			return true, true, err
		}
	}
	return heard, false, stream.Err()
}
