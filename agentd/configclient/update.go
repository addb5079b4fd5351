// Package configclient keeps an instance in step with the control plane: one stream with backoff and resume, the
// fence, the refusal memory and the last good config on disk (semantics.md 3 to 5). It hands complete
// configs to an Applier and reports the verdicts; it never looks inside a resource.
package configclient

import (
	"context"
	"time"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

// Update is one complete config. Every hash in it was checked. It is immutable: Appliers may keep it.
type Update struct {
	Token    manifest.Token
	Revision int64
	Lines    []manifest.Line
	// Resources maps kind/name to the resource's JSON for every line but credentials.
	Resources map[string][]byte
	// Proven holds the kind/name of lines that an unreachable dependency must not refuse.
	Proven      map[string]bool
	Credentials map[string]Credential
	// FromLastGood is true at a start from disk: everything counts as proven.
	FromLastGood bool
	// Commit must be called once, after build and probe and right before the swap. It checks the fence and writes the last
	// good file. ErrFenced: drop what was built, keep the old. Any other error: swap all the same and report
	// DEGRADED not_persisted.
	Commit func(context.Context) error
}

// Config gives the update's name such as "8-3f2a91c4".
func (u Update) Config() string { return manifest.ConfigName(u.Revision, u.Token.Hash) }

// Credential is a credential's current value.
type Credential struct {
	Version int64
	Value   secret.Value
}

// Verdict is what became of an update, or of the running set's health. Phase is APPLIED, DEGRADED, REJECTED, FENCED,
// or RECEIVED with retryable faults: not yet, try again from the same bytes.
type Verdict struct {
	Phase  phase.Phase
	Faults []phase.Fault
	Took   time.Duration
}

// Applier makes an update live. Apply builds beside, probes, commits, swaps and answers; on any error before the swap the
// old set stays untouched. It is called by one goroutine at a time; when ctx ends (a newer update is there) it cleans up and
// answers as soon as it can, and the answer is dropped.
type Applier interface {
	Apply(ctx context.Context, u Update) Verdict
	// Restamp gives the running set another revision: an equal hash under a newer token (Current).
	Restamp(t manifest.Token, revision int64)
	// Withdraw ends serving: the agent was deleted. Requests are answered 503 with the reason until the next Apply.
	Withdraw(reason string)
	// SetDenied switches tools off at once: names are server or server/tool (semantics.md 9).
	SetDenied(names []string)
	// Health delivers the running set's verdict whenever it changes after Apply (DEGRADED, APPLIED again). One value is
	// buffered, the newest wins; never closed.
	Health() <-chan Verdict
}
