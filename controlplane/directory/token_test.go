package directory

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/internal/errs"
)

func TestAuthenticate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := running(t, memstore.New(), devSecret)
		dev, err := d.Authenticate(t.Context(), devSecret)
		if err != nil || dev.Kind != access.Dev || !dev.Admin {
			t.Fatalf("token file: %+v, %v", dev, err)
		}
		ada, session := login(t, d, "ada", "ops")
		if ada.Name != "user:ada" || ada.Kind != access.User || len(ada.Groups) != 1 || ada.Admin || !ada.Expires.Equal(time.Now().Add(SessionTTL)) {
			t.Errorf("session: %+v", ada)
		}
		_, ci, api := create(t, d, ada, NewToken{Name: "ci", TTL: 48 * time.Hour})
		if ci.Name != "token:ci of user:ada" || ci.Kind != access.Token || ci.TokenID == "" || ci.Admin {
			t.Errorf("api token: %+v", ci)
		}
		for _, bearer := range []string{"", "agt_", "x", devSecret + "0", session[:len(session)-1], "agb_" + strings.TrimPrefix(api, "agt_"), api + " "} {
			who, err := d.Authenticate(t.Context(), bearer)
			wantKind(t, err, errs.Unauthenticated)
			if who.Name != "" || (bearer != "" && len(bearer) > 8 && strings.Contains(err.Error(), bearer)) {
				t.Errorf("%q: %+v, %v", bearer, who, err)
			}
		}
		<-time.After(SessionTTL)
		_, err = d.Authenticate(t.Context(), session)
		wantKind(t, err, errs.Unauthenticated)
		if d.Allowed(ada, "spec.read", access.Object{}) {
			t.Error("a session that ended is allowed something")
		}
		if _, err = d.Authenticate(t.Context(), api); err != nil {
			t.Errorf("an API token ended with the session that it was made in: %v", err)
		}
		if _, err := d.RevokeToken(t.Context(), ci.TokenID); err != nil {
			t.Fatal(err)
		}
		_, err = d.Authenticate(t.Context(), api)
		wantKind(t, err, errs.Unauthenticated)
		_, err = d.RevokeToken(t.Context(), ci.TokenID)
		wantKind(t, err, errs.NotFound)
	})
}

func TestTheStoreHoldsNoSecret(t *testing.T) {
	s := memstore.New()
	d := running(t, audit.Wrap(s, audit.Origin{Replica: "r"}), "")
	ctx := audit.With(t.Context(), audit.NewDraft(audit.Call{Actor: "user:ada", Method: "m"}))
	var secrets []string
	_, v, err := d.CreateSession(ctx, NewSession{User: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, v.Reveal())
	_, v, err = d.CreateToken(ctx, access.Principal{Name: "user:ada", Kind: access.User}, NewToken{Name: "ci"})
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, v.Reveal())
	held := text(t, s)
	for _, secret := range secrets {
		if strings.Contains(held, secret) || strings.Contains(held, secret[4:20]) {
			t.Errorf("the store holds %s", secret)
		}
	}
	for _, want := range []string{"session/user:ada", "token/ci"} {
		if !strings.Contains(held, want) {
			t.Errorf("the audit log doesn't say %s", want)
		}
	}
	if _, entries, ok := strings.Cut(held, "/agentry/audit"); !ok || strings.Contains(entries, `\"hash\"`) {
		t.Error("no audit entries, or ones with hashes")
	}
}

func TestNamesOfTokensAreTheirOwnersOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := running(t, memstore.New(), "")
		ada, _ := login(t, d, "ada")
		bob, _ := login(t, d, "bob")
		first, _, _ := create(t, d, ada, NewToken{Name: "ci", TTL: time.Hour})
		create(t, d, bob, NewToken{Name: "ci"})
		_, _, err := d.CreateToken(t.Context(), ada, NewToken{Name: "CI"})
		wantKind(t, err, errs.Exists)
		if _, err := d.RevokeToken(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}
		create(t, d, ada, NewToken{Name: "ci", TTL: time.Hour})
		<-time.After(time.Hour)
		create(t, d, ada, NewToken{Name: "ci"})
		names := 0
		for range d.Tokens(func(t Token) bool { return t.Owner == "user:ada" && t.Name == "ci" }) {
			names++
		}
		if names != 1 {
			t.Errorf("%d tokens of the name count", names)
		}
	})
}

func TestTwoMakersOfOneNameGetOneToken(t *testing.T) {
	s := memstore.New()
	replicas := []*Directory{running(t, s, ""), running(t, s, "")}
	ada := access.Principal{Name: "user:ada", Kind: access.User}
	results := make(chan error)
	for i := range 10 {
		go func() {
			_, _, err := replicas[i%2].CreateToken(t.Context(), ada, NewToken{Name: "ci"})
			results <- err
		}()
	}
	made := 0
	for range 10 {
		err := <-results
		if err == nil {
			made++
		} else {
			wantKind(t, err, errs.Exists)
		}
	}
	if made != 1 {
		t.Errorf("%d tokens of one name", made)
	}
}

