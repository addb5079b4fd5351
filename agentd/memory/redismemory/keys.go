package redismemory

import (
	"regexp"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/redis"
)

// keys are the names of what is kept of a session. Principals and session names don't appear in them: whoever may list keys must not learn
// them.
type keys struct {
	sid     string // the session's name in the index
	meta    string // hash: life, session, config, first, next, turns, bytes, updated, summary, until, failed
	turns   string // list of exchanges
	ids     string // sorted set: the exchanges' IDs by number
	vectors string // hash: space, and the vectors by number
	lock    string // "TICKET FENCE" of who is in
	fence   string // the greatest fence that was given out
	queue   string // sorted set: who waits, by when it came
	alive   string // sorted set: who waits, by when it was heard of last
	index   string // sorted set: the principal's sessions, by when they end
}

func keysOf(k memory.Key) keys {
	sid := redis.Digest(k.Principal, k.Session)
	base := redis.Prefix(k.Namespace, k.Agent) + "s:" + sid + ":"
	return keys{
		sid: sid, meta: base + "m", turns: base + "t", ids: base + "i", vectors: base + "v",
		lock: base + "l", fence: base + "f", queue: base + "q", alive: base + "w", index: indexOf(k.Owner()),
	}
}

func indexOf(o memory.Owner) string {
	return redis.Prefix(o.Namespace, o.Agent) + "o:" + redis.Digest(o.Principal)
}

func metaOf(o memory.Owner, sid string) string {
	return redis.Prefix(o.Namespace, o.Agent) + "s:" + sid + ":m"
}

var plainID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)

// idOf makes a request's ID fit a line.
func idOf(id string) string {
	if plainID.MatchString(id) {
		return id
	}
	return redis.Digest(id)
}
