package fleet

import (
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// Refusal is one config that an instance refused, as it remembers it.
type Refusal struct {
	Token   manifest.Token
	Version string // the agentd that refused it
	Faults  []phase.Fault
}

// refusal is a remembered refusal. proven is the digest of the proven lines with which it was refused; not known
// for one that came with a Hello.
type refusal struct {
	Refusal

	proven      string
	provenKnown bool
}

// maxRefusals bounds the memory of one instance; the oldest by (epoch, generation) is forgotten first.
const maxRefusals = 8

// departed is the refusals of an instance that stopped: one that comes back soon is not offered them again, even if it
// lost its own memory. Its stamp tells late word of a former stream from word of a new one; 0: not known.
type departed struct {
	refused map[manifest.Hash]refusal
	at      time.Time
	stamp   uint64
}

// maxDeparted bounds the instances remembered like this; beyond it only their own memory counts.
const maxDeparted = 10_000

// remember keeps a refusal that counts. What is known of the proven lines is never lost to a Hello that repeats it.
func (e *entry) remember(r refusal) {
	if r.Token.Hash.IsZero() || r.Version != e.inst.Version {
		return // void: another agentd may accept it
	}
	if before(r.Token, e.reset) {
		return // void: an answer that crossed the operator's retry
	}
	if old, ok := e.refused[r.Token.Hash]; ok && !r.provenKnown && !before(old.Token, r.Token) {
		return
	}
	if e.refused == nil {
		e.refused = map[manifest.Hash]refusal{}
	}
	r.Faults = slices.Clone(r.Faults)
	e.refused[r.Token.Hash] = r
	for len(e.refused) > maxRefusals {
		delete(e.refused, e.oldest())
	}
}

func (e *entry) oldest() manifest.Hash {
	var least refusal
	first := true
	for _, r := range e.refused {
		if first || before(r.Token, least.Token) {
			least, first = r, false
		}
	}
	return least.Token.Hash
}

// void forgets what no longer counts: refusals from another agentd, from below the agent's last operator retry or
// re-creation, and the one against this offer when its lines are proven now and that can matter (semantics.md 6
// and 7.6). It gives the refusal that still stands against the offer.
func (e *entry) void(o Offer) (refusal, bool) {
	e.reset = manifest.Token{Epoch: o.ResetEpoch, Generation: o.ResetGeneration}
	for h, r := range e.refused {
		if r.Version != e.inst.Version || before(r.Token, e.reset) {
			delete(e.refused, h)
		}
	}
	r, ok := e.refused[o.Desired.Token.Hash]
	if !ok {
		return refusal{}, false
	}
	returned := o.ReturnedAt > 0 && before(r.Token, manifest.Token{Epoch: o.Desired.Token.Epoch, Generation: o.ReturnedAt})
	if !r.provenKnown {
		r.proven, r.provenKnown = o.Proven, true
		if returned && r.provenNow(o.Proven) {
			r.proven = neverProven
		}
		e.refused[o.Desired.Token.Hash] = r
	}
	if r.proven != o.Proven && (returned || r.retryable()) {
		delete(e.refused, o.Desired.Token.Hash)
		return refusal{}, false
	}
	return r, true
}

// neverProven equals no digest of proven lines: the config was refused before the head returned to it.
const neverProven = "\x00"

// provenNow reports whether it was for unreachable dependencies alone, and the lines of all of them are proven now: they can't
// have been when it was refused. Anything else would be refused again.
func (r refusal) provenNow(proven string) bool {
	lines := strings.Split(proven, "\n")
	return !slices.ContainsFunc(r.Faults, func(f phase.Fault) bool {
		return f.Severity == phase.Error && (!f.Retryable || !slices.Contains(lines, f.Resource))
	})
}

// retryable reports whether the refusal was the end of a retry. Only such a one can end differently because another
// instance proved the lines; what isn't retryable is refused again.
func (r refusal) retryable() bool {
	return slices.ContainsFunc(r.Faults, func(f phase.Fault) bool { return f.Severity == phase.Error && f.Retryable })
}

// before orders tokens by epoch, then generation.
func before(a, b manifest.Token) bool {
	if a.Epoch != b.Epoch {
		return a.Epoch < b.Epoch
	}
	return a.Generation < b.Generation
}
