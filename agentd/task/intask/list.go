package intask

import (
	"context"
	"slices"

	"github.com/agentry/agentry/agentd/task"
)

// List implements task.Store.
func (s *Store) List(_ context.Context, f task.Filter) (task.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	var all []task.Record
	for _, e := range s.owners[f.Owner] {
		if f.Matches(e.rec) {
			all = append(all, e.rec)
		}
	}
	slices.SortFunc(all, func(a, b task.Record) int {
		if task.Before(a.Place(), b.Place()) {
			return -1
		}
		return 1
	})
	page := task.Page{Total: len(all)}
	if f.After != (task.Cursor{}) {
		all = slices.DeleteFunc(all, func(r task.Record) bool { return !task.Before(f.After, r.Place()) })
	}
	if limit := max(f.Limit, 1); len(all) > limit {
		page.More = true
		all = all[:limit]
		page.Next = all[limit-1].Place()
	}
	page.Records = all
	return page, nil
}
