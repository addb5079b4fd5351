package redistask

import (
	"context"
	"fmt"
	"slices"

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

// List implements task.Store.
func (s *Store) List(ctx context.Context, f task.Filter) (task.Page, error) {
	limit := max(f.Limit, 1)
	oldest, from, id := "+inf", "", ""
	if !f.Since.IsZero() {
		oldest = since(f.Since)
	}
	if f.After != (task.Cursor{}) {
		from, id = score(f.After.At), f.After.ID
	}
	answer, err := s.eval(ctx, s.run.list, indexOf(f), oldest, from, id, limit)
	if err != nil {
		return task.Page{}, fmt.Errorf("list tasks: %w", err)
	}
	list, _ := answer.([]any)
	if len(list) == 0 {
		return task.Page{}, errs.New(errs.Internal, "list tasks: no total")
	}
	total, _ := list[0].(int64)
	names := texts(list[1:])
	page := task.Page{Total: int(total), More: len(names) > limit}
	hs, err := s.loadAll(ctx, names[:min(limit, len(names))])
	if err != nil {
		return task.Page{}, err
	}
	page.Records = slices.DeleteFunc(records(hs), func(r task.Record) bool { return !f.Matches(r) }) // changed meanwhile
	return page, nil
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
