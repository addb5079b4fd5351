// Package audit keeps who did what: every change, every use of a credential, every failed authentication and every denied call
// (requirements D4). An entry of a change is written in the transaction of the change, so that there is neither without the other;
// the rest goes through a bounded queue. A chainer gives entries their place in a hash chain. The gate, the store that app
// wraps, and the audit service use it; it decides nothing about who may do what.
package audit

import "time"

// Type is what sort of thing happened.
type Type string

// The types.
const (
	Changed         Type = "change"
	CredentialUse   Type = "credential_use" //nolint:gosec // G101: a word, no credential
	Unauthenticated Type = "unauthenticated"
	Denied          Type = "denied"
	// Lost tells how many events this log doesn't have, and why.
	Lost Type = "lost"
)

// OK is the outcome of what was done.
const OK = "ok"

// Event is something that happened without a change of the store.
type Event struct {
	Type Type
	Call
	Objects []string
	Message string
	Outcome string
	// Instance is whom a credential was handed to. Many of one agent make one entry that counts them.
	Instance string
	Time     time.Time // zero: now
}

// Recorder takes events. It never blocks: what doesn't fit into its queue is counted, and the count is an entry of its own.
type Recorder interface{ Record(e Event) }
