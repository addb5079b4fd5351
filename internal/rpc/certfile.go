package rpc

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// certLook is how often a certificate's files are looked at, at most: a renewed one counts without a restart.
const certLook = 10 * time.Second

// CertFile is a server's certificate and key in PEM files, which others renew. It is safe for concurrent use.
type CertFile struct {
	cert, key string
	now       func() time.Time

	mu      sync.Mutex // guards what follows
	loaded  *tls.Certificate
	stamp   [2]time.Time
	checked time.Time
}

// NewCertFile reads the files. now is the clock.
func NewCertFile(cert, key string, now func() time.Time) (*CertFile, error) {
	f := &CertFile{cert: filepath.Clean(cert), key: filepath.Clean(key), now: now}
	stamp, err := f.stamps()
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", f.cert, err)
	}
	f.loaded, f.stamp, f.checked = &pair, stamp, now()
	return f, nil
}

// Config gives the settings of a door that shows the certificate: TLS 1.3.
func (f *CertFile) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.current(), nil },
	}
}

// Names reports whether the certificate is for a host.
func (f *CertFile) Names(host string) bool {
	leaf := f.current().Leaf
	return leaf != nil && leaf.VerifyHostname(host) == nil
}

// current reads the files again where they changed. Files that can't be read, as in the middle of a renewal, leave what there is.
func (f *CertFile) current() *tls.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if now.Sub(f.checked) < certLook {
		return f.loaded
	}
	f.checked = now
	stamp, err := f.stamps()
	if err != nil || stamp == f.stamp {
		return f.loaded
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return f.loaded
	}
	f.loaded, f.stamp = &pair, stamp
	return f.loaded
}

func (f *CertFile) stamps() (out [2]time.Time, err error) {
	for i, path := range []string{f.cert, f.key} {
		info, err := os.Stat(path)
		if err != nil {
			return out, fmt.Errorf("certificate: %w", err)
		}
		out[i] = info.ModTime()
	}
	return out, nil
}
