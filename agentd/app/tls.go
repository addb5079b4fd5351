package app

import (
	"crypto/tls"
	"fmt"
	"time"

	"github.com/agentry/agentry/internal/rpc"
)

// tls gives the settings of the door; nil: it speaks plain HTTP, on loopback only (Config.Validate).
func (d *daemon) tls() (*tls.Config, error) {
	if d.cfg.TLSCert == "" {
		return nil, nil
	}
	file, err := rpc.NewCertFile(d.cfg.TLSCert, d.cfg.TLSKey, time.Now)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	d.certs.Store(file)
	return file.Config(), nil
}

// names reports whether a host is this instance's: one that its certificate is for.
func (d *daemon) names(host string) bool {
	file := d.certs.Load()
	return file != nil && file.Names(host)
}

// endpoint is where others reach the door, as the control plane tells it.
func (d *daemon) endpoint() string {
	switch {
	case d.cfg.Advertise != "":
		return d.cfg.Advertise
	case d.cfg.TLSCert != "":
		return "https://" + d.address
	default:
		return d.address
	}
}
