package redismemory

import (
	"cmp"
	"context"
	"slices"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/redis"
)

// list reads the index and then what it names; sessions that are gone are left out.
func list(ctx context.Context, cmd redis.Commands, o memory.Owner, limit int) ([]memory.Info, error) {
	sids, err := cmd.ZRevRange(ctx, indexOf(o), 0, int64(limit)-1).Result()
	if err != nil || len(sids) == 0 {
		return nil, err
	}
	answers := make([]*goredis.SliceCmd, len(sids))
	_, err = cmd.Pipelined(ctx, func(p goredis.Pipeliner) error {
		for i, sid := range sids {
			answers[i] = p.HMGet(ctx, metaOf(o, sid), "session", "turns", "updated")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]memory.Info, 0, len(sids))
	for _, a := range answers {
		v := a.Val()
		if len(v) != 3 || v[0] == nil {
			continue
		}
		out = append(out, memory.Info{Session: text(v[0]), Turns: int(number(v[1])), Updated: time.UnixMilli(number(v[2])).UTC()})
	}
	slices.SortStableFunc(out, func(a, b memory.Info) int {
		return cmp.Or(b.Updated.Compare(a.Updated), cmp.Compare(a.Session, b.Session))
	})
	return out, nil
}