func TestCreateTokenRefuses(t *testing.T) {
	d := running(t, memstore.New(), "")
	ada, _ := login(t, d, "ada")
	cases := map[string]struct {
		maker access.Principal
		n     NewToken
		want  errs.Kind
	}{
		"no name":             {ada, NewToken{}, errs.Invalid},
		"a name with a slash": {ada, NewToken{Name: "a/b"}, errs.Invalid},
		"too long":            {ada, NewToken{Name: "a", TTL: MaxTTL + 1}, errs.Invalid},
		"in the past":         {ada, NewToken{Name: "a", TTL: -1}, errs.Invalid},
		"a role that isn't":   {ada, NewToken{Name: "a", Scopes: []access.Scope{{Role: "gone"}}}, errs.Invalid},
		"no role":             {ada, NewToken{Name: "a", Scopes: []access.Scope{{Namespace: "default"}}}, errs.Invalid},
		"no namespace":        {ada, NewToken{Name: "a", Scopes: []access.Scope{{Namespace: "a/b", Role: "viewer"}}}, errs.Invalid},
		"too many scopes":     {ada, NewToken{Name: "a", Scopes: make([]access.Scope, maxScopes+1)}, errs.Invalid},
		"an agent":            {access.Principal{Name: "agent:default/a", Kind: access.Agent}, NewToken{Name: "a"}, errs.Denied},
		"a token that ended":  {access.Principal{Name: "token:x", Kind: access.Token, TokenID: "x"}, NewToken{Name: "a"}, errs.Unauthenticated},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, v, err := d.CreateToken(t.Context(), c.maker, c.n)
			wantKind(t, err, c.want)
			if !v.IsZero() {
				t.Error("a secret all the same")
			}
		})
	}
	for i := len(d.Tokens(func(Token) bool { return true })) - 1; i < maxTokens; i++ {
		create(t, d, ada, NewToken{Name: "t" + strings.Repeat("x", i%60) + "-" + string(rune('a'+i/60)) + "1"})
	}
	_, _, err := d.CreateToken(t.Context(), ada, NewToken{Name: "more"})
	wantKind(t, err, errs.Exhausted)
}

func TestATokenOfATokenIsBoundedByBothAndEndsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := running(t, memstore.New(), "")
		bind(t, d, access.Binding{Name: "b", Namespace: "default", Role: "editor", Subjects: []string{"user:ada"}})
		ada, _ := login(t, d, "ada")
		parent, parentWho, _ := create(t, d, ada, NewToken{Name: "parent", TTL: time.Hour, Scopes: []access.Scope{{Namespace: "default", Role: "viewer"}}})
		child, childWho, secret := create(t, d, parentWho, NewToken{Name: "child"})
		if child.Owner != "user:ada" || !child.Expires.Equal(parent.Expires) || child.Parent != parent.ID {
			t.Errorf("child %+v", child)
		}
		on := access.Object{Namespace: "default"}
		if !childWho.Allowed("spec.read", on) || childWho.Allowed("spec.write", on) || !ada.Allowed("spec.write", on) {
			t.Error("the child isn't bounded by its parent's scopes")
		}
		if !d.Own(ada, child) || !d.Own(parentWho, child) || d.Own(childWho, parent) || !d.Own(childWho, child) {
			t.Error("whose is the child?")
		}
		if _, err := d.RevokeToken(t.Context(), parent.ID); err != nil {
			t.Fatal(err)
		}
		_, err := d.Authenticate(t.Context(), secret)
		wantKind(t, err, errs.Unauthenticated)
		if childWho.Allowed("spec.read", on) {
			t.Error("the child outlives its parent")
		}
		who := ada
		for i := range maxDepth + 1 {
			_, who, _ = create(t, d, who, NewToken{Name: "t" + string(rune('a'+i))})
		}
		_, _, err = d.CreateToken(t.Context(), who, NewToken{Name: "deeper"})
		wantKind(t, err, errs.Precondition)
	})
}

func TestDevTokensCountWhileTheTokenFileDoes(t *testing.T) {
	s := memstore.New()
	d := running(t, s, devSecret)
	dev, err := d.Authenticate(t.Context(), devSecret)
	if err != nil {
		t.Fatal(err)
	}
	_, who, secret := create(t, d, dev, NewToken{Name: "ci"})
	if !who.Allowed("access.write", access.Object{}) {
		t.Error("a token of the token file isn't administrator")
	}
	without := running(t, s, "")
	_, err = without.Authenticate(t.Context(), devSecret)
	wantKind(t, err, errs.Unauthenticated)
	if who, err = without.Authenticate(t.Context(), secret); err != nil || who.Allowed("spec.read", access.Object{Namespace: "default"}) {
		t.Errorf("without the token file its token holds something: %v", err)
	}
}

