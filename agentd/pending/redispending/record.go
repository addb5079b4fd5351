package redispending

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/internal/errs"
)

// keys are the names of what is kept of a run and of its agent's runs.
type keys struct {
	run   string // hash: version, body, engine
	wait  string // the ID of the run that waits in the session
	index string // sorted set: all, the newest first
	open  string // sorted set: those that aren't final, by expiry
	final string // sorted set: those that are, the oldest first
	ends  string // sorted set: all, by when they are dropped
}

func keysOf(r pending.Run) keys {
	base := redis.Prefix(r.Namespace, r.Agent) + "p:"
	return keys{
		run: runPrefix(r.Ref()) + r.ID, wait: base + "w:" + redis.Digest(r.Principal, r.Session),
		index: base + "all", open: base + "open", final: base + "final", ends: base + "ends",
	}
}

func (n keys) all() []string { return []string{n.run, n.wait, n.index, n.open, n.final, n.ends} }

func runPrefix(ref pending.Ref) string { return redis.Prefix(ref.Namespace, ref.Agent) + "p:r:" }

// args are the first arguments of put.lua and update.lua.
func (s *Store) args(r pending.Run) ([]any, error) {
	body, err := encode(r)
	if err != nil {
		return nil, errs.New(errs.Internal, "run %s: %w", r.ID, err)
	}
	if n := len(body) + len(r.Engine); n > s.cfg.MaxRunBytes {
		return nil, errs.New(errs.Exhausted, "the run is too large to be suspended: %d bytes of %d", n, s.cfg.MaxRunBytes)
	}
	waits := r.State == pending.Waiting && r.Session != ""
	return []any{
		r.ID, body, []byte(r.Engine), flag(r.State.Final()), flag(waits),
		r.CreatedAt.UnixMilli(), r.ExpiresAt.UnixMilli(), r.ExpiresAt.Add(pending.Keep).UnixMilli(), rand.Text(),
	}, nil
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// encode writes a run without its engine. Arguments are written as texts: they come back byte for byte, whatever a model made of them.
func encode(r pending.Run) ([]byte, error) {
	r = r.Clone()
	r.Engine = nil
	return json.Marshal(eachArgument(r, func(raw json.RawMessage) json.RawMessage {
		b, _ := json.Marshal(string(raw)) // a string always can
		return b
	}))
}

// decode reads version, body and perhaps engine; found is false where there is no such run.
func decode(fields []any) (r pending.Run, found bool, err error) {
	version, _ := field(fields, 0)
	body, ok := field(fields, 1)
	if !ok {
		return r, false, nil
	}
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		return r, false, fmt.Errorf("a stored run: %w", err)
	}
	if r.Version, err = strconv.ParseInt(version, 10, 64); err != nil {
		return r, false, fmt.Errorf("a stored run's version: %w", err)
	}
	if engine, _ := field(fields, 2); engine != "" {
		r.Engine = json.RawMessage(engine)
	}
	return eachArgument(r, func(raw json.RawMessage) json.RawMessage {
		if string(raw) == "null" {
			return nil
		}
		var text string
		if json.Unmarshal(raw, &text) != nil {
			return raw
		}
		return json.RawMessage(text)
	}), true, nil
}

func field(fields []any, i int) (string, bool) {
	if i >= len(fields) {
		return "", false
	}
	s, ok := fields[i].(string)
	return s, ok
}

// eachArgument replaces the arguments of calls and decisions in place.
func eachArgument(r pending.Run, f func(json.RawMessage) json.RawMessage) pending.Run {
	for i := range r.Calls {
		if r.Calls[i].Arguments != nil {
			r.Calls[i].Arguments = f(r.Calls[i].Arguments)
		}
	}
	for i := range r.Decisions {
		for id, a := range r.Decisions[i].Arguments {
			r.Decisions[i].Arguments[id] = f(a)
		}
	}
	return r
}
