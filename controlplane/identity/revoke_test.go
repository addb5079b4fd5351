package identity_test

import (
	"crypto/ecdsa"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

func TestRevoke(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a, b := c.replica("r1", nil), c.replica("r2", nil)
	one, two := give(t, a, helper("i1")), give(t, a, helper("i2"))
	other := give(t, a, identity.Subject{Namespace: "default", Agent: "other", Instance: "i1"})
	check := func(what string, cert identity.Certificate, want string) {
		t.Helper()
		if got := kind(a.Verify(parse(t, cert.Chain), c.clock.now())); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	if _, n, err := a.Revoke(t.Context(), helper("i1"), "ada", "lost"); err != nil || n != 1 {
		t.Fatalf("%d ended, %v", n, err)
	}
	check("i1", one, "denied")
	check("i2", two, "")
	eventually(t, b, func() bool { return kind(b.Verify(parse(t, one.Chain), c.clock.now())) == "denied" })
	again := give(t, b, helper("i1")) // who comes back with a new proof
	check("i1 anew", again, "")
	if _, n, err := a.Revoke(t.Context(), identity.Subject{Namespace: "default", Agent: "Helper"}, "ada", ""); err != nil || n != 2 {
		t.Fatalf("%d ended, %v", n, err)
	}
	check("i1 anew", again, "denied")
	check("i2", two, "denied")
	check("another agent", other, "")
	check("i2 anew", give(t, a, helper("i2")), "")
	// What was given in the very second of the revocation is ended by the next one.
	third := give(t, a, helper("i1"))
	if _, _, err := a.Revoke(t.Context(), helper("i1"), "ada", ""); err != nil {
		t.Fatal(err)
	}
	check("i1 for the third time", third, "denied")
}

func TestSweep(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.replica("r1", nil)
	give(t, a, helper("i1"))
	if _, _, err := a.CreateJoinToken(t.Context(), "default", "helper", 0, "ada"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Revoke(t.Context(), helper("i9"), "ada", ""); err != nil {
		t.Fatal(err)
	}
	count := func() [2]int {
		all, err := a.Issued(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		return [2]int{len(all), len(a.Revocations())}
	}
	c.clock.add(day + grace)
	tend(t, a)
	if got := count(); got != [2]int{1, 1} {
		t.Errorf("in the grace: %v", got)
	}
	c.clock.add(time.Hour)
	tend(t, a)
	if got := count(); got != [2]int{0, 1} {
		t.Errorf("after the grace: %v", got)
	}
	c.clock.add(100 * day)
	tend(t, a)
	eventually(t, a, func() bool { return count() == [2]int{0, 0} })
}

// TestProofsFromBeforeARevocation: whoever holds a proof that is older stays out, by whatever means.
func TestProofsFromBeforeARevocation(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.replica("r1", nil)
	before := c.clock.now().Add(-time.Minute)
	join := func() secret.Value {
		t.Helper()
		_, text, err := a.CreateJoinToken(t.Context(), "default", "helper", 0, "ada")
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	attest := func(text secret.Value, key *ecdsa.PublicKey) identity.Attested {
		t.Helper()
		by, err := a.AttestJoin(t.Context(), text, helper("i1"), key)
		if err != nil {
			t.Fatal(err)
		}
		return by
	}
	key := &newKey(t).PublicKey
	old := join()
	if _, _, err := a.Revoke(t.Context(), identity.Subject{Namespace: "default", Agent: "helper"}, "ada", ""); err != nil {
		t.Fatal(err)
	}
	foreign := func(made time.Time) identity.Attested {
		return identity.Attested{Namespace: "default", Agent: "helper", Proof: identity.ByKubernetes, Made: made}
	}
	for name, tc := range map[string]struct {
		by   identity.Attested
		want string
	}{
		"a join token of before":    {attest(old, key), "unauthenticated"},
		"a token of before":         {foreign(before), "unauthenticated"},
		"one that doesn't say when": {foreign(time.Time{}), "unauthenticated"},
		"a join token made since":   {attest(join(), key), ""},
		"a token made since":        {foreign(c.clock.now().Add(time.Second)), ""},
	} {
		_, err := a.Enroll(t.Context(), tc.by, "i1", key)
		if got := kind(identity.Peer{}, err); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	if _, err := a.Enroll(t.Context(), identity.Attested{Namespace: "default", Agent: "other", Proof: identity.ByKubernetes}, "i1", key); err != nil {
		t.Errorf("another agent: %v", err)
	}
}

// TestARenewalThatARevocationOvertakes: what was looked at before it began counts no more.
func TestARenewalThatARevocationOvertakes(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.replica("r1", nil)
	peer, err := a.Verify(parse(t, give(t, a, helper("i1")).Chain), c.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	by := identity.Attested{Namespace: "default", Agent: "helper", Proof: identity.ByRenewal, Renews: &peer}
	key := &newKey(t).PublicKey
	if _, err := a.Enroll(t.Context(), by, "i1", key); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Revoke(t.Context(), helper("i1"), "ada", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Enroll(t.Context(), by, "i1", key); !errs.Is(err, errs.Denied) {
		t.Errorf("got %v", err)
	}
}
