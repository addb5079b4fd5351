package redismemory_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/memory/redismemory"
	"github.com/agentry/agentry/agentd/memory/strategy"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/test/harness"
)

// embed gives every text the same direction.
func embed(_ context.Context, _ string, texts []string) ([][]float32, error) {
	out := make([][]float32, len(texts))
	for i := range texts {
		out[i] = []float32{1, 2, -3}
	}
	return out, nil
}

// everything uses each method once.
func everything(ctx context.Context, m *redismemory.Memory, n int) error {
	leave, err := m.Enter(ctx, key("s"))
	if err != nil {
		return err
	}
	defer leave()
	if _, err := m.Recall(ctx, key("s"), memory.Query{Text: "q"}); err != nil {
		return err
	}
	err = m.Remember(ctx, key("s"), say(n))
	_, searched := m.Search(ctx, key("s"), "q", 3)
	_, listed := m.List(ctx, key("s").Owner(), 0)
	_, read := m.History(ctx, key("s"), 0)
	return errors.Join(err, searched, listed, read, m.Compact(ctx, key("s"), func(context.Context, string, []memory.Turn) (string, error) { return "short", nil }))
}

// A user limited to the agent's keys and to the documented commands can do everything; every key has an end, and none tells who spoke.
func TestLimitedUser(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{ACL: []string{harness.RedisACL("helper", "s3cret", "default", "a")}})
	m := open(t, redismemory.Config{
		Client: client(t, server, `{"username":"helper","password":"s3cret"}`),
		Strategy: strategy.Config{
			Compression: strategy.Summarize, Search: strategy.Hybrid, MaxTokens: 40, Embed: embed, EmbeddingModel: "e", TTL: time.Hour,
		},
	})
	if err := m.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := range 8 {
		if err := everything(t.Context(), m, n); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := m.Recall(t.Context(), key("s"), memory.Query{}); err != nil || r.Summary != "short" {
		t.Errorf("%+v, %v", r, err)
	}
	keys, err := server.Keys(t.Context())
	if err != nil || len(keys) < 5 {
		t.Fatal(keys, err)
	}
	admin := server.Client()
	defer func() { _ = admin.Close() }()
	vectors := 0
	for _, k := range keys {
		if !strings.HasPrefix(k, "agentry:{default:a}:") || strings.Contains(k, "ann") {
			t.Errorf("key %s", k)
		}
		if ttl := admin.TTL(t.Context(), k).Val(); ttl <= 0 || ttl > 25*time.Hour {
			t.Errorf("key %s ends in %s", k, ttl)
		}
		if strings.HasSuffix(k, ":v") {
			vectors++
		}
	}
	if vectors != 1 {
		t.Errorf("no vectors are kept: %v", keys)
	}
	if err := m.Forget(t.Context(), key("s")); err != nil {
		t.Error(err)
	}
	other := key("s")
	other.Agent = "b"
	if err := m.Remember(t.Context(), other, say(1)); !errs.Is(err, errs.Unavailable) {
		t.Errorf("another agent's keys: %v", err)
	}
	rude := limited(server)
	defer func() { _ = rude.Close() }()
	for _, command := range [][]any{{"KEYS", "*"}, {"SCAN", "0"}, {"RANDOMKEY"}, {"DBSIZE"}, {"FLUSHALL"}, {"CONFIG", "GET", "*"}} {
		if err := rude.Do(t.Context(), command...).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("the documented user may %v: %v", command, err)
		}
	}
}

func TestTTL(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	m := open(t, redismemory.Config{Client: client(t, server, ""), Strategy: strategy.Config{TTL: 150 * time.Millisecond}})
	if err := m.Remember(t.Context(), key("s"), say(1)); err != nil {
		t.Fatal(err)
	}
	err := harness.Poll(t.Context(), 10*time.Second, func(ctx context.Context) error {
		_, err := m.History(ctx, key("s"), 0)
		if errs.Is(err, errs.NotFound) {
			return nil
		}
		return errors.New("still there")
	})
	if err != nil {
		t.Error(err)
	}
	if got, err := m.List(t.Context(), key("s").Owner(), 0); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	m := open(t, redismemory.Config{Client: client(t, server, ""), MaxSessionTurns: 6, MaxSessionBytes: 4 << 10, Strategy: strategy.Config{Compression: strategy.None}})
	for n := range 9 {
		if err := m.Remember(t.Context(), key("s"), say(n)); err != nil {
			t.Fatal(err)
		}
	}
	if turns, err := m.History(t.Context(), key("s"), 0); err != nil || len(turns) != 6 || turns[0].Text != "q6" {
		t.Errorf("%v, %v", turns, err)
	}
	large := say(9)
	large.Turns[0].Text = strings.Repeat("x", 5<<10)
	if err := m.Remember(t.Context(), key("s"), large); err != nil {
		t.Fatal(err)
	}
	if turns, err := m.History(t.Context(), key("s"), 0); err != nil || len(turns) != 2 || turns[1].Text != "a9" {
		t.Errorf("%d turns, %v: the newest exchange stays whole", len(turns), err)
	}
}

