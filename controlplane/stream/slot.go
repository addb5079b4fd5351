package stream

import (
	"slices"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// slot is what one stream knows of its instance and what it sent last. There is no queue: whoever wants to send asks
// next with what the instance must run now, so what was overtaken is never sent (push-protocol.md rule 2). It is
// pure; the connection's mutex guards it.
type slot struct {
	nonce    uint64
	asked    kind  // what went out under nonce
	open     bool  // nonce is unanswered: nothing else may be sent
	last     offer // the last content sent; zero: nothing yet
	retrying bool  // last is a snapshot that the instance retries
	dropping bool  // the retry must end
	serving  bool  // last was answered by APPLIED or DEGRADED

	running fleet.Ref
	// held is what the instance surely holds: what it said in Hello, then the manifest it acknowledged.
	held []manifest.Line
}

// kind is what is sent under a nonce.
type kind int

const (
	nothing kind = iota
	snapshots
	current
	absent
	drop
)

// offer is one thing to send.
type offer struct {
	kind     kind
	token    manifest.Token
	revision int64
	proven   string
	absence  snapshot.Absence
	lines    []manifest.Line
}

func wanted(r *snapshot.Rendered, running fleet.Ref) offer {
	o := offer{
		kind: snapshots, token: r.Snapshot.Token, revision: r.Snapshot.Revision, proven: r.ProvenKey,
		absence: r.Snapshot.Absent, lines: r.Lines,
	}
	switch {
	case o.absence != snapshot.Present:
		o.kind = absent
	case o.token.Hash == running.Token.Hash:
		o.kind = current
	}
	return o
}

// next gives what to send now for what the instance must run. refused: it refused that config and the refusal counts.
func (s *slot) next(r *snapshot.Rendered, refused bool) offer {
	if s.open {
		return offer{}
	}
	o := wanted(r, s.running)
	if (o.kind != snapshots || !refused) && !s.told(o) {
		return o
	}
	if s.dropping && s.retrying {
		return offer{kind: drop}
	}
	return offer{}
}

// told reports whether the instance knows already: it was sent this very thing, or retries it from the bytes it holds.
func (s *slot) told(o offer) bool {
	switch {
	case s.last.kind == nothing:
		return false
	case s.retrying && o.kind == snapshots && o.token.Hash == s.last.token.Hash:
		return o.proven == s.last.proven // a newer generation of the same config would only end the retry
	case o.token != s.last.token || o.revision != s.last.revision || o.absence != s.last.absence:
		return false
	case o.kind == snapshots:
		return s.last.kind == snapshots && o.proven == s.last.proven
	default:
		return true
	}
}

// serves reports whether the instance was sent exactly this, answered that it serves it, and still says so.
func (s *slot) serves(r *snapshot.Rendered) bool {
	return s.serving && !s.open && r.Snapshot.Absent == snapshot.Present && s.running.Token.Hash == r.Snapshot.Token.Hash &&
		s.last.token == r.Snapshot.Token && s.last.revision == r.Snapshot.Revision && s.last.proven == r.ProvenKey
}

// sent records that an offer goes out and gives its nonce.
func (s *slot) sent(o offer) uint64 {
	s.nonce++
	s.asked, s.open = o.kind, true
	if o.kind != drop {
		s.last, s.retrying, s.dropping, s.serving = o, false, false, false
	}
	return s.nonce
}

// answer is a report as far as the slot cares.
type answer struct {
	nonce     uint64
	phase     phase.Phase
	running   manifest.Token
	retryable bool // it carries a retryable fault
}

// stale reports whether an answer is to something older than the last thing sent: it is ignored whole (rule 3).
func (s *slot) stale(nonce uint64) bool { return nonce != 0 && nonce != s.nonce }

// answered takes a report that isn't stale. known gives the revision of a config that the slot can't know.
func (s *slot) answered(a answer, known func(manifest.Hash) int64) {
	s.runs(a.running, known)
	if a.nonce == 0 {
		return // on bytes from an earlier stream, or unasked
	}
	if s.asked == snapshots && a.phase == phase.Received {
		if !a.retryable {
			return // building
		}
		s.open, s.retrying = false, true
		return
	}
	s.open, s.retrying, s.dropping = false, false, false
	s.serving = s.asked != drop && a.phase.Serving()
}

// settles reports whether a report that isn't stale is the end of a snapshot: its verdict, or that of its retry.
func (s *slot) settles(nonce uint64, p phase.Phase) bool {
	asked := s.asked == snapshots || s.asked == drop
	waits := (s.open || s.retrying) && s.last.kind == snapshots
	return nonce != 0 && asked && waits && (p.Serving() || p == phase.Rejected)
}

// runs records what the instance says it runs.
func (s *slot) runs(t manifest.Token, known func(manifest.Hash) int64) {
	before := s.running.Token.Hash
	switch {
	case t.Hash.IsZero():
		s.running = fleet.Ref{}
		if !before.IsZero() {
			s.held = nil
		}
		return
	case t.Hash == s.last.token.Hash && s.last.kind != nothing:
		s.running = fleet.Ref{Token: t, Revision: s.last.revision}
		s.held = s.last.lines
		return
	case t.Hash == before:
		s.running.Token = t
		return
	}
	s.running = fleet.Ref{Token: t, Revision: known(t.Hash)}
	s.held = nil // it changed on its own: what it still holds isn't known
}

// adrift reports whether the instance runs something else than what it acknowledged, with nothing on the way. The offer
// is then made anew, at most once per beat.
func (s *slot) adrift() bool {
	adrift := !s.open && s.serving && (s.last.kind == snapshots || s.last.kind == current) &&
		s.running.Token.Hash != s.last.token.Hash
	if adrift {
		s.last, s.serving = offer{}, false
	}
	return adrift
}

// missing flags the resources that an instance lacks which holds some lines.
func missing(held []manifest.Line, resources []snapshot.Resource) []bool {
	flags := make([]bool, len(resources))
	var set map[manifest.Line]bool
	if len(held) > 32 {
		set = make(map[manifest.Line]bool, len(held))
		for _, l := range held {
			set[l] = true
		}
	}
	for i, r := range resources {
		if r.Line.Kind == manifest.KindCredential {
			continue // its value travels in the envelope
		}
		holds := set[r.Line]
		if set == nil {
			holds = slices.Contains(held, r.Line)
		}
		flags[i] = !holds
	}
	return flags
}
