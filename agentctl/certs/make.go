package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/agentry/agentry/internal/errs"
)

// backdate is how long before its making a certificate begins: clocks differ.
const backdate = time.Hour

// Done is what became of one thing of a plan.
type Done struct {
	Path string
	// What is "authority", "certificate", "trust" or "key".
	What string
	// Did is "made", "renewed" or "kept".
	Did string
	// NotAfter is when a certificate ends; zero for a key and for trust.
	NotAfter time.Time
}

// What became of a thing.
const (
	Made    = "made"
	Renewed = "renewed"
	Kept    = "kept"
)

// Make makes in dir what a plan wants and is not there, and certificates anew that have less than a third of their life left, are for
// other names, or are not of their authority. Keys and authorities that are there are kept; one that has run out is an error, for who
// trusts it has to be told. A file is written whole or not at all; keys have mode 0600, the rest 0644. now is the clock. A second call
// at the same time in the same directory is the caller's to prevent.
func Make(dir string, p Plan, now time.Time) ([]Done, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	m := &maker{dir: dir, now: now, signers: map[string]*pair{}}
	order, err := p.order()
	if err != nil {
		return nil, err
	}
	for _, name := range order {
		if err := m.authority(name, p.Authorities[name]); err != nil {
			return m.done, fmt.Errorf("authority %q: %w", name, err)
		}
	}
	for _, name := range sorted(p.Certificates) {
		if err := m.certificate(name, p.Certificates[name]); err != nil {
			return m.done, fmt.Errorf("certificate %q: %w", name, err)
		}
	}
	for _, name := range sorted(p.Trust) {
		if err := m.trust(name, p.Trust[name]); err != nil {
			return m.done, fmt.Errorf("trust %q: %w", name, err)
		}
	}
	for _, name := range p.Keys {
		if err := m.key(name); err != nil {
			return m.done, fmt.Errorf("key %q: %w", name, err)
		}
	}
	return m.done, nil
}

type maker struct {
	dir     string
	now     time.Time
	signers map[string]*pair
	done    []Done
}

// pair is a certificate with its key, and the certificates from it to its root, itself first.
type pair struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	chain []*x509.Certificate
}

func (m *maker) note(file, what, did string, notAfter time.Time) {
	m.done = append(m.done, Done{Path: file, What: what, Did: did, NotAfter: notAfter})
}

func (m *maker) authority(name string, a Authority) error {
	held, err := m.load(name)
	if err == nil {
		if held.cert.NotAfter.Before(m.now) {
			return errs.New(errs.Precondition, "it ran out on %s: move its files away, make a new one, and let everybody trust it", held.cert.NotAfter.Format(time.DateOnly))
		}
		if a.By != "" {
			held.chain = append(held.chain[:1], m.signers[a.By].chain...)
		}
		m.signers[name] = held
		m.note(name, "authority", Kept, held.cert.NotAfter)
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: path.Base(name)}, NotAfter: m.now.Add(lasting(a.Days, defaultAuthorityDays)),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	made, err := m.sign(template, m.signers[a.By])
	if err != nil {
		return err
	}
	m.signers[name] = made
	m.note(name, "authority", Made, made.cert.NotAfter)
	return m.save(name, made, made.chain)
}

