package identity

import (
	"crypto/tls"
	"crypto/x509"
	"sync"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/agentry/agentry/internal/errs"
)

// maxSessions bounds the TLS sessions that are kept for resumption: one per control plane is used.
const maxSessions = 16

// TLS gives the settings of connections to the control plane: TLS 1.3, the newest certificate at each handshake, a server of the roots
// that are held then, and resumption. A handshake without an identity fails.
func (k *Keeper) TLS() *tls.Config { return k.tlsFor("") }

// tlsFor is TLS with sessions of one address: two control planes on one host have keys of their own.
func (k *Keeper) tlsFor(address string) *tls.Config {
	cfg := trusting(func(certs []*x509.Certificate) error {
		h := k.current()
		if h == nil {
			return errNone()
		}
		err := verifyServer(certs, h.bundle, k.domain, h.there(k.cfg.clock()))
		if err != nil {
			k.doubt()
		}
		return err
	})
	cfg.GetClientCertificate = tlsconfig.GetClientCertificate(source{k})
	cfg.ClientSessionCache = &sessionsOf{all: k.sessions, of: k.current(), address: address}
	return cfg
}

// trusting gives settings under which verify alone decides. It runs at resumed handshakes, too, where go-spiffe's own check, which is
// replaced here, would not.
func trusting(verify func([]*x509.Certificate) error) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13}
	tlsconfig.HookTLSClientConfig(cfg, x509bundle.New(spiffeid.TrustDomain{}), tlsconfig.AuthorizeAny())
	cfg.VerifyPeerCertificate = nil
	cfg.VerifyConnection = func(cs tls.ConnectionState) error { return verify(cs.PeerCertificates) }
	return cfg
}

func errNone() error { return errs.New(errs.Unavailable, "no identity yet") }

// source gives go-spiffe the identity that is held.
type source struct{ k *Keeper }

var _ x509svid.Source = source{}

// GetX509SVID gives the newest certificate and its key.
func (s source) GetX509SVID() (*x509svid.SVID, error) {
	h := s.k.current()
	if h == nil {
		return nil, errNone()
	}
	return h.svid, nil
}

// sessions are the TLS sessions of one identity: another begins with none.
type sessions struct {
	mu    sync.Mutex // guards what follows
	of    *held
	cache tls.ClientSessionCache
}

func newSessions() *sessions { return &sessions{cache: tls.NewLRUClientSessionCache(maxSessions)} }

func (s *sessions) reset(of *held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of, s.cache = of, tls.NewLRUClientSessionCache(maxSessions)
}

func (s *sessions) cacheOf(of *held) tls.ClientSessionCache {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of != of {
		return nil
	}
	return s.cache
}

// sessionsOf is what one connection sees of them: a ticket that comes after the identity changed is dropped.
type sessionsOf struct {
	all     *sessions
	of      *held
	address string
}

var _ tls.ClientSessionCache = (*sessionsOf)(nil)

// Get gives the session to resume.
func (s *sessionsOf) Get(key string) (*tls.ClientSessionState, bool) {
	if c := s.all.cacheOf(s.of); c != nil {
		return c.Get(s.address + " " + key)
	}
	return nil, false
}

// Put keeps a session.
func (s *sessionsOf) Put(key string, cs *tls.ClientSessionState) {
	if c := s.all.cacheOf(s.of); c != nil {
		c.Put(s.address+" "+key, cs)
	}
}
