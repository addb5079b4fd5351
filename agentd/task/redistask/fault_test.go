package redistask_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/agentd/task/redistask"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/test/harness"
)

// same holds what another process reads against a record.
func same(t *testing.T, s *redistask.Store, want task.Record) {
	t.Helper()
	got, err := s.Get(t.Context(), want.Ref())
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

// Whatever happens to the server, calls end within the deadline with a typed error, and go on by themselves afterwards.
func TestFaults(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		begin, end func(ctx context.Context, r *harness.Redis) error
		keeps      bool // what was written is there afterwards, and who watches goes on
	}{
		"killed, comes back empty": {
			begin: func(_ context.Context, r *harness.Redis) error { r.Kill(); return nil },
			end:   func(ctx context.Context, r *harness.Redis) error { return r.Start(ctx) },
		},
		"read only": {
			begin: func(ctx context.Context, r *harness.Redis) error { return r.ReadOnly(ctx, true) },
			end:   func(ctx context.Context, r *harness.Redis) error { return r.ReadOnly(ctx, false) },
			keeps: true,
		},
		"silent for 3 s": {
			begin: func(_ context.Context, r *harness.Redis) error { return r.Pause() },
			end: func(ctx context.Context, r *harness.Redis) error {
				select {
				case <-ctx.Done():
				case <-time.After(3 * time.Second):
				}
				return r.Resume()
			},
			keeps: true,
		},
		"another password": {
			begin: func(ctx context.Context, r *harness.Redis) error {
				return errors.Join(r.SetPassword(ctx, "another"), r.DropClients(ctx))
			},
			end:   func(ctx context.Context, r *harness.Redis) error { return r.SetPassword(ctx, "p") },
			keeps: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := harness.StartRedis(t, harness.RedisOptions{Password: "p"})
			s := open(t, redistask.Config{Client: client(t, server, "a", "p")})
			other := open(t, redistask.Config{Client: client(t, server, "a", "p")})
			ref := create(t, s, begun(s, "t"))
			_, f, err := other.Watch(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := tc.begin(t.Context(), server); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if err := tell(t.Context(), s, ref, piece("lost?")); tc.keeps != (name == "silent for 3 s") && !errs.Is(err, errs.Unavailable) {
				t.Errorf("an update: %v", err)
			}
			if _, err := s.Create(t.Context(), begun(s, "u")); !errs.Is(err, errs.Unavailable) {
				t.Errorf("a new task: %v", err)
			}
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("two calls took %s", d)
			}
			if err := tc.end(t.Context(), server); err != nil {
				t.Fatal(err)
			}
			n := 0
			if err := harness.Poll(t.Context(), 20*time.Second, func(ctx context.Context) error {
				n++
				return everything(ctx, s, fmt.Sprint("again", n))
			}); err != nil {
				t.Fatalf("it doesn't recover: %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if !tc.keeps {
				if _, err := f.Next(ctx); !errors.Is(err, task.ErrLagged) && !errs.Is(err, errs.Unavailable) {
					t.Errorf("who watched is told %v", err)
				}
				if _, _, err := other.Watch(t.Context(), ref); !errs.Is(err, errs.NotFound) {
					t.Errorf("and then %v", err)
				}
				return
			}
			if err := tell(t.Context(), s, ref, status(task.Completed)); err != nil {
				t.Fatal(err)
			}
			var last task.Event
			for err == nil {
				if e, nerr := f.Next(ctx); nerr == nil {
					last = e
				} else {
					err = nerr
				}
			}
			if errs.Is(err, errs.Unavailable) { // it took long: watched again, it's whole
				return
			}
			if !errors.Is(err, task.ErrEnded) || last.Status == nil || last.Status.State != task.Completed {
				t.Errorf("who watched saw %+v last, and %v", last, err)
			}
			if rs, err := other.Orphans(t.Context(), 10); err != nil || len(rs) > 0 {
				t.Errorf("%d orphans of the living, %v", len(rs), err)
			}
		})
	}
}

