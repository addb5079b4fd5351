package directory

import (
	"testing"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/internal/errs"
)

func TestReplicasSeeChanges(t *testing.T) {
	s := memstore.New()
	a, b := running(t, s, ""), running(t, s, "")
	_, secret := login(t, a, "ada")
	var ada access.Principal
	until(t, b, "the session at the other replica", func() bool {
		var err error
		ada, err = b.Authenticate(t.Context(), secret)
		return err == nil
	})
	on := access.Object{Namespace: "default", Kind: "agent", Name: "helper"}
	if ada.Allowed("spec.read", on) {
		t.Fatal("allowed without a binding")
	}
	bind(t, a, access.Binding{Name: "b", Namespace: "default", Role: "viewer", Subjects: []string{"user:ada"}})
	until(t, b, "the binding", func() bool { return ada.Allowed("spec.read", on) })
	if !ada.Somewhere("spec.read", "default") || ada.Somewhere("spec.read", "other") || len(b.BindingsOf(ada)) != 1 {
		t.Error("the binding doesn't count as it should")
	}
	bind(t, a, access.Binding{Name: "b", Namespace: "default", Role: "editor", Subjects: []string{"user:ada"}})
	until(t, b, "the changed binding", func() bool { return ada.Allowed("spec.write", on) })
	if err := a.DeleteBinding(t.Context(), "default", "b"); err != nil {
		t.Fatal(err)
	}
	until(t, b, "that the binding is gone", func() bool { return !ada.Allowed("spec.read", on) })
	bind(t, a, access.Binding{Name: "b", Namespace: "default", Role: "viewer", Subjects: []string{"user:ada"}})
	until(t, b, "the binding again", func() bool { return ada.Allowed("spec.read", on) })
	if _, err := a.RevokeToken(t.Context(), ada.TokenID); err != nil {
		t.Fatal(err)
	}
	until(t, b, "the revocation", func() bool { return !ada.Allowed("spec.read", on) && !ada.Somewhere("spec.read", "") })
}

func TestRoles(t *testing.T) {
	d := running(t, memstore.New(), "")
	own := access.Role{Name: "labeller", Permissions: []string{"prompt.*", "spec.read@prompt"}}
	if err := d.SetRole(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	wantKind(t, d.SetRole(t.Context(), access.Role{Name: "viewer", Permissions: []string{"*"}}), errs.Precondition)
	wantKind(t, d.SetRole(t.Context(), access.Role{Name: "empty"}), errs.Invalid)
	wantKind(t, d.SetRole(t.Context(), access.Role{Name: "bad", Permissions: []string{"spec.reed"}}), errs.Invalid)
	wantKind(t, d.DeleteRole(t.Context(), "viewer"), errs.Precondition)
	wantKind(t, d.DeleteRole(t.Context(), "gone"), errs.NotFound)
	wantKind(t, d.SetBinding(t.Context(), access.Binding{Name: "b", Namespace: "default", Role: "gone", Subjects: []string{"user:ada"}}), errs.Invalid)
	bind(t, d, access.Binding{Name: "b", Namespace: "default", Role: "labeller", Subjects: []string{"user:ada"}})
	ada := access.Principal{Name: "user:ada", Kind: access.User, Rules: d}
	on := access.Object{Namespace: "default", Kind: "prompt", Name: "p"}
	if !ada.Allowed("prompt.label", on) || !ada.Allowed("spec.read", on) || ada.Allowed("spec.read", access.Object{Namespace: "default", Kind: "agent", Name: "p"}) {
		t.Error("the role gives something else")
	}
	own.Permissions = []string{"prompt.*"}
	if err := d.SetRole(t.Context(), own); err != nil || ada.Allowed("spec.read", on) || !ada.Allowed("prompt.label", on) {
		t.Errorf("the changed role gives what the former gave: %v", err)
	}
	wantKind(t, d.DeleteRole(t.Context(), "labeller"), errs.Precondition)
	if err := d.DeleteBinding(t.Context(), "default", "b"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, d.DeleteBinding(t.Context(), "default", "b"), errs.NotFound)
	if err := d.DeleteRole(t.Context(), "labeller"); err != nil {
		t.Fatal(err)
	}
	if n := len(d.Roles()); n != len(access.BuiltIn()) {
		t.Errorf("%d roles", n)
	}
}

// A replica that lags doesn't remove a role that was bound meanwhile.
func TestARoleThatWasJustBoundStays(t *testing.T) {
	s := memstore.New()
	d := running(t, s, "")
	if err := d.SetRole(t.Context(), access.Role{Name: "own", Permissions: []string{"spec.read"}}); err != nil {
		t.Fatal(err)
	}
	lagging := open(t, s, "") // reads, and doesn't follow
	bind(t, d, access.Binding{Name: "b", Namespace: "default", Role: "own", Subjects: []string{"user:ada"}})
	wantKind(t, lagging.DeleteRole(t.Context(), "own"), errs.Conflict)
}

func TestRecordsThatCannotBeReadGiveNothing(t *testing.T) {
	s := memstore.New()
	for key, value := range map[string]string{
		bindingAt("*", "broken"):       `{`,
		bindingAt("*", "condition"):    `{"name":"condition","namespace":"*","role":"admin","subjects":["user:ada"],"condition":"nonsense("}`,
		bindingAt("*", "newer"):        `{"name":"newer","namespace":"*","role":"admin"}`,
		policyPrefix + "strange/x":     `{}`,
		policyPrefix + roleKey + "r":   `[]`,
		policyPrefix + bootstrapName:   `"x"`,
		tokenPrefix + "0000":           `{"id":"0000","hash":"00"}`,
		bindingAt("default", "viewer"): `{"name":"viewer","namespace":"default","role":"viewer","subjects":["user:ada"],"later":true}`,
	} {
		if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: key, Value: []byte(value)}}}); err != nil {
			t.Fatal(err)
		}
	}
	d := running(t, s, "")
	ada := access.Principal{Name: "user:ada", Kind: access.User, Rules: d}
	if ada.Allowed("access.write", access.Object{}) || !ada.Allowed("spec.read", access.Object{Namespace: "default"}) || d.Waiting() || d.Administered() {
		t.Error("a record that can't be read counts, or one that can doesn't")
	}
}

func TestAWriteThatFailsIsTold(t *testing.T) {
	s := memstore.New()
	d := running(t, s, "")
	ada := access.Principal{Name: "user:ada", Kind: access.User}
	down := errs.New(errs.Unavailable, "down")
	for name, write := range map[string]func() error{
		"session": func() error { _, _, err := d.CreateSession(t.Context(), NewSession{User: "ada"}); return err },
		"token":   func() error { _, _, err := d.CreateToken(t.Context(), ada, NewToken{Name: "a"}); return err },
		"role": func() error {
			return d.SetRole(t.Context(), access.Role{Name: "r", Permissions: []string{"spec.read"}})
		},
		"binding": func() error {
			return d.SetBinding(t.Context(), access.Binding{Name: "b", Namespace: "*", Role: "admin", Subjects: []string{"user:ada"}})
		},
		"removal": func() error { return d.DeleteBinding(t.Context(), "*", "b") },
	} {
		s.FailNext(down)
		if err := write(); !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d.Administered() || len(d.Tokens(func(Token) bool { return true })) != 0 {
		t.Error("something was written")
	}
}
