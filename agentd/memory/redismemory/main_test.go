package redismemory_test

import (
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/memory/memorytest"
	"github.com/agentry/agentry/agentd/memory/redismemory"
	"github.com/agentry/agentry/agentd/memory/strategy"
	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/test/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client is a client of server as the user that the documents recommend, or as credential.
func client(t *testing.T, server *harness.Redis, credential string) *redis.Client {
	t.Helper()
	c, err := redis.New(redis.Config{
		Address: server.URL, RootCAs: server.CA, Prefix: redis.Prefix("default", "a"),
		Credential: func() secret.Value { return secret.NewValue(credential) },
	})
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

func open(t *testing.T, cfg redismemory.Config) *redismemory.Memory {
	t.Helper()
	m, err := redismemory.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func flush(t *testing.T, server *harness.Redis) {
	t.Helper()
	c := server.Client()
	defer func() { _ = c.Close() }()
	if err := c.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	server := harness.StartRedis(t, harness.RedisOptions{})
	for _, c := range []strategy.Compression{strategy.None, strategy.Window, strategy.TokenBudget, strategy.Summarize} {
		t.Run(string(c), func(t *testing.T) {
			cfg := redismemory.Config{Strategy: strategy.Config{Compression: c}}
			memorytest.Run(t, func(t *testing.T) memory.Memory {
				t.Helper()
				flush(t, server)
				cfg.Client = client(t, server, "")
				return open(t, cfg)
			})
			memorytest.RunSessions(t, func(t *testing.T) memorytest.Both {
				t.Helper()
				flush(t, server)
				cfg.Client = client(t, server, "")
				return open(t, cfg)
			})
		})
	}
}

// limited is the recommended user, with no manners.
func limited(server *harness.Redis) *goredis.Client {
	return goredis.NewClient(&goredis.Options{Addr: server.Addr, Username: "helper", Password: "s3cret", DisableIdentity: true})
}
