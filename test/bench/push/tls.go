package main

import (
	"crypto/tls"
	"sync"

	"github.com/agentry/agentry/test/harness/pki"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
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
	byAgent map[string]credentials.TransportCredentials
}

func newClientCreds(env func(string) string) (*clientCreds, error) {
	c := &clientCreds{leaves: map[string]pki.Leaf{}, byAgent: map[string]credentials.TransportCredentials{}, resume: true}
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

func (c *clientCreds) of(agent string) (credentials.TransportCredentials, error) {
	if c.ca == nil {
		return insecure.NewCredentials(), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if creds := c.byAgent[agent]; creds != nil {
		return creds, nil
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
	c.byAgent[agent] = credentials.NewTLS(c.ca.Client(leaf, sessions))
	return c.byAgent[agent], nil
}
