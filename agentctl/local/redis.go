package local

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/agentctl/supervise"
	"github.com/agentry/agentry/internal/secret"
)

// defaultRedisPort is meant where an address names none.
const defaultRedisPort = "6379"

// Redis is the Redis server that an agent's memory names. Its zero value is none.
type Redis struct {
	Address string // host:port or redis://host:port; rediss:// is never started here
	// User is "" where the credential is a password alone, or where there is none.
	User     string
	Password secret.Value
	// Unknown is the credential's name where its value isn't among the files: a server started here could not know it.
	Unknown string
}

// server is one Redis server to be started, with everybody who logs in at it.
type server struct {
	addr  string
	users map[string]secret.Value // "" is the default user
}

// planRedis plans a redis-server for each loopback address that an agent's memory names and where nothing listens yet.
func (p *plan) planRedis(ctx context.Context, cfg Config) error {
	var servers []*server
	for _, a := range cfg.Agents {
		addr, ok := loopback(a.Redis.Address)
		if !ok {
			continue
		}
		if listens(ctx, addr) {
			p.notes = append(p.notes, fmt.Sprintf("memory of %s: using the Redis that listens at %s", a.Name, addr))
			continue
		}
		if a.Redis.Unknown != "" {
			return usage("start redis-server yourself with that credential, or put the credential among the files",
				"nothing listens at %s, and a Redis started here can't know credential %s, which isn't in %s", addr, a.Redis.Unknown, cfg.Dir)
		}
		if strings.ContainsFunc(a.Redis.User, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return usage("choose another user name", "memory of %s: a Redis user's name holds no space", a.Name)
		}
		i := slices.IndexFunc(servers, func(s *server) bool { return s.addr == addr })
		if i < 0 {
			i = len(servers)
			servers = append(servers, &server{addr: addr, users: map[string]secret.Value{}})
		}
		s := servers[i]
		if had, ok := s.users[a.Redis.User]; ok && !had.Equal(a.Redis.Password) {
			return usage("give both the same credential, or another address", "agents log in at Redis %s as %s with different passwords", addr, cmp.Or(a.Redis.User, "the default user"))
		}
		s.users[a.Redis.User] = a.Redis.Password
	}
	for _, s := range servers {
		if err := p.addRedis(cfg.DataDir, s); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) addRedis(dataDir string, s *server) error {
	program, err := findBinary("redis-server")
	if err != nil {
		return usage("install Redis 7 (Debian and Ubuntu: apt-get install redis-server), or start a Redis there yourself",
			"an agent's memory needs Redis at %s, nothing listens there, and there is no program redis-server", s.addr)
	}
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	name := "redis"
	if port != defaultRedisPort {
		name += "-" + port
	}
	dir := filepath.Join(dataDir, name)
	p.redis = append(p.redis, redis{dir: dir, config: redisConfig(host, port, dir, s.users)})
	p.extras = append(p.extras, supervise.Process{Name: name, Path: program, Args: []string{filepath.Join(dir, "redis.conf")}, Dir: dir})
	p.waitFor = append(p.waitFor, listening{name, s.addr})
	p.notes = append(p.notes, fmt.Sprintf("memory: starting Redis at %s; its data is in %s", s.addr, dir))
	return nil
}

// redis is a folder and its configuration, written before the server starts.
type redis struct{ dir, config string }

func (r redis) write() error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("data of Redis: %w", err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "redis.conf"), []byte(r.config), 0o600); err != nil {
		return fmt.Errorf("configuration of Redis: %w", err)
	}
	return nil
}

// redisConfig keeps everything below dir: what agents remember is still there at the next `up`. Passwords stand in it as hashes only.
func redisConfig(host, port, dir string, users map[string]secret.Value) string {
	lines := []string{
		"bind " + host, "port " + port, "protected-mode yes", "daemonize no", "loglevel warning", `logfile ""`,
		fmt.Sprintf("dir %q", dir), `save ""`, "appendonly yes", "appendfsync everysec", "rdbcompression yes",
	}
	open := false
	for user, password := range users {
		switch {
		case password.IsZero():
			open = true // everybody may be the default user
		case user == "":
			lines = append(lines, "user default reset on "+hash(password)+" ~* &* +@all")
		default:
			lines = append(lines, "user "+user+" on "+hash(password)+" ~* &* +@all")
		}
	}
	if _, ok := users[""]; !ok && !open {
		lines = append(lines, "user default off")
	}
	slices.Sort(lines[11:])
	return strings.Join(lines, "\n") + "\n"
}

func hash(password secret.Value) string {
	sum := sha256.Sum256([]byte(password.Reveal()))
	return "#" + hex.EncodeToString(sum[:])
}

// loopback gives host:port of a Redis address on this machine without TLS.
func loopback(address string) (string, bool) {
	if address == "" || strings.HasPrefix(address, "rediss://") {
		return "", false
	}
	addr, _, _ := strings.Cut(strings.TrimPrefix(address, "redis://"), "/")
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = strings.Trim(addr, "[]"), defaultRedisPort
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.IsLoopback() {
		return "", false
	}
	return net.JoinHostPort(host, port), true
}

// listens reports whether something accepts connections.
func listens(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
