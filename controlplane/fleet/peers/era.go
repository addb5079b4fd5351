package peers

import "github.com/agentry/agentry/internal/errs"

// era is what ends links when the store's era does. Peers.mu guards it.
type era struct {
	number int   // of those that this process has seen
	since  int64 // the store revision by which it had begun; 0: it is that of the process's start
}

// errEnded is why links end with an era.
var errEnded = errs.New(errs.Unavailable, "the store's era ended: a backup was brought back, or a new epoch began")

// Renew ends every link because the store's era did: what was told in it is nothing in the next. Both sides open theirs anew at once, and
// a peer counts again once its view shows at least this revision, that of the record of the new era. It is called when Config.Cluster answers for
// that one, and after fleet.Table.Renew, which counts who was connected.
func (p *Peers) Renew(revision int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.era = era{number: p.era.number + 1, since: revision}
	for _, a := range p.answers {
		a.end(errEnded)
	}
	for _, l := range p.links {
		if l.cancel != nil {
			l.cancel(errEnded)
		}
	}
}

// begins gives the number of the era that a link begins in.
func (p *Peers) begins() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.era.number
}

// behind says whether what a peer tells may be of an era that is over.
func (p *Peers) behind(revision int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if revision < p.era.since {
		return errs.New(errs.Unavailable, "the peer's view is at revision %d, of an era that was over at %d", revision, p.era.since)
	}
	return nil
}
