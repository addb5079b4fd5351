// Package backup saves everything that the control plane keeps as one file, and brings such a file back while the control plane
// runs. A backup is logical: keys and values at one store revision, so it fits any etcd, embedded or not, of one member or of
// several, and is the way from one to another. Package clusterapi serves it. It knows which prefix may come back and in which
// order (see Section and Restorer), and never what a release, a token or a certificate means.
package backup

import (
	"strings"

	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/backupfile"
)

// Header is the file's.
type Header = backupfile.Header

// Record is the file's.
type Record = backupfile.Record

// Section is a part of the key space that comes back by rules of its own.
type Section int

// The sections.
const (
	// NoSection isn't kept in a backup: who is alive, who leads, which calls were carried out. It means nothing to another process.
	NoSection Section = iota
	// ClusterSection is the one record that names the store; a restore writes it last.
	ClusterSection
	// BlobSection is immutable bytes named by their hash.
	BlobSection
	// ConfigSection is heads, settings, and the log of what was applied, refused and moved: always brought back.
	ConfigSection
	// AccessSection is tokens, sessions, roles and bindings.
	AccessSection
	// IdentitySection is the certificate authority, certificates, join tokens and revocations.
	IdentitySection
	// AuditSection is the audit log.
	AuditSection
)

// String names a section as reports do.
func (s Section) String() string {
	return [...]string{"none", "cluster", "blobs", "config", "access", "identity", "audit"}[s]
}

// SectionOf gives the section of a key. What no release has ever written under view.Root is config: it is kept and comes back.
func SectionOf(key string) Section {
	switch {
	case !strings.HasPrefix(key, view.Root), strings.HasPrefix(key, view.ReplicaPrefix), strings.HasPrefix(key, view.OncePrefix), key == view.LeaderKey:
		return NoSection
	case key == view.ClusterKey:
		return ClusterSection
	case strings.HasPrefix(key, view.BlobPrefix):
		return BlobSection
	case strings.HasPrefix(key, view.AccessPrefix):
		return AccessSection
	case strings.HasPrefix(key, view.IdentityPrefix):
		return IdentitySection
	case strings.HasPrefix(key, view.AuditPrefix):
		return AuditSection
	default:
		return ConfigSection
	}
}
