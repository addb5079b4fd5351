package identity

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"strconv"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/agentry/agentry/internal/errs"
)

// ticketDay is how long one key seals session tickets. That of the day before and of the day after count too: clocks differ.
const ticketDay = 24 * time.Hour

// served is what the door shows, and what it was made of.
type served struct {
	tls    *tls.Config
	issuer string // serial number of the intermediate
	day    int64
	ends   time.Time
}

// ServerTLS gives the configuration of the runtime door: TLS 1.3 only, the certificate spiffe://<trust-domain>/cp/<replica>, renewed
// by itself and sent with its root, so that a pin finds it. A client certificate is asked for, not demanded, and not verified here:
// Chain and Standing do that. Session tickets open at every replica.
func (a *Authority) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			if err := a.fresh(); err != nil {
				return nil, err
			}
			return a.served.Load().tls, nil
		},
	}
}

// serve makes what the door shows, where it isn't up to date.
func (a *Authority) serve() error {
	a.serving.Lock()
	defer a.serving.Unlock()
	t, now := a.trust.Load(), a.cfg.Now()
	r, day := t.active(), now.Unix()/int64(ticketDay.Seconds())
	issuer := serialOf(r.issuer.cert)
	old := a.served.Load()
	if old != nil && old.issuer == issuer && old.day == day && now.Before(old.ends.Add(-serverLife/2)) {
		return nil
	}
	id, err := spiffeid.FromSegments(a.domain, "cp", a.cfg.ReplicaID)
	if err != nil {
		return errs.New(errs.Invalid, "replica id %q: %w", a.cfg.ReplicaID, err)
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	leaf, err := r.issuer.leaf(id, a.cfg.ReplicaID, key.Public(), seconds(now.Add(-issuerSkew)), seconds(now.Add(serverLife)))
	if err != nil {
		return err
	}
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		ClientAuth: tls.RequestClientCert,
		Certificates: []tls.Certificate{{
			Certificate: append(r.chain(leaf), r.cert.Raw), PrivateKey: key, Leaf: leaf,
		}},
	}
	keys, err := ticketKeys(t.ticket, day)
	if err != nil {
		return err
	}
	cfg.SetSessionTicketKeys(keys)
	a.served.Store(&served{tls: cfg, issuer: issuer, day: day, ends: leaf.NotAfter})
	return nil
}

// ticketKeys gives the keys of a day: its own seals, its neighbours open.
func ticketKeys(seed []byte, day int64) ([][32]byte, error) {
	var out [][32]byte
	for _, d := range []int64{day, day - 1, day + 1} {
		b, err := hkdf.Key(sha256.New, seed, nil, "agentry session tickets "+strconv.FormatInt(d, 10), 32)
		if err != nil {
			return nil, fmt.Errorf("session ticket key: %w", err)
		}
		out = append(out, [32]byte(b))
	}
	return out, nil
}
