package redispending_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/pending/pendingtest"
	"github.com/agentry/agentry/agentd/pending/redispending"
	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/test/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, server *harness.Redis, credential string, cfg redispending.Config) *redispending.Store {
	t.Helper()
	c, err := redis.New(redis.Config{
		Address: server.URL, Prefix: redis.Prefix("default", "a"), Credential: func() secret.Value { return secret.NewValue(credential) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	admin := server.Client()
	defer func() { _ = admin.Close() }()
	if err := admin.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	cfg.Client = c
	s, err := redispending.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	server := harness.StartRedis(t, harness.RedisOptions{})
	pendingtest.Run(t, func(t *testing.T) pending.Store {
		t.Helper()
		return open(t, server, "", redispending.Config{})
	})
}

func sample(id string, state pending.State) pending.Run {
	at := time.Now().UTC().Truncate(time.Millisecond)
	return pending.Run{
		ID: id, Namespace: "default", Agent: "a", Principal: "ann@example.com", Session: "holiday-" + id, Kind: pending.Approval, State: state,
		Calls:     []pending.Call{{ID: "1", Arguments: json.RawMessage(`{"a": "<b>", broken`)}},
		CreatedAt: at, ExpiresAt: at.Add(time.Hour), Engine: json.RawMessage(`{ "x": "<&>" }`),
	}
}

// A user limited to the agent's keys and to the documented commands can do everything; every key has an end, and none tells who asked.
func TestLimitedUser(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{ACL: []string{harness.RedisACL("helper", "s3cret", "default", "a")}})
	s := open(t, server, `{"username":"helper","password":"s3cret"}`, redispending.Config{})
	in := sample("r1", pending.Waiting)
	if err := s.Put(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), in.Ref())
	if err != nil || string(got.Engine) != string(in.Engine) || string(got.Calls[0].Arguments) != string(in.Calls[0].Arguments) {
		t.Fatalf("%+v, %v", got, err)
	}
	got.State = pending.Running
	if _, err := s.Update(t.Context(), got); err != nil {
		t.Fatal(err)
	}
	for _, f := range []pending.Filter{
		{},
		{Session: in.Session, Principal: in.Principal, States: []pending.State{pending.Waiting}},
		{ExpiresBefore: time.Now(), States: []pending.State{pending.Waiting}},
		{ExpiresBefore: time.Now()},
	} {
		f.Namespace, f.Agent = "default", "a"
		if _, err := s.List(t.Context(), f); err != nil {
			t.Errorf("list %+v: %v", f, err)
		}
	}
	keys, err := server.Keys(t.Context())
	if err != nil || len(keys) == 0 {
		t.Fatal(keys, err)
	}
	admin := server.Client()
	defer func() { _ = admin.Close() }()
	for _, k := range keys {
		if !strings.HasPrefix(k, "agentry:{default:a}:") || strings.Contains(k, "ann") || strings.Contains(k, "holiday") {
			t.Errorf("key %s", k)
		}
		if ttl := admin.TTL(t.Context(), k).Val(); ttl <= 0 || ttl > pending.Keep+2*time.Hour {
			t.Errorf("key %s ends in %s", k, ttl)
		}
	}
	if err := s.Delete(t.Context(), in.Ref()); err != nil {
		t.Fatal(err)
	}
	other := in
	other.Agent = "b"
	if err := s.Put(t.Context(), other); !errs.Is(err, errs.Unavailable) {
		t.Errorf("another agent's keys: %v", err)
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	s := open(t, server, "", redispending.Config{MaxRuns: 3, MaxRunBytes: 4 << 10})
	put := func(r pending.Run) error { return s.Put(t.Context(), r) }
	for i, r := range []pending.Run{sample("r1", pending.Waiting), sample("r2", pending.Done), sample("r3", pending.Waiting)} {
		r.CreatedAt = r.CreatedAt.Add(time.Duration(i) * time.Second)
		if err := put(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(sample("r4", pending.Waiting)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), pending.Ref{Namespace: "default", Agent: "a", ID: "r2"}); !errs.Is(err, errs.NotFound) {
		t.Errorf("the final run was not dropped: %v", err)
	}
	if err := put(sample("r5", pending.Waiting)); !errs.Is(err, errs.Exhausted) {
		t.Errorf("a store full of waiting runs: %v", err)
	}
	large := sample("r6", pending.Done)
	large.Engine = json.RawMessage(`"` + strings.Repeat("x", 5<<10) + `"`)
	if err := put(large); !errs.Is(err, errs.Exhausted) {
		t.Errorf("a large run: %v", err)
	}
}

func TestGone(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	s := open(t, server, "", redispending.Config{})
	server.Kill()
	r := sample("r1", pending.Waiting)
	if err := s.Put(t.Context(), r); !errs.Is(err, errs.Unavailable) {
		t.Errorf("put: %v", err)
	}
	if _, err := s.Get(t.Context(), r.Ref()); !errs.Is(err, errs.Unavailable) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.List(t.Context(), pending.Filter{Namespace: "default", Agent: "a"}); !errs.Is(err, errs.Unavailable) {
		t.Errorf("list: %v", err)
	}
	if _, err := s.Update(t.Context(), r); !errs.Is(err, errs.Unavailable) {
		t.Errorf("update: %v", err)
	}
	if err := s.Delete(t.Context(), r.Ref()); !errs.Is(err, errs.Unavailable) {
		t.Errorf("delete: %v", err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := harness.Poll(t.Context(), 10*time.Second, func(ctx context.Context) error { return s.Put(ctx, r) }); err != nil {
		t.Errorf("it doesn't recover: %v", err)
	}
}
