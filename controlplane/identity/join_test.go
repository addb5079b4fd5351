package identity_test

import (
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

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
