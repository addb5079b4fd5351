package redistask

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

// batch is how many tasks are read at a time: the server does nothing else meanwhile.
const batch = 10

// Get implements task.Store.
func (s *Store) Get(ctx context.Context, ref task.Ref) (task.Record, error) {
	h, err := s.load(ctx, ref)
	return h.rec, err
}

func (s *Store) load(ctx context.Context, ref task.Ref) (held, error) {
	hs, err := s.loadAll(ctx, []string{nameOf(ref)})
	if err != nil {
		return held{}, err
	}
	if len(hs) == 0 || hs[0].rec.Owner != ref.Owner || hs[0].rec.Task.ID != ref.ID {
		return held{}, missing(ref)
	}
	return hs[0], nil
}

// loadAll reads tasks by name; those that are gone are left out.
func (s *Store) loadAll(ctx context.Context, names []string) ([]held, error) {
	out := make([]held, 0, len(names))
	for part := range slices.Chunk(names, batch) {
		args := make([]any, len(part))
		for i, n := range part {
			args[i] = n
		}
		answer, err := s.eval(ctx, s.run.read, args...)
		if err != nil {
			return nil, fmt.Errorf("read tasks: %w", err)
		}
		list, _ := answer.([]any)
		for _, a := range list {
			if a == nil {
				continue
			}
			h, err := decode(a)
			if err != nil {
				return nil, err
			}
			out = append(out, h)
		}
	}
	return out, nil
}

func records(hs []held) []task.Record {
	out := make([]task.Record, len(hs))
	for i, h := range hs {
		out[i] = h.rec
	}
	return out
}

// List implements task.Store. A task that is gone, or another one's, by the time that it is read is left out, and the page goes on behind it.
func (s *Store) List(ctx context.Context, f task.Filter) (task.Page, error) {
	limit := max(f.Limit, 1)
	oldest, from, id := "+inf", "", ""
	if !f.Since.IsZero() {
		oldest = since(f.Since)
	}
	if f.After != (task.Cursor{}) {
		from, id = score(f.After.At), f.After.ID
	}
	var page task.Page
	for {
		at, err := s.listed(ctx, indexOf(f), oldest, from, id, limit-len(page.Records))
		if err != nil {
			return task.Page{}, err
		}
		if page.Records == nil {
			page.Total = at.total
		}
		hs, err := s.loadAll(ctx, at.names)
		if err != nil {
			return task.Page{}, err
		}
		page.Records = append(page.Records, slices.DeleteFunc(records(hs), func(r task.Record) bool { return !f.Matches(r) })...)
		page.More, page.Next = at.more, at.last
		if !page.More || len(page.Records) >= limit {
			return page, nil
		}
		from, id = score(at.last.At), at.last.ID
	}
}

// listing is a piece of an index.
type listing struct {
	total int
	names []string
	last  task.Cursor // where the last of the names stands
	more  bool
}

func (s *Store) listed(ctx context.Context, index, oldest, from, id string, limit int) (listing, error) {
	answer, err := s.eval(ctx, s.run.list, index, oldest, from, id, limit)
	if err != nil {
		return listing{}, fmt.Errorf("list tasks: %w", err)
	}
	list, _ := answer.([]any)
	if len(list) < 3 {
		return listing{}, errs.New(errs.Internal, "list tasks: an answer of %d parts", len(list))
	}
	total, _ := list[0].(int64)
	place, _ := list[1].(string)
	names := texts(list[3:])
	out := listing{total: int(total), names: names[:min(limit, len(names))], more: len(names) > limit}
	out.last.ID, _ = list[2].(string)
	if out.more {
		ms, err := strconv.ParseInt(place, 10, 64)
		if err != nil {
			return listing{}, errs.New(errs.Internal, "list tasks: a place %q", place)
		}
		out.last.At = time.UnixMilli(-ms).UTC()
	}
	return out, nil
}

func texts(list []any) []string {
	out := make([]string, 0, len(list))
	for _, v := range list {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}
