package local

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/secret"
)

func TestLoopback(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:6379": "127.0.0.1:6379", "localhost:1": "127.0.0.1:1", "redis://127.0.0.9:2": "127.0.0.9:2", "[::1]:3": "[::1]:3",
		"rediss://127.0.0.1:6379": "", "10.0.0.1:6379": "", "redis.example:6379": "", "": "", "127.0.0.1": "127.0.0.1:6379", "redis://[::1]/3": "[::1]:6379", "redis://127.0.0.1:4/": "127.0.0.1:4",
	} {
		got, ok := loopback(in)
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q %v", in, got, ok)
		}
	}
}

// freeAddr gives an address at which nothing listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// program puts an empty program of a name on PATH, and nothing else.
func program(t *testing.T, name string) {
	t.Helper()
	dir := t.TempDir()
	if name != "" {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

func TestPlanRedis(t *testing.T) {
	program(t, "redis-server")
	free, taken := freeAddr(t), listen(t)
	cfg := Config{Dir: "desk", DataDir: "/data", Agents: []Agent{
		{Name: "a", Redis: Redis{Address: free}},
		{Name: "b", Redis: Redis{Address: "redis://" + free, User: "bob", Password: secret.NewValue("planted")}},
		{Name: "c", Redis: Redis{Address: taken.Addr().String(), Unknown: "elsewhere"}},
		{Name: "d", Redis: Redis{Address: "redis.example:6379", Unknown: "elsewhere"}},
		{Name: "e"},
	}}
	var p plan
	if err := p.planRedis(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free)
	dir := "/data/redis-" + port
	if len(p.redis) != 1 || len(p.extras) != 1 || p.extras[0].Name != "redis-"+port || len(p.waitFor) != 1 || p.waitFor[0].addr != free {
		t.Fatalf("%+v", p)
	}
	want := strings.Join([]string{
		"bind 127.0.0.1", "port " + port, "protected-mode yes", "daemonize no", "loglevel warning", `logfile ""`, `dir "` + dir + `"`, `save ""`,
		"appendonly yes", "appendfsync everysec", "rdbcompression yes", "user bob on " + hash(secret.NewValue("planted")) + " ~* &* +@all", "",
	}, "\n")
	got := p.redis[0].config
	if strings.Contains(got, "planted") {
		t.Error("the password is on disk")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(p.notes) != 2 {
		t.Errorf("%q", p.notes)
	}
}

func TestPlanRedisRefuses(t *testing.T) {
	free := freeAddr(t)
	cases := map[string]struct {
		program string
		agents  []Agent
		want    string
	}{
		"no program":          {"", []Agent{{Name: "a", Redis: Redis{Address: free}}}, "an agent's memory needs Redis at " + free + ", nothing listens there, and there is no program redis-server"},
		"unknown credential":  {"redis-server", []Agent{{Name: "a", Redis: Redis{Address: free, Unknown: "k"}}}, "nothing listens at " + free + ", and a Redis started here can't know credential k, which isn't in desk"},
		"different passwords": {"redis-server", []Agent{{Name: "a", Redis: Redis{Address: free}}, {Name: "b", Redis: Redis{Address: free, Password: secret.NewValue("planted")}}}, "agents log in at Redis " + free + " as the default user with different passwords"},
		"a user's name":       {"redis-server", []Agent{{Name: "a", Redis: Redis{Address: free, User: "a on nopass"}}}, "memory of a: a Redis user's name holds no space"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			program(t, c.program)
			var p plan
			err := p.planRedis(t.Context(), Config{Dir: "desk", Agents: c.agents})
			if usage := (*UsageError)(nil); !errors.As(err, &usage) || err.Error() != c.want || usage.Hint == "" {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestRedisConfigOfAPassword(t *testing.T) {
	got := redisConfig("::1", "6379", `/a "b"`, map[string]secret.Value{"": secret.NewValue("planted")})
	if !strings.Contains(got, "\nuser default reset on #") || !strings.Contains(got, "\nbind ::1\n") && !strings.HasPrefix(got, "bind ::1\n") || !strings.Contains(got, `dir "/a \"b\""`) {
		t.Error(got)
	}
	open := redisConfig("127.0.0.1", "6379", "/d", map[string]secret.Value{"": {}})
	if strings.Contains(open, "user") {
		t.Error(open)
	}
	closed := redisConfig("127.0.0.1", "6379", "/d", map[string]secret.Value{"u": secret.NewValue("planted")})
	if !strings.Contains(closed, "user default off\n") {
		t.Error(closed)
	}
}
