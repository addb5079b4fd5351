package redis

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// The defaults of a Config.
const (
	DefaultTimeout = 2 * time.Second
	DefaultPort    = "6379"
)

// Config is what a Client is made of. Address is required.
type Config struct {
	// Address is host:port, redis://host:port/db or rediss://host:port/db (TLS 1.2 or newer). Credentials don't belong into it.
	Address string
	// Credential is asked for every new connection: a password, or {"username": "...", "password": "..."} as JSON. nil: none.
	Credential func() secret.Value
	// Prefix is what every key begins with; see Prefix.
	Prefix string
	// Timeout bounds every call, waiting for a connection included; 0: 2 s.
	Timeout time.Duration
	// Dial connects; nil: net.Dialer. It is where an egress policy is held.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// RootCAs are the authorities of a rediss:// server's certificate; nil: the system's.
	RootCAs *x509.CertPool
	Log     *slog.Logger // nil: none
}

// Prefix is what the keys of an agent begin with. The braces keep them together in a Redis Cluster. Names hold no colon and no brace.
func Prefix(namespace, agent string) string { return "agentry:{" + namespace + ":" + agent + "}:" }

// Digest makes 128 bits of a hash, as hex, of parts that can't be confused: what key names carry of principals and sessions, so that whoever
// may list keys learns nothing of them.
func Digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		sum := sha256.Sum256([]byte(p))
		_, _ = h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// endpoint is a parsed address.
type endpoint struct {
	address string // host:port
	host    string
	db      int
	tls     bool
}

// ParseAddress reports what is wrong with an address, as an error of kind Invalid that doesn't repeat it where it may hold a password.
func ParseAddress(address string) error {
	_, err := parse(address)
	return err
}

func parse(address string) (endpoint, error) {
	if address == "" {
		return endpoint{}, errs.New(errs.Invalid, "the address is missing; it is host:port, redis://host:port/db or rediss://host:port/db")
	}
	if strings.Contains(address, "@") {
		return endpoint{}, errs.New(errs.Invalid, "the address holds a user or password; give them as the credential")
	}
	if !strings.Contains(address, "://") {
		address = "redis://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "redis" && u.Scheme != "rediss" {
		return endpoint{}, errs.New(errs.Invalid, "the address is not host:port, redis://host:port/db or rediss://host:port/db")
	}
	e := endpoint{host: u.Hostname(), tls: u.Scheme == "rediss"}
	port := u.Port()
	if port == "" {
		port = DefaultPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return endpoint{}, errs.New(errs.Invalid, "the address's port is not 1 to 65535")
	}
	e.address = net.JoinHostPort(e.host, port)
	if db := strings.Trim(u.Path, "/"); db != "" {
		if e.db, err = strconv.Atoi(db); err != nil || e.db < 0 {
			return endpoint{}, errs.New(errs.Invalid, "the address's database is not a number")
		}
	}
	return e, nil
}

// account reads a credential: a JSON object, the same as a JSON string or with single quotes, else a bare password.
func account(text string) (username, password string) {
	trimmed := strings.TrimSpace(text)
	var quoted string
	if strings.HasPrefix(trimmed, `"`) && json.Unmarshal([]byte(trimmed), &quoted) == nil {
		trimmed = strings.TrimSpace(quoted)
		text = quoted
	}
	if !strings.HasPrefix(trimmed, "{") {
		return "", text
	}
	var a struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	for _, s := range []string{trimmed, strings.ReplaceAll(trimmed, "'", `"`)} {
		if json.Unmarshal([]byte(s), &a) == nil && (a.Username != "" || a.Password != "") {
			return a.Username, a.Password
		}
	}
	return "", text
}
