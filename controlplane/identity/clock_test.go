package identity_test

import (
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
)

// A replica whose clock was an hour ahead removed every join token that the others had made in that hour.
func TestAWrongClockRemovesNoJoinToken(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	right := c.replica("r1", nil)
	ahead := c.replica("r2", func(cfg *identity.Config) { cfg.Now = func() time.Time { return c.clock.now().Add(time.Hour) } })
	_, text, err := right.CreateJoinToken(t.Context(), "default", "helper", 0, "ada")
	if err != nil {
		t.Fatal(err)
	}
	tend(t, ahead)
	key := &newKey(t).PublicKey
	by, err := right.AttestJoin(t.Context(), text, helper("i1"), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := right.Enroll(t.Context(), by, "i1", key); err != nil {
		t.Fatal(err)
	}
	_, _, err = right.CreateJoinToken(t.Context(), "default", "helper", 0, "ada")
	if err != nil {
		t.Fatal(err)
	}
	c.clock.add(identity.Skew + time.Hour)
	tend(t, right)
	page, err := c.store.List(t.Context(), view.IdentityPrefix+"join/", store.ListOptions{KeysOnly: true})
	if err != nil || len(page.KVs) != 0 {
		t.Errorf("%d join tokens are kept after they ran out by any clock: %v", len(page.KVs), err)
	}
}

// What a replica whose clock was two months ahead renewed wasn't valid yet for anybody else.
func TestAnIntermediateOfAWrongClockIsValidNow(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	right := c.replica("r1", nil)
	ahead := c.replica("r2", func(cfg *identity.Config) { cfg.Now = func() time.Time { return c.clock.now().Add(61 * day) } })
	before, _ := right.Issuer()
	tend(t, ahead)
	eventually(t, right, func() bool { now, _ := right.Issuer(); return now != before })
	given := give(t, right, helper("i1"))
	for _, cert := range parse(t, given.Chain) {
		if now := c.clock.now(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			t.Errorf("%s is valid from %s to %s, and it is %s", cert.Subject, cert.NotBefore, cert.NotAfter, now)
		}
	}
	if got := kind(right.Verify(parse(t, given.Chain), c.clock.now())); got != "" {
		t.Errorf("a leaf of it: %q", got)
	}
}
