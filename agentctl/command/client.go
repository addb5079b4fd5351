package command

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/gen/agentry/access/v1/accessv1connect"
	"github.com/agentry/agentry/gen/agentry/audit/v1/auditv1connect"
	"github.com/agentry/agentry/gen/agentry/cluster/v1/clusterv1connect"
	"github.com/agentry/agentry/gen/agentry/identity/v1/identityv1connect"
	"github.com/agentry/agentry/gen/agentry/registry/v1/registryv1connect"
	"github.com/agentry/agentry/gen/agentry/release/v1/releasev1connect"
	"github.com/agentry/agentry/gen/agentry/spec/v1/specv1connect"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
)

const defaultServer = "http://127.0.0.1:7700"

// client is one control plane, with whom we are there and where.
type client struct {
	server    string // its replicas' addresses, by comma
	servers   *servers
	namespace string
	caller    *caller
	spec      specv1connect.SpecServiceClient
	status    releasev1connect.StatusServiceClient
	rollouts  releasev1connect.RolloutServiceClient

	prompts     registryv1connect.PromptServiceClient
	mcp         registryv1connect.McpServiceClient
	credentials registryv1connect.CredentialServiceClient

	access   accessv1connect.AccessServiceClient
	identity identityv1connect.IdentityServiceClient
	audit    auditv1connect.AuditServiceClient
	cluster  clusterv1connect.ClusterServiceClient
}

// connect works out server, token and namespace and makes the clients. It sends nothing yet.
func (c *cli) connect() (*client, error) {
	ctx, err := c.currentContext()
	if err != nil {
		return nil, err
	}
	return c.connectTo(ctx, c.token)
}

// tokenFinder gives the token for a server; local says that it is this machine, without TLS: only there a token file counts by itself.
type tokenFinder func(ctx contextEntry, server string, local bool) (secret.Value, error)

// connectTo is connect in a context and with a token of the caller's choice.
func (c *cli) connectTo(ctx contextEntry, find tokenFinder) (*client, error) {
	to, err := newServers(first(c.flags.server, c.env.Getenv("AGENTCTL_SERVER"), ctx.Server, defaultServer))
	if err != nil {
		return nil, err
	}
	namespace := c.namespace(ctx)
	if !spec.ValidName(namespace) {
		return nil, usagef("namespace %q is no name (letters, digits, - _ . inside, at most 64)", namespace)
	}
	token, err := find(ctx, to.String(), to.local())
	if err != nil {
		return nil, err
	}
	onHost := true
	for _, u := range to.hosts() {
		onHost = onHost && loopback(u.Hostname())
		if u.Scheme == "http" && !loopback(u.Hostname()) && !token.IsZero() {
			return nil, failf(exitUsage, "use https://", "a token is not sent over plain HTTP to %s", u.Host)
		}
	}
	roots, err := c.roots(ctx)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots},
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		ForceAttemptHTTP2:   true,
		// A command makes a few calls and ends: nothing is left open behind it. No header timeout: a watch may be quiet.
		DisableKeepAlives: true,
	}
	if onHost {
		transport.Proxy = nil
	}
	server := to.urls[0]
	way := &caller{token: token, servers: to, by: transport, stderr: c.env.Stderr}
	opts := connect.WithInterceptors(way)
	httpClient := &http.Client{Transport: &aimed{to: to, by: transport}}
	return &client{
		server:    to.String(),
		servers:   to,
		namespace: namespace,
		caller:    way,
		spec:      specv1connect.NewSpecServiceClient(httpClient, server, opts),
		status:    releasev1connect.NewStatusServiceClient(httpClient, server, opts),
		rollouts:  releasev1connect.NewRolloutServiceClient(httpClient, server, opts),

		prompts:     registryv1connect.NewPromptServiceClient(httpClient, server, opts),
		mcp:         registryv1connect.NewMcpServiceClient(httpClient, server, opts),
		credentials: registryv1connect.NewCredentialServiceClient(httpClient, server, opts),

		access:   accessv1connect.NewAccessServiceClient(httpClient, server, opts),
		identity: identityv1connect.NewIdentityServiceClient(httpClient, server, opts),
		audit:    auditv1connect.NewAuditServiceClient(httpClient, server, opts),
		cluster:  clusterv1connect.NewClusterServiceClient(httpClient, server, opts),
	}, nil
}

// sameServers reports whether two texts name the same replicas.
func sameServers(a, b string) bool {
	one, err := newServers(a)
	other, bad := newServers(b)
	return err == nil && bad == nil && one.String() == other.String()
}

// serverURL completes a server's address as people write it.
func serverURL(text string) string {
	text = strings.TrimSuffix(text, "/")
	if strings.Contains(text, "://") {
		return text
	}
	return "http://" + text
}

func (c *cli) namespace(ctx contextEntry) string {
	return first(c.flags.namespace, c.env.Getenv("AGENTCTL_NAMESPACE"), ctx.Namespace, "default")
}

// token finds the token. A context's own is for the context's server, the data directory's for this machine only.
func (c *cli) token(ctx contextEntry, server string, local bool) (secret.Value, error) {
	if c.flags.tokenFile == "" {
		if t := c.env.Getenv("AGENTCTL_TOKEN"); t != "" {
			return secret.NewValue(strings.TrimSpace(t)), nil
		}
	}
	if file := first(c.flags.tokenFile, c.env.Getenv("AGENTRY_TOKEN_FILE")); file != "" {
		return readToken(file, "a control plane in dev mode writes it at its first start")
	}
	if ctx.TokenFile != "" && (ctx.Server == "" || sameServers(ctx.Server, server)) {
		return readToken(ctx.TokenFile, "log in anew: agentctl login")
	}
	if !local {
		return secret.Value{}, nil
	}
	b, err := os.ReadFile(filepath.Join(c.stateDir(), "token"))
	if err != nil {
		return secret.Value{}, nil //nolint:nilerr // no token there: the server will say what it wants
	}
	return secret.NewValue(strings.TrimSpace(string(b))), nil
}

func readToken(file, hint string) (secret.Value, error) {
	b, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return secret.Value{}, failf(exitPermission, hint, "read the token: %w", err)
	}
	return secret.NewValue(strings.TrimSpace(string(b))), nil
}

// roots gives the certificate authorities to trust; nil: the system's.
func (c *cli) roots(ctx contextEntry) (*x509.CertPool, error) {
	file := first(c.flags.caFile, c.env.Getenv("AGENTCTL_CA_FILE"), ctx.CAFile)
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return nil, failf(exitUsage, "name the file with --ca-file, AGENTCTL_CA_FILE or in the context", "read the server's certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, failf(exitUsage, "it must be PEM", "%s holds no certificate", file)
	}
	return pool, nil
}

// stateDir is the default data directory of every process of ours.
func (c *cli) stateDir() string {
	base := first(c.env.Getenv("XDG_STATE_HOME"), filepath.Join(c.env.Getenv("HOME"), ".local", "state"))
	return filepath.Join(base, "agentry")
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}

// first gives the first text that isn't empty.
func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
