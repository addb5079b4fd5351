package redistask_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/agentd/task/redistask"
	"github.com/agentry/agentry/agentd/task/tasktest"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/test/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client is one process's, for an agent of its own.
func client(tb testing.TB, server *harness.Redis, agent, credential string) *redis.Client {
	tb.Helper()
	c, err := redis.New(redis.Config{
		Address: server.URL, Prefix: redis.Prefix("default", agent), Credential: func() secret.Value { return secret.NewValue(credential) }, RootCAs: server.CA,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

func open(tb testing.TB, cfg redistask.Config) *redistask.Store {
	tb.Helper()
	s, err := redistask.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

// agent is one of the test's own.
func agent(tb testing.TB) string {
	tb.Helper()
	return redis.Digest(tb.Name())
}

func TestConformance(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	tasktest.Run(t, func(t *testing.T) task.Store {
		t.Helper()
		return open(t, redistask.Config{Client: client(t, server, agent(t), "")})
	})
}

func TestShared(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	tasktest.RunShared(t, func(t *testing.T) tasktest.Cluster {
		t.Helper()
		name := agent(t)
		return tasktest.Cluster{
			Open: func(t *testing.T) task.Shared {
				t.Helper()
				return open(t, redistask.Config{Client: client(t, server, name, "")})
			},
			Kill: func(s task.Shared) {
				if s, ok := s.(*redistask.Store); ok {
					s.Kill()
				}
			},
		}
	})
}
