package main

import (
	"crypto/tls"
	"sync"

	"github.com/agentry/agentry/test/harness/pki"
)

// authority signs for every instance and for the servers to compare with; agentry is given it as files.
type authority struct {
	ca        *pki.CA
	cert, key string
}

// The variables by which the processes of a run find it; without them a server and its clients speak plaintext.
const (
	envCert = "BENCH_CA_CERT"
	envKey  = "BENCH_CA_KEY"
)

func newAuthority(dir string) (authority, error) {
	ca, err := pki.New()
	if err != nil {
		return authority{}, err
	}
	a := authority{ca: ca}
	a.cert, a.key, err = ca.WriteFiles(dir)
	return a, err
}

func (a authority) env(on bool) []string {
	if !on {
		return nil
	}
	return []string{envCert + "=" + a.cert, envKey + "=" + a.key}
}

// serverTLS gives the settings of a server to compare with: those of the control plane's own door, client certificates demanded.
func serverTLS(env func(string) string) (*tls.Config, error) {
	if env(envCert) == "" {
		return nil, nil //nolint:nilnil // plaintext was asked for
	}
	ca, err := pki.Load(env(envCert), env(envKey))
	if err != nil {
		return nil, err
	}
	leaf, err := ca.ControlPlane("bench")
	if err != nil {
		return nil, err
	}
	return ca.Server(leaf), nil
}

// The ways to come back.
const (
	wayResumed = "resumed"
	wayAnew    = "anew"
)

// clientCreds are the instances' certificates: one per agent, shared by its instances with its TLS sessions, so that this process stays
// small.
type clientCreds struct {
	ca *pki.CA // nil: plaintext

	mu      sync.Mutex // guards what follows
	leaves  map[string]pki.Leaf
	resume  bool
	byAgent map[string]*tls.Config
}

func newClientCreds(env func(string) string) (*clientCreds, error) {
	c := &clientCreds{leaves: map[string]pki.Leaf{}, byAgent: map[string]*tls.Config{}, resume: true}
	if env(envCert) == "" {
		return c, nil
	}
	var err error
	c.ca, err = pki.Load(env(envCert), env(envKey))
	return c, err
}

// way says how connections are made from now on. To resume, sessions must be there: those of the connections before are kept.
func (c *clientCreds) way(way string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if resume := way == wayResumed; resume != c.resume {
		c.resume = resume
		clear(c.byAgent)
	}
}

// secure reports whether connections are by TLS at all.
func (c *clientCreds) secure() bool { return c.ca != nil }

// of gives the settings of an agent's connections; nil: plaintext.
func (c *clientCreds) of(agent string) (*tls.Config, error) {
	if !c.secure() {
		return nil, nil //nolint:nilnil // plaintext was asked for
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cfg := c.byAgent[agent]; cfg != nil {
		return cfg, nil
	}
	leaf, ok := c.leaves[agent]
	if !ok {
		var err error
		if leaf, err = c.ca.Agent("default", agent, ""); err != nil {
			return nil, err
		}
		c.leaves[agent] = leaf
	}
	var sessions tls.ClientSessionCache
	if c.resume {
		sessions = tls.NewLRUClientSessionCache(1)
	}
	cfg := c.ca.Client(leaf, sessions)
	// Sessions are kept by the server's name, and there is one server.
	cfg.NextProtos, cfg.ServerName = []string{"h2"}, "bench"
	c.byAgent[agent] = cfg
	return cfg, nil
}