// A part of a session that is lost, such as by eviction, takes the rest with it: what is left is never taken for the whole.
func TestLostPart(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	m := open(t, redismemory.Config{Client: client(t, server, "")})
	admin := server.Client()
	defer func() { _ = admin.Close() }()
	for _, part := range []string{":m", ":t"} {
		if err := m.Remember(t.Context(), key("s"), say(1)); err != nil {
			t.Fatal(err)
		}
		keys, err := server.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if strings.HasSuffix(k, part) {
				admin.Del(t.Context(), k)
			}
		}
		if r, err := m.Recall(t.Context(), key("s"), memory.Query{}); err != nil || len(r.Turns) != 0 {
			t.Errorf("%s is lost: %+v, %v", part, r, err)
		}
		if err := m.Remember(t.Context(), key("s"), say(2)); err != nil {
			t.Fatal(err)
		}
		if turns, err := m.History(t.Context(), key("s"), 0); err != nil || len(turns) != 2 || turns[0].Text != "q2" {
			t.Errorf("%s was lost: %v, %v", part, turns, err)
		}
	}
}

// Whatever happens to the server, calls end within the deadline with a typed error, and go on by themselves afterwards.
func TestFaults(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		begin, end func(ctx context.Context, r *harness.Redis) error
		keeps      bool // what was remembered is there afterwards
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
		"silent for 5 s": {
			begin: func(_ context.Context, r *harness.Redis) error { return r.Pause() },
			end: func(ctx context.Context, r *harness.Redis) error {
				select {
				case <-ctx.Done():
				case <-time.After(5 * time.Second):
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
			m := open(t, redismemory.Config{Client: client(t, server, "p")})
			if err := everything(t.Context(), m, 1); err != nil {
				t.Fatal(err)
			}
			leave, err := m.Enter(t.Context(), key("held"))
			if err != nil {
				t.Fatal(err)
			}
			if err := tc.begin(t.Context(), server); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			for n := range 20 {
				if err := everything(t.Context(), m, 100+n); !errs.Is(err, errs.Unavailable) {
					t.Errorf("error %v, want one of kind unavailable", err)
				}
				if err := m.Remember(t.Context(), key("held"), say(100+n)); !errs.Is(err, errs.Unavailable) {
					t.Errorf("error %v, want one of kind unavailable", err)
				}
			}
			if d := time.Since(start); d > 30*time.Second { // each alone may take 2 s
				t.Errorf("forty calls took %s", d)
			}
			if ok, why := m.Healthy(); ok || why == "" {
				t.Errorf("healthy %v %q", ok, why)
			}
			if err := tc.end(t.Context(), server); err != nil {
				t.Fatal(err)
			}
			if err := harness.Poll(t.Context(), 20*time.Second, func(ctx context.Context) error { return everything(ctx, m, 2) }); err != nil {
				t.Fatalf("it doesn't recover: %v", err)
			}
			if err := m.Remember(t.Context(), key("held"), say(1)); err != nil {
				t.Errorf("a request that was under way can't be remembered: %v", err)
			}
			leave()
			turns, err := m.History(t.Context(), key("s"), 0)
			if want := map[bool]int{true: 4, false: 2}[tc.keeps]; err != nil || len(turns) != want {
				t.Errorf("%d turns, %v, want %d", len(turns), err, want)
			}
		})
	}
}

// A write whose answer was late is there once, however often it is tried again.
func TestLateWrite(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	m := open(t, redismemory.Config{Client: client(t, server, "")})
	if err := m.Remember(t.Context(), key("s"), say(1)); err != nil {
		t.Fatal(err)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.Remember(ctx, key("s"), say(2)); err == nil {
		t.Fatal("no error")
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := harness.Poll(t.Context(), 10*time.Second, func(ctx context.Context) error { return m.Remember(ctx, key("s"), say(2)) }); err != nil {
		t.Fatal(err)
	}
	if turns, err := m.History(t.Context(), key("s"), 0); err != nil || len(turns) != 4 {
		t.Errorf("%d turns, %v", len(turns), err)
	}
}

// An answer that is made already isn't lost to a server that restarts at this moment.
func TestRestartUnderARequest(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	m := open(t, redismemory.Config{Client: client(t, server, "")})
	leave, err := m.Enter(t.Context(), key("s"))
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	server.Kill()
	if _, err := m.Recall(t.Context(), key("s"), memory.Query{}); !errs.Is(err, errs.Unavailable) {
		t.Fatalf("recall: %v", err)
	}
	back := make(chan error, 1)
	go func() { back <- server.Start(t.Context()) }()
	remembered := m.Remember(t.Context(), key("s"), say(1))
	if err := <-back; err != nil {
		t.Fatal(err)
	}
	if remembered != nil {
		t.Errorf("remember: %v", remembered)
	}
}
