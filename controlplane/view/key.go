package view

import (
	"strings"

	"github.com/agentry/agentry/internal/manifest"
)

// The key space. Names hold no "/" except prompt keys, which stand last.
const (
	Root           = "/agentry/"
	ClusterKey     = Root + "cluster"
	blobPrefix     = Root + "blob/"     // <sha256>: immutable bytes
	headPrefix     = Root + "head/"     // <kind>/<namespace>/<name>
	appliedPrefix  = Root + "applied/"  // <namespace>/<agent>/<hash>
	refusalPrefix  = Root + "refusal/"  // <namespace>/<agent>/<hash>
	movePrefix     = Root + "move/"     // <namespace>/<time-ordered id>
	settingsPrefix = Root + "settings/" // <name>: sealed keys, namespace settings

	// AccessPrefix holds tokens, roles and bindings (package directory), IdentityPrefix the certificate authority, join tokens,
	// identities and revocations (package identity), AuditPrefix the audit log (package audit). The view reads none of them.
	AccessPrefix   = Root + "access/"
	IdentityPrefix = Root + "identity/"
	AuditPrefix    = Root + "audit/"

	// ReplicaPrefix holds who is alive (<replica id>, under a lease), LeaderKey who leads, OncePrefix the calls that were carried out
	// (<sha256 of caller and idempotency key>/<number of the transaction>). The view reads none of them either.
	ReplicaPrefix = Root + "replica/"
	LeaderKey     = Root + "leader"
	OncePrefix    = Root + "once/"
)

// HeadsPrefix covers every head, for package audit.
const HeadsPrefix = headPrefix

// The prefixes of what is kept for a while only, for package collector.
const (
	BlobPrefix    = blobPrefix
	AppliedPrefix = appliedPrefix
	RefusalPrefix = refusalPrefix
	MovePrefix    = movePrefix
)

// BlobKey is where immutable bytes lie.
func BlobKey(h manifest.Hash) string { return blobPrefix + h.String() }

// HeadKey is where a head lies. kind is a manifest kind. Names are unique without case, so the key is lower case;
// the record's name keeps its case in the spec.
func HeadKey(kind, namespace, name string) string {
	return HeadPrefix(kind, namespace) + strings.ToLower(name)
}

// HeadPrefix covers the heads of a kind in a namespace; an empty namespace covers all of them.
func HeadPrefix(kind, namespace string) string {
	p := headPrefix + kind + "/"
	if namespace != "" {
		p += namespace + "/"
	}
	return p
}

// AppliedKey is where the manifest of an applied config lies.
func AppliedKey(namespace, agent string, h manifest.Hash) string {
	return appliedPrefix + namespace + "/" + strings.ToLower(agent) + "/" + h.String()
}

// RefusalKey is where the first refusal of a config lies.
func RefusalKey(namespace, agent string, h manifest.Hash) string {
	return refusalPrefix + namespace + "/" + strings.ToLower(agent) + "/" + h.String()
}

// MoveKey is where the log of one transaction lies; id is time-ordered and unique.
func MoveKey(namespace, id string) string { return movePrefix + namespace + "/" + id }

// SettingKey is where a setting of the whole store lies.
func SettingKey(name string) string { return settingsPrefix + name }