// A server that is silent for three seconds costs nobody his tasks, and what was being written then is there once.
func TestSilenceMakesNoOrphans(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	a, b := open(t, redistask.Config{Client: client(t, server, "a", "")}), open(t, redistask.Config{Client: client(t, server, "a", "")})
	ref := create(t, a, begun(a, "t"))
	create(t, b, begun(b, "u"))
	if err := tell(t.Context(), a, ref, piece("be")); err != nil { // the script is known to the server from now on
		t.Fatal(err)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := tell(t.Context(), a, ref, piece("once")); err != nil {
			t.Errorf("an update in the silence: %v", err)
		}
	})
	watching, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	resume := time.AfterFunc(3*time.Second, func() { _ = server.Resume() })
	defer resume.Stop()
	looked := 0
	for watching.Err() == nil {
		for _, s := range []*redistask.Store{a, b} {
			rs, err := s.Orphans(watching, 10)
			if len(rs) > 0 {
				t.Fatalf("an orphan of the living: %+v", rs)
			}
			if err == nil {
				looked++
			}
		}
		select {
		case <-watching.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	wg.Wait()
	if looked == 0 {
		t.Error("nobody could look")
	}
	got, err := b.Get(t.Context(), ref)
	if err != nil || len(got.Task.Artifacts) != 1 || got.Task.Artifacts[0].Parts[0].Text != "beonce" || got.Seq != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Connections that break while tasks are written and watched lose and double nothing.
func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	a, b := open(t, redistask.Config{Client: client(t, server, "a", "")}), open(t, redistask.Config{Client: client(t, server, "a", "")})
	ref := create(t, a, begun(a, "t"))
	_, f, err := b.Watch(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 300 {
			if i%50 == 25 {
				if err := server.DropClients(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if err := tell(t.Context(), a, ref, piece("x")); err != nil {
				t.Error(err)
			}
		}
		if err := tell(t.Context(), a, ref, status(task.Completed)); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n := int64(0)
	for ; ; n++ {
		e, err := f.Next(ctx)
		if err != nil {
			if !errors.Is(err, task.ErrEnded) {
				t.Error(err)
			}
			break
		}
		if e.Seq != n+1 {
			t.Errorf("event %d after %d", e.Seq, n)
		}
	}
	wg.Wait()
	if got, err := b.Get(t.Context(), ref); n != 301 || err != nil || len(got.Task.Artifacts[0].Parts[0].Text) != 300 {
		t.Errorf("%d events, %v", n, err)
	}
}

// Readers end by an error, and never silently, where the server has lost their events, even if nothing more happens.
func TestLostStream(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(ctx context.Context, server *harness.Redis) error{
		"all": func(ctx context.Context, server *harness.Redis) error {
			c := server.Client()
			defer func() { _ = c.Close() }()
			return c.FlushAll(ctx).Err()
		},
		"the stream": func(ctx context.Context, server *harness.Redis) error {
			c := server.Client()
			defer func() { _ = c.Close() }()
			return c.Del(ctx, redis.Prefix("default", "a")+"t:ev").Err()
		},
		"an entry": func(ctx context.Context, server *harness.Redis) error {
			return rewrite(ctx, server, func(p goredis.Pipeliner, key, epoch string) {
				for range 2 {
					p.XTrimMaxLen(ctx, key, 0)
					p.XAdd(ctx, entry(key, epoch+"-*"))
				}
			})
		},
		"an entry before the next": func(ctx context.Context, server *harness.Redis) error {
			return rewrite(ctx, server, func(p goredis.Pipeliner, key, epoch string) {
				p.XAdd(ctx, entry(key, epoch+"-*"))
				p.XAdd(ctx, entry(key, epoch+"-*"))
				p.XDel(ctx, key, epoch+"-2") // 0 began the stream, 1 is read
			})
		},
		"an entry, and its place is taken": func(ctx context.Context, server *harness.Redis) error {
			return rewrite(ctx, server, func(p goredis.Pipeliner, key, epoch string) {
				p.Del(ctx, key)
				for range 3 {
					p.XAdd(ctx, entry(key, epoch+"-*"))
				}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := harness.StartRedis(t, harness.RedisOptions{})
			s := open(t, redistask.Config{Client: client(t, server, "a", "")})
			ref := create(t, s, begun(s, "t"))
			_, f, err := s.Watch(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := tell(t.Context(), s, ref, piece("x")); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, err := f.Next(ctx); err != nil {
				t.Fatal(err)
			}
			if err := lose(ctx, server); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Next(ctx); !errors.Is(err, task.ErrLagged) {
				t.Errorf("who watched is told %v", err)
			}
			if err := everything(ctx, s, "after"); err != nil {
				t.Errorf("it doesn't go on: %v", err)
			}
		})
	}
}

func said(id string) task.Event {
	return task.Event{Message: &task.Message{ID: id, Role: task.User}}
}

// A server that comes back with less than it had doesn't let a process write over what another one wrote meanwhile.
func TestVersionsThatWereLost(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	a, b := open(t, redistask.Config{Client: client(t, server, "a", "")}), open(t, redistask.Config{Client: client(t, server, "a", "")})
	ref := create(t, a, begun(a, "t"))
	admin := server.Client()
	defer func() { _ = admin.Close() }()
	keys, err := server.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := map[string]string{}
	for _, k := range keys {
		before[k] = admin.Dump(t.Context(), k).Val()
	}
	if err := tell(t.Context(), a, ref, said("lost")); err != nil {
		t.Fatal(err)
	}
	if err := admin.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for k, v := range before {
		if err := admin.Restore(t.Context(), k, time.Hour, v).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := tell(t.Context(), b, ref, said("kept")); err != nil {
		t.Fatal(err)
	}
	if err := tell(t.Context(), a, ref, said("too")); err != nil {
		t.Fatal(err)
	}
	got, err := b.Get(t.Context(), ref)
	if err != nil || len(got.Task.History) != 2 || got.Task.History[0].ID != "kept" || got.Task.History[1].ID != "too" {
		t.Errorf("%+v, %v", got.Task.History, err)
	}
}

// rewrite does something to the stream of events at once.
func rewrite(ctx context.Context, server *harness.Redis, do func(p goredis.Pipeliner, key, epoch string)) error {
	c := server.Client()
	defer func() { _ = c.Close() }()
	key := redis.Prefix("default", "a") + "t:ev"
	last, err := c.XRevRangeN(ctx, key, "+", "-", 1).Result()
	if err != nil {
		return err
	}
	epoch, _, _ := strings.Cut(last[0].ID, "-")
	_, err = c.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		do(p, key, epoch)
		return nil
	})
	return err
}

func entry(key, id string) *goredis.XAddArgs {
	return &goredis.XAddArgs{Stream: key, ID: id, Values: []string{"c", "x", "n", "x", "s", "1", "e", "{}"}}
}

// A reader who doesn't read is cut off, and delays nobody.
func TestReadersWhoLag(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	s := open(t, redistask.Config{Client: client(t, server, "a", ""), MaxLag: 10})
	ref := create(t, s, begun(s, "t"))
	_, slow, err := s.Watch(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	_, quick, err := s.Watch(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	defer quick.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 12 {
		if err := tell(ctx, s, ref, piece("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := quick.Next(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := slow.Next(ctx); !errors.Is(err, task.ErrLagged) {
		t.Errorf("a reader who lags: %v", err)
	}
	if _, err := slow.Next(ctx); !errors.Is(err, task.ErrEnded) {
		t.Errorf("a closed feed: %v", err)
	}
	left, leave := context.WithCancel(ctx)
	leave()
	if _, err := quick.Next(left); !errors.Is(err, context.Canceled) {
		t.Errorf("a reader who leaves: %v", err)
	}
}

// Two processes do anything to a few tasks: each sees the same events in the same order, and what it reads is what the events make.
func TestAnythingFromTwoProcesses(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	stores := []*redistask.Store{open(t, redistask.Config{Client: client(t, server, "a", "")}), open(t, redistask.Config{Client: client(t, server, "a", "")})}
	made := 0
	rapid.Check(t, func(rt *rapid.T) {
		made++
		r := begun(stores[0], fmt.Sprint("t", made))
		ref := r.Ref()
		if _, err := stores[0].Create(t.Context(), r); err != nil {
			rt.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var feeds []task.Feed
		var starts []task.Record
		watch := func(s *redistask.Store) {
			rec, f, err := s.Watch(ctx, ref)
			if err != nil {
				rt.Fatal(err)
			}
			feeds, starts = append(feeds, f), append(starts, rec)
		}
		defer func() {
			for _, f := range feeds {
				f.Close()
			}
		}()
		states := []task.State{task.Submitted, task.Working, task.InputRequired}
		for i := range rapid.IntRange(1, 25).Draw(rt, "n") {
			s := rapid.SampledFrom(stores).Draw(rt, "store")
			var e task.Event
			switch rapid.IntRange(0, 4).Draw(rt, "kind") {
			case 0:
				e = status(rapid.SampledFrom(states).Draw(rt, "state"))
				e.Status.Message = &task.Message{ID: fmt.Sprint("a", i), Role: task.Agent}
			case 1:
				e.Message = &task.Message{ID: fmt.Sprint("u", i), Role: task.User}
			case 2:
				watch(s)
				continue
			default:
				e = piece(rapid.StringN(0, 30, 20_000).Draw(rt, "text"))
				e.Chunk.Artifact.ID = rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "id")
				e.Chunk.Append, e.Chunk.Merge = rapid.Bool().Draw(rt, "append"), rapid.Bool().Draw(rt, "merge")
				if rapid.IntRange(0, 5).Draw(rt, "large") == 0 {
					e.Chunk.Artifact.Parts = append(e.Chunk.Artifact.Parts, task.Part{Kind: task.Raw, Raw: make([]byte, 9_000)})
				}
			}
			if err := tell(ctx, s, ref, e); err != nil {
				rt.Fatal(err)
			}
		}
		if err := tell(ctx, stores[1], ref, status(task.Completed)); err != nil {
			rt.Fatal(err)
		}
		final, err := stores[0].Get(ctx, ref)
		if err != nil {
			rt.Fatal(err)
		}
		for i, f := range feeds {
			seq := starts[i].Seq
			now := starts[i].Task
			for {
				e, err := f.Next(ctx)
				if errors.Is(err, task.ErrEnded) {
					break
				}
				if err != nil || e.Seq <= seq {
					rt.Fatalf("event %d after %d, %v", e.Seq, seq, err)
				}
				seq = e.Seq
				if now, err = task.Apply(now, e, task.Bounds{}); err != nil {
					rt.Fatal(err)
				}
			}
			if !reflect.DeepEqual(final.Task.Artifacts, now.Artifacts) || seq != final.Seq || now.Status.State != task.Completed {
				rt.Fatalf("what reader %d saw makes another task (seq %d of %d): %s", i, seq, final.Seq, cmp.Diff(final.Task.Artifacts, now.Artifacts))
			}
		}
	})
}
