package identity_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/internal/errs"
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
