package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// attempts is how often a write is tried again that lost a race.
const attempts = 8

// Revocation ends the certificates of an agent, or of one instance of it, that began before a moment.
type Revocation struct {
	Namespace string `json:"namespace"`
	Agent     string `json:"agent"`
	// Instance is empty for all of them.
	Instance  string    `json:"instance,omitempty"`
	Before    time.Time `json:"before"`
	RevokedBy string    `json:"revokedBy"`
	Message   string    `json:"message,omitempty"`
	At        time.Time `json:"at"`
}

func revokedKey(s Subject) string {
	return revokedPrefix + s.Namespace + "/" + strings.ToLower(s.Agent) + "/" + s.Instance
}

// revokedBefore gives the moment before which certificates of a subject don't count; zero: none is revoked.
func (a *Authority) revokedBefore(s Subject) time.Time {
	row, _ := a.table.Get(revokedKey(Subject{Namespace: s.Namespace, Agent: s.Agent}))
	before := beforeOf(row.Value)
	if s.Instance == "" {
		return before
	}
	row, _ = a.table.Get(revokedKey(s))
	if one := beforeOf(row.Value); one.After(before) {
		return one
	}
	return before
}

// outdated says whether a proof may be older than a revocation of its subject: whoever holds one from before it stays out.
func (a *Authority) outdated(s Subject, by Attested) bool {
	for _, key := range []string{revokedKey(Subject{Namespace: s.Namespace, Agent: s.Agent}), revokedKey(s)} {
		row, ok := a.table.Get(key)
		if ok && row.Value.revoked != nil && by.Revision < row.ModRevision && by.Made.Before(row.Value.revoked.At) {
			return true
		}
	}
	return false
}

func beforeOf(r record) time.Time {
	if r.revoked == nil {
		return time.Time{}
	}
	return r.revoked.Before
}

// Revoke ends every certificate of an agent, or of one instance, that was made until now, and says how many living ones are known.
// By who and why is kept. When it returns, this replica refuses them; the others follow within the time of a watch.
func (a *Authority) Revoke(ctx context.Context, s Subject, by, why string) (Revocation, int, error) {
	if s.Instance == "" {
		if err := (Subject{Namespace: s.Namespace, Agent: s.Agent, Instance: "any"}).Check(); err != nil {
			return Revocation{}, 0, err
		}
	} else if err := s.Check(); err != nil {
		return Revocation{}, 0, err
	}
	known, err := a.Issued(ctx, s.Namespace, s.Agent)
	if err != nil {
		return Revocation{}, 0, err
	}
	now := a.cfg.Now()
	r := Revocation{
		Namespace: s.Namespace, Agent: s.Agent, Instance: s.Instance, RevokedBy: by, Message: why, At: seconds(now),
		Before: seconds(now).Add(time.Second),
	}
	ended := 0
	for _, i := range known {
		if s.Instance != "" && i.Instance != s.Instance {
			continue
		}
		if i.NotAfter.After(now) && !i.NotBefore.Before(a.revokedBefore(Subject{Namespace: i.Namespace, Agent: i.Agent, Instance: i.Instance})) {
			ended++
		}
		if !i.NotBefore.Before(r.Before) { // made by a clock that is ahead, or just after an earlier revocation
			r.Before = i.NotBefore.Add(time.Second)
		}
	}
	rev, err := a.putRevocation(ctx, s, &r)
	if err != nil {
		return Revocation{}, 0, err
	}
	return r, ended, a.table.WaitFor(ctx, rev)
}

// putRevocation writes one later than the one that is there.
func (a *Authority) putRevocation(ctx context.Context, s Subject, r *Revocation) (int64, error) {
	key := trustPrefix + revokedKey(s)
	for range attempts {
		old, err := a.cfg.Store.Get(ctx, key)
		if err != nil && !errs.Is(err, errs.NotFound) {
			return 0, err
		}
		var former Revocation
		if err == nil && json.Unmarshal(old.Value, &former) == nil && !former.Before.Before(r.Before) {
			r.Before = former.Before.Add(time.Second)
		}
		value, err := json.Marshal(r)
		if err != nil {
			return 0, fmt.Errorf("revocation: %w", err)
		}
		rev, err := a.cfg.Store.Commit(ctx, store.Txn{
			If: []store.Cond{{Key: key, ModRevision: old.ModRevision}}, Puts: []store.KV{{Key: key, Value: value}},
		})
		if !errs.Is(err, errs.Conflict) {
			return rev, err
		}
	}
	return 0, errs.New(errs.Conflict, "revocation: %w", errors.New("others write it all the time"))
}

// Revocations gives what is revoked.
func (a *Authority) Revocations() []Revocation {
	rows, _ := a.table.All()
	var out []Revocation
	for _, r := range rows {
		if r.Value.revoked != nil {
			out = append(out, *r.Value.revoked)
		}
	}
	return out
}

// IsRevoked says whether a certificate that is written down doesn't count any more.
func (a *Authority) IsRevoked(i Issued) bool {
	return i.NotBefore.Before(a.revokedBefore(Subject{Namespace: i.Namespace, Agent: i.Agent, Instance: i.Instance}))
}
