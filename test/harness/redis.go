package harness

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// RedisOptions say how a redis-server is started. Zero values mean: a free port, everybody may everything, nothing on disk.
type RedisOptions struct {
	// Addr is host:port on loopback; "": a free port.
	Addr string
	// Password of the default user.
	Password string
	// ACL are further users as `user` lines without that word, such as "alice on >secret ~prefix:* +get".
	ACL []string
	// TLS makes the server speak TLS only, with a certificate of an authority of its own: see Redis.CA.
	TLS bool
	// Args are further settings, such as "--maxmemory", "10mb".
	Args []string
}

// Redis is a redis-server process; it can be killed, paused and started again on the same port.
type Redis struct {
	Addr string
	// URL is what an agent's memory.address says.
	URL string
	// CA is the authority of its certificate; nil without TLS. CAFile holds it as PEM.
	CA     *x509.CertPool
	CAFile string
	opts   RedisOptions
	dir    string
	cmd    *exec.Cmd
	log    string
	done   chan struct{}
}

// StartRedis starts a redis-server that ends with the test, and waits until it answers. It fails the test where the program is missing.
func StartRedis(tb testing.TB, o RedisOptions) *Redis {
	tb.Helper()
	r, err := NewRedis(tb.TempDir(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(r.Kill)
	if err := r.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return r
}

// NewRedis prepares a server with its files in dir; Start starts it, Kill ends it.
func NewRedis(dir string, o RedisOptions) (*Redis, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, errors.New("redis-server is not installed: run make test-tools, or apt-get install redis-server")
	}
	r := &Redis{Addr: o.Addr, opts: o, dir: dir, log: filepath.Join(dir, "redis.log")}
	if r.Addr == "" {
		free, err := FreeAddr()
		if err != nil {
			return nil, err
		}
		r.Addr = free
	}
	r.URL = r.Addr
	if o.TLS {
		r.URL = "rediss://" + r.Addr
		return r, r.certify()
	}
	return r, nil
}

// Start starts the process (again), empty as a new one, and waits until it answers.
func (r *Redis) Start(ctx context.Context) error {
	_, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return err
	}
	args := []string{"--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", r.dir, "--logfile", r.log, "--daemonize", "no"}
	if r.opts.TLS {
		args = append(args, "--port", "0", "--tls-port", port, "--tls-auth-clients", "no",
			"--tls-cert-file", filepath.Join(r.dir, "cert.pem"), "--tls-key-file", filepath.Join(r.dir, "key.pem"), "--tls-ca-cert-file", r.CAFile)
	} else {
		args = append(args, "--port", port)
	}
	if r.opts.Password != "" {
		args = append(args, "--requirepass", r.opts.Password)
	}
	args = append(args, r.opts.Args...)
	var config strings.Builder
	for _, u := range r.opts.ACL {
		config.WriteString("user " + u + "\n")
	}
	file := filepath.Join(r.dir, "redis.conf")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		return err
	}
	cmd := exec.Command("redis-server", append([]string{file}, args...)...) //nolint:gosec,noctx // a test's process ends by Kill
	cmd.Dir = r.dir
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	r.cmd, r.done = cmd, done
	return Poll(ctx, 20*time.Second, func(ctx context.Context) error {
		if !r.Running() {
			b, _ := os.ReadFile(r.log)
			return fmt.Errorf("redis-server ended: %s", b)
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.Addr) // go-redis would log each try that is refused
		if err != nil {
			return err
		}
		_ = conn.Close()
		c := r.Client()
		defer func() { _ = c.Close() }()
		return c.Ping(ctx).Err()
	})
}

// Client is a client as the default user, for looking and for faults. The caller closes it.
func (r *Redis) Client() *goredis.Client {
	o := &goredis.Options{Addr: r.Addr, Password: r.opts.Password, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1}
	if r.CA != nil {
		o.TLSConfig = &tls.Config{RootCAs: r.CA, MinVersion: tls.VersionTLS12}
	}
	return goredis.NewClient(o)
}

// Running reports whether the process still runs.
func (r *Redis) Running() bool {
	if r.cmd == nil {
		return false
	}
	select {
	case <-r.done:
		return false
	default:
		return true
	}
}

// Kill ends it by SIGKILL and waits. What it held is lost.
func (r *Redis) Kill() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill()
	<-r.done
}

// Pause stops the process by SIGSTOP: its connections stay, and nothing answers.
func (r *Redis) Pause() error { return r.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (r *Redis) Resume() error { return r.cmd.Process.Signal(syscall.SIGCONT) }

// ReadOnly makes it refuse writes as a replica does, or take them again.
func (r *Redis) ReadOnly(ctx context.Context, on bool) error {
	c := r.Client()
	defer func() { _ = c.Close() }()
	if !on {
		return c.Do(ctx, "REPLICAOF", "NO", "ONE").Err()
	}
	return c.Do(ctx, "REPLICAOF", "127.0.0.1", "1").Err() // nobody is there: it keeps what it has
}

// SetPassword changes the default user's password, as a rotation does; connections that are open stay so.
func (r *Redis) SetPassword(ctx context.Context, password string) error {
	c := r.Client()
	defer func() { _ = c.Close() }()
	if err := c.Do(ctx, "CONFIG", "SET", "requirepass", password).Err(); err != nil {
		return err
	}
	r.opts.Password = password
	return nil
}

// DropClients closes every connection but the asking one.
func (r *Redis) DropClients(ctx context.Context) error {
	c := r.Client()
	defer func() { _ = c.Close() }()
	return c.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err()
}

// Keys lists every key.
func (r *Redis) Keys(ctx context.Context) ([]string, error) {
	c := r.Client()
	defer func() { _ = c.Close() }()
	return c.Keys(ctx, "*").Result()
}

// certify writes a certificate of a new authority for 127.0.0.1 and localhost.
func (r *Redis) certify() error {
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test redis"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "redis"}, NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, authority, authority, &caKey.PublicKey, caKey)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, authority, &key.PublicKey, caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	r.CAFile = filepath.Join(r.dir, "ca.pem")
	for file, b := range map[string]*pem.Block{
		r.CAFile: {Type: "CERTIFICATE", Bytes: caDER}, filepath.Join(r.dir, "cert.pem"): {Type: "CERTIFICATE", Bytes: der},
		filepath.Join(r.dir, "key.pem"): {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			return err
		}
	}
	root, err := x509.ParseCertificate(caDER)
	if err != nil {
		return err
	}
	r.CA = x509.NewCertPool()
	r.CA.AddCert(root)
	return nil
}

// RedisACL is the user that the documents recommend for one agent: its own keys, and what the scripts call.
func RedisACL(name, password, namespace, agent string) string {
	return fmt.Sprintf("%s on >%s resetkeys ~agentry:{%s:%s}:* resetchannels -@all %s", name, password, namespace, agent, strings.Join(RedisCommands(), " "))
}

// RedisCommands are the rights that an agent's user needs.
func RedisCommands() []string {
	return []string{
		"+eval", "+evalsha", "+time", "+ping", "+get", "+set", "+del", "+exists", "+pexpire", "+pexpireat", "+pttl",
		"+hset", "+hget", "+hmget", "+hgetall", "+hdel", "+hincrby", "+lrange", "+llen", "+rpush", "+lpop",
		"+zadd", "+zrem", "+zcard", "+zcount", "+zscore", "+zrank", "+zrange", "+zrevrange", "+zrangebyscore", "+zremrangebyscore", "+zremrangebyrank",
		"+xadd", "+xread", "+xrevrange",
	}
}
