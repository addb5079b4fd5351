package redis_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/test/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, cfg redis.Config) *redis.Client {
	t.Helper()
	cfg.Prefix = redis.Prefix("default", "a")
	c, err := redis.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

func password(s string) func() secret.Value {
	return func() secret.Value { return secret.NewValue(s) }
}

func set(ctx context.Context, c *redis.Client) error {
	return c.Do(ctx, func(ctx context.Context, cmd redis.Commands) error {
		return cmd.Set(ctx, c.Prefix()+"k", "v", time.Minute).Err()
	})
}

func recovers(t *testing.T, c *redis.Client) {
	t.Helper()
	if err := harness.Poll(t.Context(), 15*time.Second, func(ctx context.Context) error { return set(ctx, c) }); err != nil {
		t.Errorf("it doesn't recover: %v", err)
	}
	if ok, why := c.Healthy(); !ok {
		t.Errorf("still unhealthy: %s", why)
	}
}

func wantSick(t *testing.T, err error, code phase.Code) {
	t.Helper()
	var e *redis.Error
	if !errors.As(err, &e) || e.Code != code || !errs.Is(err, errs.Unavailable) {
		t.Errorf("error %v, want code %s", err, code)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{
		"127.0.0.1:6379": true, "h": true, "redis://h:1/3": true, "rediss://h": true, "[::1]:6379": true,
		"": false, "h:0": false, "h:99999": false, "http://h:1": false, "redis://h:1/x": false, "user:hunter2@h:1": false,
		"redis://:hunter2@h:1": false, "h:1?x=1": false, ":6379": false,
	} {
		err := redis.ParseAddress(address)
		if (err == nil) != ok || err != nil && !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

// A credential is an object, the same as a JSON string or with single quotes, or a bare password.
func TestCredentials(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{Password: "{p w}", ACL: []string{harness.RedisACL("helper", "s3cret", "default", "a")}})
	for name, credential := range map[string]string{
		"object":        `{"username":"helper","password":"s3cret"}`,
		"string":        `"{\"username\":\"helper\",\"password\":\"s3cret\"}"`,
		"single quotes": `{'username':'helper','password':'s3cret'}`,
		"bare":          `{p w}`,
	} {
		c := open(t, redis.Config{Address: server.URL, Credential: password(credential)})
		if err := c.Probe(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "bare" {
			continue
		}
		err := c.Do(t.Context(), func(ctx context.Context, cmd redis.Commands) error { return cmd.Keys(ctx, "*").Err() })
		wantSick(t, err, phase.Unauthorized)
		if ok, why := c.Healthy(); !ok {
			t.Errorf("%s: one command that isn't allowed made the server sick: %s", name, why)
		}
	}
	for name, credential := range map[string]string{"wrong": "nope-1234", "none": "", "another's": `{"username":"nobody","password":"s3cret-5678"}`} {
		c := open(t, redis.Config{Address: server.URL, Credential: password(credential)})
		err := c.Probe(t.Context())
		wantSick(t, err, phase.Unauthorized)
		if strings.Contains(err.Error(), "1234") || strings.Contains(err.Error(), "5678") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{TLS: true, Password: "p"})
	c := open(t, redis.Config{Address: server.URL, Credential: password("p"), RootCAs: server.CA})
	if err := c.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	stranger := open(t, redis.Config{Address: server.URL, Credential: password("p")})
	wantSick(t, stranger.Probe(t.Context()), phase.Unreachable)
	plain := open(t, redis.Config{Address: server.Addr, Credential: password("p"), Timeout: 500 * time.Millisecond})
	if err := plain.Probe(t.Context()); !errs.Is(err, errs.Unavailable) {
		t.Errorf("plain text to a TLS door: %v", err)
	}
}

// After a failure nobody waits for the deadline, until a probe has succeeded.
func TestSlow(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	c := open(t, redis.Config{Address: server.URL, Timeout: 300 * time.Millisecond})
	var changes atomic.Int32
	stop := c.OnChange(func() { changes.Add(1) })
	defer stop()
	if err := set(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	wantSick(t, set(t.Context(), c), phase.Timeout)
	start := time.Now()
	for range 100 {
		wantSick(t, set(t.Context(), c), phase.Timeout)
	}
	if d := time.Since(start); d > 10*time.Second { // a hundred deadlines are thirty
		t.Errorf("a hundred calls waited %s", d)
	}
	if ok, _ := c.Healthy(); ok || changes.Load() != 1 {
		t.Errorf("healthy %v after %d changes", ok, changes.Load())
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	recovers(t, c)
	if changes.Load() != 2 {
		t.Errorf("%d changes", changes.Load())
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		begin, end func(ctx context.Context, r *harness.Redis) error
		code       phase.Code
	}{
		"killed": {
			func(_ context.Context, r *harness.Redis) error { r.Kill(); return nil },
			func(ctx context.Context, r *harness.Redis) error { return r.Start(ctx) },
			phase.Unreachable,
		},
		"read only": {
			func(ctx context.Context, r *harness.Redis) error { return r.ReadOnly(ctx, true) },
			func(ctx context.Context, r *harness.Redis) error { return r.ReadOnly(ctx, false) },
			phase.Unreachable,
		},
		"wrong password": {
			func(ctx context.Context, r *harness.Redis) error {
				return errors.Join(r.SetPassword(ctx, "another"), r.DropClients(ctx))
			},
			func(ctx context.Context, r *harness.Redis) error { return r.SetPassword(ctx, "p") },
			phase.Unauthorized,
		},
		"out of memory": {
			func(ctx context.Context, r *harness.Redis) error { return configure(ctx, r, "maxmemory", "1") },
			func(ctx context.Context, r *harness.Redis) error { return configure(ctx, r, "maxmemory", "0") },
			phase.Unreachable,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := harness.StartRedis(t, harness.RedisOptions{Password: "p"})
			c := open(t, redis.Config{Address: server.URL, Credential: password("p")})
			if err := set(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if err := tc.begin(t.Context(), server); err != nil {
				t.Fatal(err)
			}
			wantSick(t, set(t.Context(), c), tc.code)
			if err := tc.end(t.Context(), server); err != nil {
				t.Fatal(err)
			}
			recovers(t, c)
		})
	}
}

func configure(ctx context.Context, r *harness.Redis, name, value string) error {
	c := r.Client()
	defer func() { _ = c.Close() }()
	return c.ConfigSet(ctx, name, value).Err()
}

// A server that restarts between two calls is no failure: connections that were open are made anew.
func TestDroppedConnections(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	c := open(t, redis.Config{Address: server.URL})
	for range 5 {
		if err := set(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if err := server.DropClients(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if ok, why := c.Healthy(); !ok {
		t.Error(why)
	}
}

// A rotated credential is used by new connections, without a new client.
func TestRotation(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{Password: "old"})
	var current atomic.Pointer[string]
	old, fresh := "old", "fresh"
	current.Store(&old)
	c := open(t, redis.Config{Address: server.URL, Credential: func() secret.Value { return secret.NewValue(*current.Load()) }})
	if err := set(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(server.SetPassword(t.Context(), fresh), server.DropClients(t.Context())); err != nil {
		t.Fatal(err)
	}
	current.Store(&fresh)
	recovers(t, c)
}

// What the caller's own context ends says nothing of the server.
func TestContext(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	c := open(t, redis.Config{Address: server.URL})
	if err := set(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Resume() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := set(ctx, c); !errs.Is(err, errs.Timeout) {
		t.Errorf("error %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := set(ended, c); !errs.Is(err, errs.Canceled) {
		t.Errorf("error %v", err)
	}
	if ok, why := c.Healthy(); !ok {
		t.Error(why)
	}
}

// A door that takes connections and says nothing, or garbage, is bounded.
func TestStrangers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{"silent": "", "http": "HTTP/1.1 400 Bad Request\r\n\r\n", "garbage": "\x00\xff*$$\r\n", "huge": "$999999999999\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			defer wg.Wait()
			defer func() { _ = ln.Close() }()
			wg.Go(func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					wg.Go(func() {
						defer func() { _ = conn.Close() }()
						_, _ = conn.Write([]byte(answer))
						_, _ = conn.Read(make([]byte, 1<<10))
						_, _ = conn.Read(make([]byte, 1<<10)) // until the other side ends
					})
				}
			})
			c := open(t, redis.Config{Address: ln.Addr().String(), Timeout: 300 * time.Millisecond})
			defer func() { _ = c.Close() }() // before the listener waits
			if err := c.Probe(t.Context()); !errs.Is(err, errs.Unavailable) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestClients(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{Password: "p"})
	var pool redis.Clients
	cfg := redis.Config{Address: server.URL, Prefix: redis.Prefix("default", "a"), Credential: password("wrong")}
	a, releaseA, err := pool.Take(cfg, "memory")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Credential = password("p")
	b, releaseB, err := pool.Take(cfg, "memory")
	if err != nil {
		t.Fatal(err)
	}
	other, releaseOther, err := pool.Take(cfg, "another")
	if err != nil {
		t.Fatal(err)
	}
	if a != b || a == other {
		t.Error("shared wrongly")
	}
	if err := a.Probe(t.Context()); err != nil {
		t.Errorf("the newest credential is not used: %v", err)
	}
	releaseA()
	releaseA()
	if err := set(t.Context(), b); err != nil {
		t.Errorf("closed under its other user: %v", err)
	}
	releaseB()
	if err := set(t.Context(), b); !errs.Is(err, errs.Unavailable) {
		t.Errorf("not closed: %v", err)
	}
	releaseOther()
	if _, _, err := pool.Take(redis.Config{Address: "x:y", Prefix: "p"}, ""); !errs.Is(err, errs.Invalid) {
		t.Errorf("error %v", err)
	}
}
