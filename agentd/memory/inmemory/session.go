package inmemory

import (
	"maps"
	"time"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/memory/strategy"
)

// overhead is what a session, a turn and an exchange cost beside their text, roughly, in bytes.
const (
	sessionOverhead  = 600
	turnOverhead     = 48
	exchangeOverhead = 80
)

// session is guarded by its Store's mutex. What Load gave of it is never written to.
type session struct {
	key       memory.Key
	life      string
	exchanges [][]memory.Turn
	names     []string        // the exchanges' IDs
	ids       map[string]bool // the same
	first     int64
	turns     int
	config    string
	summary   strategy.Summary
	space     string
	vectors   map[int64][]byte // replaced, never changed
	bytes     int
	updated   time.Time
	until     time.Time
}

func (ses *session) add(e memory.Exchange, now time.Time) {
	own := make([]memory.Turn, len(e.Turns))
	copy(own, e.Turns)
	for _, t := range own {
		if t.Config != "" {
			ses.config = t.Config
		}
	}
	ses.exchanges, ses.names = append(ses.exchanges, own), append(ses.names, e.ID)
	ses.ids[e.ID] = true
	ses.turns += len(own)
	ses.bytes += size(own)
	ses.updated = now
}

// trim drops the oldest exchanges beyond the bounds; the newest stays.
func (ses *session) trim(cfg StoreConfig) {
	cut, had := 0, len(ses.vectors) > 0
	vectors := ses.vectors
	for cut < len(ses.exchanges)-1 && (ses.bytes > cfg.MaxSessionBytes || ses.turns > cfg.MaxSessionTurns) {
		ses.bytes -= size(ses.exchanges[cut])
		ses.turns -= len(ses.exchanges[cut])
		delete(ses.ids, ses.names[cut])
		if v, ok := vectors[ses.first]; ok {
			if had {
				vectors, had = maps.Clone(vectors), false
			}
			ses.bytes -= len(v)
			delete(vectors, ses.first)
		}
		ses.first++
		cut++
	}
	if cut > 0 { // copies: the dropped ones must not be kept alive
		ses.exchanges = append([][]memory.Turn(nil), ses.exchanges[cut:]...)
		ses.names = append([]string(nil), ses.names[cut:]...)
		ses.vectors = vectors
	}
}

// keep adds vectors of exchanges that are still held; another space drops the old one.
func (ses *session) keep(space string, vs map[int64][]byte) {
	next := make(map[int64][]byte, len(ses.vectors)+len(vs))
	if ses.space == space {
		maps.Copy(next, ses.vectors)
	}
	maps.Copy(next, vs)
	for _, v := range ses.vectors {
		ses.bytes -= len(v)
	}
	for n, v := range next {
		if n < ses.first || n >= ses.first+int64(len(ses.exchanges)) {
			delete(next, n)
			continue
		}
		ses.bytes += len(v)
	}
	ses.space, ses.vectors = space, next
}

func size(turns []memory.Turn) int {
	n := exchangeOverhead
	for i := range turns {
		n += len(turns[i].Text) + turnOverhead
		for _, u := range turns[i].Tools {
			n += len(u.Name) + len(u.Arguments) + len(u.Result) + turnOverhead
		}
	}
	return n
}
