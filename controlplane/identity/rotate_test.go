package identity_test

import (
	"crypto/ecdsa"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

func states(a *identity.Authority) []string {
	var out []string
	for _, r := range a.Roots() {
		out = append(out, string(r.State))
	}
	return out
}

func step(t *testing.T, a *identity.Authority, s identity.Step, want []string) {
	t.Helper()
	if _, err := a.Rotate(t.Context(), s, false, nil); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	if diff := cmp.Diff(want, states(a)); diff != "" {
		t.Fatalf("after %s (-want +got):\n%s", s, diff)
	}
}

func refused(t *testing.T, a *identity.Authority, s identity.Step) {
	t.Helper()
	if _, err := a.Rotate(t.Context(), s, false, nil); !errs.Is(err, errs.Precondition) {
		t.Fatalf("%s: %v, want a precondition", s, err)
	}
}

// TestRotationLocksNobodyOut takes a root through its steps while instances renew at half life: at every moment every certificate
// that is held counts at both replicas, and every instance trusts the root that the doors show.
func TestRotationLocksNobodyOut(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a, b := c.replica("r1", nil), c.replica("r2", nil)
	type held struct {
		identity.Certificate
		renew time.Time
	}
	fleet := map[string]held{}
	renewal := func(i int, now time.Time) time.Time { return now.Add(12*time.Hour + time.Duration(i)*10*time.Minute) }
	names := []string{"i0", "i1", "i2", "i3", "i4", "i5"}
	for i, n := range names {
		fleet[n] = held{give(t, a, helper(n)), renewal(i, c.clock.now().Add(-time.Duration(i)*2*time.Hour))}
	}
	pass := func(d time.Duration) {
		t.Helper()
		for end := c.clock.now().Add(d); c.clock.now().Before(end); c.clock.add(time.Hour) {
			now := c.clock.now()
			for i, n := range names {
				h := fleet[n]
				if now.After(h.renew) {
					by := []*identity.Authority{a, b}[i%2]
					h = held{give(t, by, helper(n)), renewal(i, now)}
					fleet[n] = h
				}
				for _, r := range []*identity.Authority{a, b} {
					if got := kind(r.Verify(parse(t, h.Chain), now)); got != "" {
						t.Fatalf("%s at %s: %q", n, now, got)
					}
					if !trusts(h.Certificate, r.Roots()[0].Pin, r.Roots()) {
						t.Fatalf("%s doesn't trust the root that signs at %s", n, now)
					}
				}
			}
		}
	}
	same := func() {
		t.Helper()
		eventually(t, b, func() bool { return cmp.Equal(states(a), states(b)) })
	}
	first := a.Roots()[0].Pin
	pass(20 * time.Hour)
	refused(t, a, identity.Activate)
	refused(t, a, identity.Retire)
	step(t, a, identity.Prepare, []string{"active", "next"})
	same()
	refused(t, b, identity.Prepare)
	refused(t, b, identity.Activate) // nobody has renewed since
	pass(15 * time.Hour)
	step(t, b, identity.Activate, []string{"active", "former"})
	eventually(t, a, func() bool { return cmp.Equal(states(a), states(b)) })
	if a.Roots()[0].Pin == first {
		t.Fatal("the active root is the first one still")
	}
	refused(t, a, identity.Retire)
	pass(20 * time.Hour)
	refused(t, a, identity.Retire)
	pass(5 * time.Hour)
	step(t, a, identity.Retire, []string{"active"})
	same()
	pass(30 * time.Hour)
}

// trusts says whether an instance holds a root.
func trusts(c identity.Certificate, pin string, all []identity.Root) bool {
	for _, r := range all {
		if r.Pin != pin {
			continue
		}
		for _, der := range c.Roots {
			if string(der) == string(r.DER) {
				return true
			}
		}
	}
	return false
}

func TestRotationByForce(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.replica("r1", nil)
	old := give(t, a, helper("i1"))
	for _, want := range []identity.Step{identity.Prepare, identity.Activate, identity.Retire} {
		told := identity.Step("")
		done, err := a.Rotate(t.Context(), "", true, func(s identity.Step) { told = s })
		if err != nil || done != want || told != want {
			t.Fatalf("%s: %s, told %s, %v", want, done, told, err)
		}
	}
	if got := kind(a.Verify(parse(t, old.Chain), c.clock.now())); got != "unauthenticated" {
		t.Errorf("a certificate of the retired root: %q", got)
	}
}

func TestActivateWaitsForJoinTokens(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.replica("r1", nil)
	if _, _, err := a.CreateJoinToken(t.Context(), "default", "helper", 0, "ada"); err != nil {
		t.Fatal(err)
	}
	step(t, a, identity.Prepare, []string{"active", "next"})
	refused(t, a, identity.Activate)
	c.clock.add(11 * time.Minute)
	step(t, a, identity.Activate, []string{"active", "former"})
}

func TestBehind(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.replica("r1", nil)
	give(t, a, helper("i1"))
	give(t, a, helper("i2"))
	count := func() int {
		all, err := a.Issued(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		return len(a.Behind(all))
	}
	if n := count(); n != 0 {
		t.Errorf("%d behind without a rotation", n)
	}
	step(t, a, identity.Prepare, []string{"active", "next"})
	if n := count(); n != 2 {
		t.Errorf("%d behind, want 2", n)
	}
	give(t, a, helper("i2"))
	if n := count(); n != 1 {
		t.Errorf("%d behind, want 1", n)
	}
}

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

func TestJoinTokens(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.replica("r1", nil)
	make1 := func() (identity.JoinToken, secret.Value) {
		t.Helper()
		tok, text, err := a.CreateJoinToken(t.Context(), "default", "helper", 0, "ada")
		if err != nil {
			t.Fatal(err)
		}
		return tok, text
	}
	spend := func(text secret.Value, s identity.Subject) error {
		t.Helper()
		key := &newKey(t).PublicKey
		by, err := a.AttestJoin(t.Context(), text, s, key)
		if err != nil {
			return err
		}
		_, err = a.Enroll(t.Context(), by, s.Instance, key)
		return err
	}
	tok, text := make1()
	if want := "agj_"; text.Reveal()[:4] != want || len(text.Reveal()) != 4+43+1+64 || text.Reveal()[48:] != a.Roots()[0].Pin {
		t.Errorf("secret %q", text.Reveal())
	}
	if err := spend(text, helper("i1")); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"spent, by another key": spend(text, helper("i1")),
		"spent, for another":    spend(text, helper("i2")),
		"never made":            spend(secret.NewValue("agj_abc."+tok.Pin), helper("i1")),
		"empty":                 spend(secret.NewValue(""), helper("i1")),
	} {
		if !errs.Is(err, errs.Unauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, text = make1()
	c.clock.add(10 * time.Minute)
	if err := spend(text, helper("i1")); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("run out: %v", err)
	}
	if all, err := a.JoinTokens(t.Context(), "default"); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	tok, text = make1()
	if all, err := a.JoinTokens(t.Context(), "default"); err != nil || len(all) != 1 || all[0].ID != tok.ID {
		t.Errorf("%v, %v", all, err)
	}
	if err := a.DeleteJoinToken(t.Context(), "other", tok.ID); !errs.Is(err, errs.NotFound) {
		t.Errorf("deleted from another namespace: %v", err)
	}
	if err := a.DeleteJoinToken(t.Context(), "default", tok.ID); err != nil {
		t.Fatal(err)
	}
	if err := spend(text, helper("i1")); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("deleted: %v", err)
	}
}

// TestJoinTokenIsSpentOnce: two who show it at the same moment are both let in by AttestJoin, and one by Enroll.
func TestJoinTokenIsSpentOnce(t *testing.T) {
	t.Parallel()
	a := newCluster(t).replica("r1", nil)
	_, text, err := a.CreateJoinToken(t.Context(), "default", "helper", 0, "ada")
	if err != nil {
		t.Fatal(err)
	}
	one, two := &newKey(t).PublicKey, &newKey(t).PublicKey
	first, err := a.AttestJoin(t.Context(), text, helper("i1"), one)
	if err != nil {
		t.Fatal(err)
	}
	second, err := a.AttestJoin(t.Context(), text, helper("i2"), two)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Enroll(t.Context(), first, "i1", one); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Enroll(t.Context(), second, "i2", two); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("the second: %v", err)
	}
}

// TestLostAnswer: who enrolled and never heard of it asks again with the same key.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.replica("r1", nil)
	_, text, err := a.CreateJoinToken(t.Context(), "default", "helper", 0, "ada")
	if err != nil {
		t.Fatal(err)
	}
	key := &newKey(t).PublicKey
	enroll := func() error {
		by, err := a.AttestJoin(t.Context(), text, helper("i1"), key)
		if err == nil {
			_, err = a.Enroll(t.Context(), by, "i1", key)
		}
		return err
	}
	for range 3 {
		if err := enroll(); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := a.Revoke(t.Context(), helper("i1"), "ada", ""); err != nil {
		t.Fatal(err)
	}
	if err := enroll(); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("after a revocation: %v", err)
	}
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
