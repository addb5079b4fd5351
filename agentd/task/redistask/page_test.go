package redistask_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/agentd/task/redistask"
	"github.com/agentry/agentry/test/harness"
)

// keyOf is what keys say of a task, and of its owner.
func keyOf(ref task.Ref) (owner, name string) {
	owner = redis.Digest(ref.Owner.Namespace, ref.Owner.Agent, ref.Owner.Principal, ref.Owner.Tenant)
	return owner, redis.Digest(owner, ref.ID)
}

// Records that vanish, or change, between the index and the record are left out, and what is behind them is listed all the same, each once.
func TestListGoesOnBehindWhatVanished(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	c := client(t, server, agent(t), "")
	s := open(t, redistask.Config{Client: c})
	start := task.At(time.Now().Add(-time.Minute))
	var want []string
	raw := func(f func(ctx context.Context, cmd redis.Commands, base string) error) {
		t.Helper()
		if err := c.Do(t.Context(), func(ctx context.Context, cmd redis.Commands) error { return f(ctx, cmd, c.Prefix()+"t:") }); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 12 {
		r := begun(s, fmt.Sprintf("task-%02d", i))
		r.Task.Status.At = task.At(start.Add(-time.Duration(i) * time.Second))
		ref := create(t, s, r)
		owner, name := keyOf(ref)
		switch {
		case i >= 2 && i < 7 || i == 11: // gone, and the index doesn't know yet
			raw(func(ctx context.Context, cmd redis.Commands, base string) error {
				return cmd.Del(ctx, base+"r:"+name).Err()
			})
			continue
		case i == 8: // it has another status by the time that it's read
			at := r.Task.Status.At.UnixMilli()
			if err := tell(t.Context(), s, ref, status(task.Working)); err != nil {
				t.Fatal(err)
			}
			raw(func(ctx context.Context, cmd redis.Commands, base string) error {
				return cmd.ZAdd(ctx, base+"o:"+owner, goredis.Z{Score: -float64(at), Member: ref.ID + "\x00" + name}).Err()
			})
		}
		want = append(want, ref.ID)
	}
	for _, limit := range []int{1, 2, 3, 6, 50} {
		f := task.Filter{Owner: begun(s, "x").Owner, Limit: limit}
		var got []string
		for n := 0; ; n++ {
			page, err := s.List(t.Context(), f)
			if err != nil || n > 20 {
				t.Fatalf("page %d: %v; listed %v", n, err, got)
			}
			if page.Total != 12 { // what the index says
				t.Errorf("total is %d", page.Total)
			}
			if page.More && len(page.Records) != limit {
				t.Errorf("by %d: page %d has %d records", limit, n, len(page.Records))
			}
			for _, r := range page.Records {
				got = append(got, r.Task.ID)
			}
			if !page.More {
				break
			}
			f.After = page.Next
		}
		if !slices.Equal(got, want) {
			t.Errorf("by %d: listed %v, want %v", limit, got, want)
		}
	}
}

// A keeper finds all of its tasks page by page, though some change meanwhile and others are the keeper's no more.
func TestKeptIsPaged(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	s := open(t, redistask.Config{Client: client(t, server, agent(t), "")})
	var refs []task.Ref
	for i := range 10 {
		refs = append(refs, create(t, s, begun(s, fmt.Sprintf("task-%02d", i))))
	}
	if err := tell(t.Context(), s, refs[4], status(task.Completed)); err != nil {
		t.Fatal(err)
	}
	seen, place := map[string]int{}, ""
	for n := 0; ; n++ {
		list, next, err := s.Kept(t.Context(), place, 3)
		if err != nil || len(list) > 3 || n > 20 {
			t.Fatalf("page %d of %d: %v", n, len(list), err)
		}
		for _, r := range list {
			seen[r.Task.ID]++
		}
		if n == 0 { // the last that was read moves on, and the place with it
			if err := tell(t.Context(), s, list[2].Ref(), piece("x")); err != nil {
				t.Fatal(err)
			}
		}
		if place = next; place == "" {
			break
		}
	}
	for i, ref := range refs {
		if n := seen[ref.ID]; (n == 0) != (i == 4) {
			t.Errorf("task %d was seen %d times", i, n)
		}
	}
}
