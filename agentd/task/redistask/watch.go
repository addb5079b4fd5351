package redistask

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

const (
	block    = 500 * time.Millisecond // how long the server holds a read of the stream that gives nothing
	linger   = 30 * time.Second       // how long the stream is read after the last one who watched
	patience = 5 * time.Second        // how long the stream may be out of reach before the feeds end
	entries  = 200                    // of the stream, read at a time
	again    = 100 * time.Millisecond // between failed reads
)

// fieldCall is the field of an entry that names its writing.
const fieldCall = "c"

// Watch implements task.Store.
func (s *Store) Watch(ctx context.Context, ref task.Ref) (task.Record, task.Feed, error) {
	if err := s.follow(); err != nil {
		return task.Record{}, nil, err
	}
	s.live()
	name := nameOf(ref)
	// First what happens from now on is gathered, then the record is read: what is in both is told once.
	t, from := s.hub.join(name)
	leave := sync.OnceFunc(func() { s.hub.leave(name, t) })
	if !s.hub.reads() {
		p, err := s.newest(ctx)
		if err != nil {
			leave()
			return task.Record{}, nil, fmt.Errorf("watch a task: %w", err)
		}
		s.hub.place(p)
	}
	h, err := s.load(ctx, ref)
	if err != nil {
		leave()
		return task.Record{}, nil, err
	}
	f := &feed{hub: s.hub, name: name, topic: t, leave: leave, at: from, seq: h.rec.Seq, ended: h.rec.Task.Status.State.Terminal()}
	if f.ended {
		f.Close()
	}
	return h.rec, f, nil
}

// newest is the end of the stream.
func (s *Store) newest(ctx context.Context) (position, error) {
	answer, err := s.eval(ctx, s.run.begin, rand.Text())
	if err != nil {
		return position{}, err
	}
	entry, _ := answer.([]any)
	if len(entry) != 2 {
		return position{}, errs.New(errs.Internal, "the stream of events has no end")
	}
	id, _ := entry[0].(string)
	fields, _ := entry[1].([]any)
	call := ""
	if pairs := texts(fields); len(pairs) > 1 && pairs[0] == fieldCall {
		call = pairs[1]
	}
	return readPosition(id, call)
}

// tail reads the stream while somebody watches, until ctx ends.
func (s *Store) tail(ctx context.Context) {
	well := time.Now()
	for ctx.Err() == nil {
		at, gen, ok := s.hub.reading(linger)
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-s.hub.wake:
				well = time.Now()
			}
			continue
		}
		list, err := s.listen(ctx, at)
		if err == nil {
			well = time.Now()
			s.hub.hear(gen, list)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, task.ErrLagged) {
			s.hub.failIf(gen, err)
			continue
		}
		if time.Since(well) > patience {
			s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "the events of tasks can't be read: their readers are let go", slog.String("error", err.Error()))
			s.hub.failIf(gen, errs.New(errs.Unavailable, "watch a task: %w", err))
		}
		_ = pause(ctx, again)
	}
}

// listen waits for entries behind a place. The entry of the place is read after them: where it is no more, or another one, the server has
// lost what was read, and what follows follows something else.
func (s *Store) listen(ctx context.Context, at position) ([]told, error) {
	key := s.base() + "ev"
	var list []told
	lost := false
	err := s.cfg.Client.Do(ctx, func(ctx context.Context, cmd redis.Commands) error {
		var before *goredis.XMessageSliceCmd
		var after *goredis.XStreamSliceCmd
		_, _ = cmd.Pipelined(ctx, func(p goredis.Pipeliner) error { // each has its own error
			after = p.XRead(ctx, &goredis.XReadArgs{Streams: []string{key, at.String()}, Count: entries, Block: block})
			before = p.XRevRangeN(ctx, key, at.String(), at.String(), 1)
			return nil
		})
		have, err := before.Result()
		if err != nil {
			return err
		}
		if lost = len(have) != 1 || have[0].Values[fieldCall] != at.call; lost {
			return nil
		}
		streams, err := after.Result()
		if err != nil && !errors.Is(err, goredis.Nil) {
			return err
		}
		for _, stream := range streams {
			list = make([]told, 0, len(stream.Messages))
			for _, m := range stream.Messages {
				list = append(list, s.hearing(ctx, cmd, m))
			}
		}
		return nil
	})
	if lost {
		return nil, task.ErrLagged
	}
	return list, err
}

// hearing reads one entry. Its event is read only where somebody watches the task.
func (s *Store) hearing(ctx context.Context, cmd redis.Commands, m goredis.XMessage) (e told) {
	text := func(field string) string {
		v, _ := m.Values[field].(string)
		return v
	}
	var err error
	e.at, err = readPosition(m.ID, text(fieldCall))
	if err != nil { // it follows nothing
		return told{at: position{}}
	}
	e.name = text("n")
	if e.seq, e.err = strconv.ParseInt(text("s"), 10, 64); e.err != nil || e.seq == 0 || !s.hub.watched(e.name) {
		return e
	}
	event := text("e")
	if event == "" {
		if event, err = cmd.Get(ctx, s.base()+"e:"+e.name+":"+text("s")).Result(); err != nil {
			e.err = task.ErrLagged // it was large, and is gone already
			return e
		}
	}
	if err := json.Unmarshal([]byte(event), &e.event); err != nil {
		e.err = errs.New(errs.Internal, "a stored event: %w", err)
	}
	return e
}
