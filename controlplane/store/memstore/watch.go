package memstore

import (
	"context"
	"slices"
	"strings"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// Watch follows the log. A revision that changed nothing under prefix comes as progress.
func (s *Store) Watch(ctx context.Context, prefix string, after int64, emit func(store.Batch) error) error {
	s.mu.Lock()
	breaks := s.breaks
	s.mu.Unlock()
	for {
		batches, changed, err := s.since(after, breaks)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is how a watch is asked to end
		}
		if err != nil {
			return err
		}
		for _, b := range batches {
			if err := emit(under(prefix, b)); err != nil {
				return err
			}
			after = b.Revision
		}
		if len(batches) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Store) since(after int64, breaks int) ([]store.Batch, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, nil, errClosed()
	case s.breaks != breaks:
		return nil, nil, s.broken
	case after < s.compacted:
		return nil, nil, errs.New(errs.OutOfRange, "revision %d was compacted, %d is the oldest", after, s.compacted)
	}
	from, _ := slices.BinarySearchFunc(s.log, after+1, func(b store.Batch, rev int64) int { return int(b.Revision - rev) })
	return slices.Clone(s.log[from:]), s.changed, nil
}

func under(prefix string, b store.Batch) store.Batch {
	out := store.Batch{Revision: b.Revision}
	for _, e := range b.Events {
		if strings.HasPrefix(e.Key, prefix) {
			e.Value = slices.Clone(e.Value)
			out.Events = append(out.Events, e)
		}
	}
	return out
}
