package redistask

import (
	"context"
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
	if _, _, placed := s.hub.position(); !placed {
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
	answer, err := s.eval(ctx, s.run.begin)
	if err != nil {
		return position{}, err
	}
	id, _ := answer.(string)
	return readPosition(id)
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
		if time.Since(well) > patience {
			s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "the events of tasks can't be read: their readers are let go", slog.String("error", err.Error()))
			s.hub.failIf(gen, errs.New(errs.Unavailable, "watch a task: %w", err))
		}
		_ = pause(ctx, again)
	}
}

// listen waits for entries behind a place.
func (s *Store) listen(ctx context.Context, at position) ([]told, error) {
	var list []told
	err := s.cfg.Client.Do(ctx, func(ctx context.Context, cmd redis.Commands) error {
		streams, err := cmd.XRead(ctx, &goredis.XReadArgs{Streams: []string{s.base() + "ev", at.String()}, Count: entries, Block: block}).Result()
		if errors.Is(err, goredis.Nil) {
			return nil
		}
		if err != nil {
			return err
		}
		list = make([]told, 0, entries)
		for _, stream := range streams {
			for _, m := range stream.Messages {
				list = append(list, s.hearing(ctx, cmd, m))
			}
		}
		return nil
	})
	return list, err
}

// hearing reads one entry. Its event is read only where somebody watches the task.
func (s *Store) hearing(ctx context.Context, cmd redis.Commands, m goredis.XMessage) (e told) {
	text := func(field string) string {
		v, _ := m.Values[field].(string)
		return v
	}
	var err error
	e.at, err = readPosition(m.ID)
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