func TestAnotherLoginRefreshesGroups(t *testing.T) {
	d := running(t, memstore.New(), "")
	bind(t, d, access.Binding{Name: "b", Namespace: "*", Role: "admin", Subjects: []string{"group:ops"}})
	ada, _ := login(t, d, "ada", "ops")
	_, ci, _ := create(t, d, ada, NewToken{Name: "ci"})
	if !ci.Allowed("access.write", access.Object{}) {
		t.Fatal("the token doesn't hold what its owner's group does")
	}
	login(t, d, "ada", "dev")
	if ci.Allowed("access.write", access.Object{}) {
		t.Error("the token keeps a group that its owner left")
	}
	if !ada.Allowed("access.write", access.Object{}) {
		t.Error("the older session lost its groups: they are its own")
	}
}

func TestLoginRefuses(t *testing.T) {
	d := running(t, memstore.New(), "")
	for name, c := range map[string]struct {
		user   string
		groups []string
	}{
		"nobody": {"", nil}, "a line end": {"ada\n", nil}, "too long": {strings.Repeat("a", 300), nil},
		"a group of nothing": {"ada", []string{""}}, "too many groups": {"ada", make([]string, maxGroups+1)},
	} {
		_, _, err := d.CreateSession(t.Context(), NewSession{User: c.user, Groups: c.groups})
		if !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAProofMakesOneSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		replicas := []*Directory{running(t, s, ""), running(t, s, "")}
		results := make(chan error)
		for i := range 10 {
			go func() {
				_, _, err := replicas[i%2].CreateSession(t.Context(), NewSession{User: "ada", Proof: "header.payload"})
				results <- err
			}()
		}
		made := 0
		for range 10 {
			err := <-results
			if err == nil {
				made++
				continue
			}
			wantKind(t, err, errs.Unauthenticated)
		}
		if made != 1 || strings.Contains(text(t, s), "header.payload") {
			t.Errorf("%d sessions of one proof", made)
		}
		<-time.After(keepProofs + 2*sweepEvery)
		synctest.Wait()
		if strings.Contains(text(t, s), proofPrefix) {
			t.Error("proofs are kept for ever")
		}
	})
}

func TestSessionsAreBounded(t *testing.T) {
	d := running(t, memstore.New(), "")
	_, first := login(t, d, "ada")
	for range maxTokens {
		login(t, d, "ada")
	}
	if n := d.count("user:ada", KindSession); n != maxTokens {
		t.Errorf("%d sessions", n)
	}
	_, err := d.Authenticate(t.Context(), first)
	wantKind(t, err, errs.Unauthenticated)
}

func TestLastUsedIsKeptToTheHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		d := running(t, s, "")
		ada, _ := login(t, d, "ada")
		token, _, secret := create(t, d, ada, NewToken{Name: "ci"})
		writes := func() int64 {
			row, _ := d.tokens.Get(token.ID)
			return row.ModRevision
		}
		<-time.After(2 * flushEvery)
		synctest.Wait()
		row, _ := d.tokens.Get(token.ID)
		if got := row.Value.LastUsed; got.IsZero() || time.Since(got) > 2*useEvery {
			t.Fatalf("last used %v", got)
		}
		before := writes()
		for range 30 { // half an hour in use
			if _, err := d.Authenticate(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Minute)
		}
		synctest.Wait()
		if writes() != before {
			t.Error("a use within the hour was written")
		}
		<-time.After(time.Hour)
		if _, err := d.Authenticate(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		s.FailNext(errs.New(errs.Unavailable, "down"))
		<-time.After(flushEvery)
		synctest.Wait()
		if _, err := d.Authenticate(t.Context(), secret); err != nil {
			t.Fatalf("a store that is down is no reason: %v", err)
		}
		<-time.After(flushEvery)
		synctest.Wait()
		if writes() == before {
			t.Error("the later use wasn't written")
		}
	})
}

func TestUsesAreBounded(t *testing.T) {
	u := newUses()
	now := time.Now()
	for i := range maxUses + 10 {
		u.note(&token{Token: Token{ID: string(rune(i))}}, now)
	}
	if n := len(u.take()); n > maxUses {
		t.Errorf("%d uses wait", n)
	}
	if u.take() != nil {
		t.Error("taken twice")
	}
}

func TestWhatHasEndedIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		d := running(t, s, "")
		ada, session := login(t, d, "ada")
		create(t, d, ada, NewToken{Name: "short", TTL: time.Hour})
		keep, _, _ := create(t, d, ada, NewToken{Name: "long"})
		<-time.After(SessionTTL + time.Hour)
		_, err := d.Authenticate(t.Context(), session)
		if err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("who comes too late isn't told so: %v", err)
		}
		<-time.After(keepEnded + 2*sweepEvery)
		synctest.Wait()
		held := text(t, s)
		if rows, _ := d.tokens.All(); len(rows) != 1 || rows[keep.ID].Value == nil {
			t.Errorf("%d tokens are left", len(rows))
		}
		if strings.Contains(held, "/short") || !strings.Contains(held, "/long") {
			t.Errorf("names are left, or gone:\n%s", held)
		}
	})
}