func (m *maker) certificate(name string, c Certificate) error {
	by := m.signers[c.By]
	template, err := c.template(name)
	if err != nil {
		return err
	}
	life := lasting(c.Days, defaultCertificateDays)
	template.NotAfter = m.now.Add(life)
	if template.NotAfter.After(by.cert.NotAfter) {
		template.NotAfter = by.cert.NotAfter
	}
	did := Made
	held, err := m.load(name)
	switch {
	case err == nil && held.cert.CheckSignatureFrom(by.cert) == nil && held.cert.NotAfter.Sub(m.now) >= life/3 && alike(held.cert, template):
		m.note(name, "certificate", Kept, held.cert.NotAfter)
		return nil
	case err == nil:
		did = Renewed
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	made, err := m.sign(template, by)
	if err != nil {
		return err
	}
	m.note(name, "certificate", did, made.cert.NotAfter)
	return m.save(name, made, made.chain[:len(made.chain)-1]) // the root is what the other side has
}

func (c Certificate) template(name string) (*x509.Certificate, error) {
	t := &x509.Certificate{Subject: pkix.Name{CommonName: c.Name}, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
	if c.Name == "" {
		t.Subject.CommonName = path.Base(name)
	}
	for _, host := range c.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	if c.URI != "" {
		u, err := url.Parse(c.URI)
		if err != nil {
			return nil, err
		}
		t.URIs = []*url.URL{u}
	}
	for _, use := range c.uses() {
		usage := x509.ExtKeyUsageClientAuth
		if use == useServer {
			usage = x509.ExtKeyUsageServerAuth
		}
		t.ExtKeyUsage = append(t.ExtKeyUsage, usage)
	}
	return t, nil
}

// alike says whether a certificate says what a template says.
func alike(held, want *x509.Certificate) bool {
	return held.Subject.CommonName == want.Subject.CommonName && slices.Equal(held.DNSNames, want.DNSNames) &&
		slices.EqualFunc(held.IPAddresses, want.IPAddresses, net.IP.Equal) && slices.Equal(held.ExtKeyUsage, want.ExtKeyUsage) &&
		slices.EqualFunc(held.URIs, want.URIs, func(a, b *url.URL) bool { return a.String() == b.String() })
}

// sign makes a key and a certificate for it. by nil: it signs itself.
func (m *maker) sign(template *x509.Certificate, by *pair) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber, template.NotBefore = serial, m.now.Add(-backdate)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	out := &pair{cert: cert, key: key, chain: []*x509.Certificate{cert}}
	if by != nil {
		out.chain = append(out.chain, by.chain...)
	}
	return out, nil
}

func (m *maker) trust(name string, authorities []string) error {
	var text []byte
	for _, a := range authorities {
		chain := m.signers[a].chain
		text = append(text, encode(chain[len(chain)-1])...)
	}
	return m.put(name, "trust", text, 0o644, time.Time{})
}

func (m *maker) key(name string) error {
	if _, err := os.Stat(m.file(name)); err == nil {
		m.note(name, "key", Kept, time.Time{})
		return nil
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	return m.put(name, "key", []byte(base64.StdEncoding.EncodeToString(raw)+"\n"), 0o600, time.Time{})
}

// put writes a file unless it holds the same already.
func (m *maker) put(name, what string, text []byte, mode fs.FileMode, notAfter time.Time) error {
	held, err := os.ReadFile(m.file(name))
	switch {
	case err == nil && bytes.Equal(held, text):
		m.note(name, what, Kept, notAfter)
		return nil
	case err == nil:
		m.note(name, what, Renewed, notAfter)
	case errors.Is(err, fs.ErrNotExist):
		m.note(name, what, Made, notAfter)
	default:
		return err
	}
	return write(m.file(name), text, mode)
}

func (m *maker) file(name string) string { return filepath.Join(m.dir, filepath.FromSlash(name)) }

// save writes key and certificates. The key goes first: a certificate without its key is worth nothing, and is made anew.
func (m *maker) save(name string, p *pair, chain []*x509.Certificate) error {
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return err
	}
	if err := write(m.file(name)+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return err
	}
	var text []byte
	for _, c := range chain {
		text = append(text, encode(c)...)
	}
	return write(m.file(name)+".pem", text, 0o644)
}

// load reads a pair. One that is there in part, or whose key is another's, is fs.ErrNotExist: a crash left it so.
func (m *maker) load(name string) (*pair, error) {
	certs, err := os.ReadFile(m.file(name) + ".pem")
	if err != nil {
		return nil, err
	}
	keys, err := os.ReadFile(m.file(name) + ".key")
	if err != nil {
		return nil, err
	}
	certBlock, _ := pem.Decode(certs)
	keyBlock, _ := pem.Decode(keys)
	if certBlock == nil || keyBlock == nil {
		return nil, errs.New(errs.Invalid, "%s.pem or %s.key holds no PEM", name, name)
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errs.New(errs.Invalid, "%s.key isn't an ECDSA key: it was not made here, and is left alone", name)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s: the key is another certificate's: %w", name, fs.ErrNotExist)
	}
	return &pair{cert: cert, key: key, chain: []*x509.Certificate{cert}}, nil
}

func encode(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// write renames a synced file into place, in a directory that it makes (mode 0755).
func write(file string, text []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // G301: who serves with a certificate may be another user; keys have their own mode
		return err
	}
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
