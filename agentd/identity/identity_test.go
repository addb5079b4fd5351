package identity

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	"github.com/agentry/agentry/internal/rpc"
	"github.com/agentry/agentry/internal/secret"
)

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProofs(t *testing.T) {
	f := newFake(t)
	roots := write(t, "roots.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.ca.Root.Raw}))
	other := newFake(t)
	otherRoots := write(t, "other.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.ca.Root.Raw}))
	leaf, err := f.ca.Agent("default", "helper", "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := pkcs8(leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	var chain bytes.Buffer
	for _, der := range leaf.Chain {
		chain.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	cert, keyFile := write(t, "cert.pem", chain.Bytes()), write(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	token := write(t, "token", []byte("projected\n"))
	cases := map[string]struct {
		proof Proof
		want  string // the proof that worked
		fault string // or why none did
	}{
		"join token":                    {proof: Proof{JoinToken: f.joinToken()}, want: "join_token"},
		"join token in a file":          {proof: Proof{JoinTokenFile: write(t, "join", []byte(f.joinToken().Reveal()+"\n"))}, want: "join_token"},
		"kubernetes":                    {proof: Proof{KubernetesTokenFile: token, RootsFile: roots}, want: "kubernetes"},
		"x509pop":                       {proof: Proof{CertFile: cert, KeyFile: keyFile, RootsFile: roots}, want: "x509pop"},
		"the second of two":             {proof: Proof{JoinToken: spent(f), KubernetesTokenFile: token, RootsFile: roots}, want: "kubernetes"},
		"spent join token":              {proof: Proof{JoinToken: spent(f)}, fault: "agentctl identity join-token create helper"},
		"join token of another cluster": {proof: Proof{JoinToken: other.joinToken()}, fault: "does not belong to the control plane that made this join token"},
		"other roots":                   {proof: Proof{KubernetesTokenFile: token, RootsFile: otherRoots}, fault: "certificate signed by unknown authority"},
		"no such file":                  {proof: Proof{JoinTokenFile: "/nowhere/token"}, fault: "/nowhere/token"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			store := &memory{}
			k, _ := start(t, config(f, store, c.proof))
			if c.fault != "" {
				st := until(t, k, "failed", func(st Status) bool { return st.Failed > 1 })
				if !strings.Contains(st.Problem, c.fault) || has(st) {
					t.Errorf("problem %q, want %q", st.Problem, c.fault)
				}
				return
			}
			if st := until(t, k, "enrolled", has); st.Proof != c.want || st.SPIFFEID != "spiffe://agentry.local/ns/default/agent/helper" {
				t.Errorf("status %+v, want proof %s", st, c.want)
			}
			if opened, _, _ := stream(t, k, f.addr); !opened {
				t.Error("no stream with it")
			}
		})
	}
	if got := len(sortedKeys(other.tokens)); got != 1 {
		t.Errorf("a join token was spent at a server that isn't its own: %d left", got)
	}
}

func spent(f *fakeControlPlane) secret.Value {
	t := f.joinToken()
	f.set(func() { delete(f.tokens, t.Reveal()) })
	return t
}

func TestNeitherIdentityNorProof(t *testing.T) {
	f := newFake(t)
	_, err := New(config(f, &memory{}, Proof{}))
	if err == nil || !strings.Contains(err.Error(), "`agentctl identity join-token create helper`") {
		t.Errorf("error %v, want what to run", err)
	}
	cfg := config(f, &memory{}, Proof{})
	cfg.CanServe = true
	cfg.pace.first = time.Millisecond
	k, _ := start(t, cfg)
	if st := k.Status(); !strings.Contains(st.Problem, "join-token create") {
		t.Errorf("status %+v", st)
	}
	if _, err := k.Dial(t.Context(), f.addr); err == nil || !strings.Contains(err.Error(), "join-token create") {
		t.Errorf("dial: %v", err)
	}
}

func TestProofCheck(t *testing.T) {
	pin := strings.Repeat("ab", 32)
	cases := map[string]struct {
		proof Proof
		want  string
	}{
		"nothing":             {},
		"join token":          {proof: Proof{JoinToken: secret.NewValue("agj_x." + pin)}},
		"not one of ours":     {proof: Proof{JoinToken: secret.NewValue("x." + pin)}, want: "agj_SECRET.PIN"},
		"without a pin":       {proof: Proof{JoinToken: secret.NewValue("agj_x")}, want: "agj_SECRET.PIN"},
		"cut off":             {proof: Proof{JoinToken: secret.NewValue("agj_x." + pin[:60])}, want: "cut off"},
		"certificate alone":   {proof: Proof{CertFile: "c", RootsFile: "r"}, want: "AGENTD_X509POP_KEY"},
		"certificate to all":  {proof: Proof{CertFile: "c", KeyFile: "k"}, want: "AGENTD_ROOTS_FILE"},
		"service account all": {proof: Proof{KubernetesTokenFile: "t"}, want: "AGENTD_ROOTS_FILE"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := c.proof.Check()
			if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// The stored identity goes first; the spent token beside it is not even tried.
func TestRestart(t *testing.T) {
	f, store := newFake(t), &memory{}
	proof := Proof{JoinToken: f.joinToken()}
	k, stop := start(t, config(f, store, proof))
	serial := until(t, k, "enrolled", has).Serial
	stop()
	again, _ := start(t, config(f, store, proof))
	if opened, _, _ := stream(t, again, f.addr); !opened {
		t.Error("no stream after a restart")
	}
	if st := again.Status(); st.Serial != serial || st.Failed != 0 || st.Problem != "" {
		t.Errorf("status %+v, want the stored identity %s", st, serial)
	}
}

// A key lives as long as its certificate.
func TestRenewal(t *testing.T) {
	f, store := newFake(t), &memory{}
	f.life = 600 * time.Millisecond
	k, stop := start(t, config(f, store, Proof{JoinToken: f.joinToken()}))
	first := until(t, k, "enrolled", has)
	key := store.key
	st := until(t, k, "renewed", func(st Status) bool { return st.Issued >= 3 })
	if st.Proof != "renewal" || st.Serial == first.Serial || st.Expired() || st.Problem != "" {
		t.Errorf("status %+v", st)
	}
	stop()
	if store.key.Equal(key) {
		t.Error("the key outlived its certificate")
	}
	if f.enrolled != 1 {
		t.Errorf("%d enrolments", f.enrolled)
	}
}

// A connection is closed before its certificate ends, and the next one is made with the newest.
func TestConnectionsDoNotOutliveTheirCertificate(t *testing.T) {
	f := newFake(t)
	f.life = time.Second
	k, _ := start(t, config(f, &memory{}, Proof{JoinToken: f.joinToken()}))
	until(t, k, "enrolled", has)
	opened, ended, _ := stream(t, k, f.addr)
	if !opened {
		t.Fatal("no stream")
	}
	began := k.current()
	<-ended
	if now := time.Now(); began.expired(now) || k.current() == began {
		t.Errorf("the connection ended at %s of %s, with no newer certificate: %v", began.age(now), began.life(), k.current() == began)
	}
	if opened, _, _ := stream(t, k, f.addr); !opened {
		t.Fatal("no stream after it")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shown[0] == f.shown[len(f.shown)-1] {
		t.Error("the old certificate was shown again")
	}
}

// Without the control plane nothing ends: it goes on with what it has, tells, and renews when it can, even after the end.
func TestOutage(t *testing.T) {
	f := newFake(t)
	f.life = 300 * time.Millisecond
	k, _ := start(t, config(f, &memory{}, Proof{JoinToken: f.joinToken()}))
	until(t, k, "enrolled", has)
	f.srv.Stop()
	st := until(t, k, "expired", Status.Expired)
	if st.Problem == "" || st.Failed == 0 {
		t.Errorf("status tells nothing: %+v", st)
	}
	f.start(t, f.addr)
	until(t, k, "renewed", func(st Status) bool { return !st.Expired() && st.Proof == "renewal" && st.Problem == "" })
}

// What is refused falls back to the proof; without a good one it is told and tried again.
func TestRefusedIdentity(t *testing.T) {
	for name, c := range map[string]struct{ refuse codes.Code }{"revoked": {codes.PermissionDenied}, "too old": {codes.Unauthenticated}} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			file := write(t, "join", []byte(f.joinToken().Reveal()))
			k, _ := start(t, config(f, &memory{}, Proof{JoinTokenFile: file}))
			until(t, k, "enrolled", has)
			opened, ended, _ := stream(t, k, f.addr)
			if !opened {
				t.Fatal("no stream")
			}
			f.set(func() { f.refuse = c.refuse; close(f.cut); f.cut = make(chan struct{}) })
			<-ended
			st := until(t, k, "refused", func(st Status) bool { return strings.Contains(st.Problem, "no such join token") })
			if !has(st) {
				t.Error("the identity was dropped")
			}
			if err := os.WriteFile(file, []byte(f.joinToken().Reveal()), 0o600); err != nil {
				t.Fatal(err)
			}
			st = until(t, k, "enrolled again", func(st Status) bool { return st.Problem == "" })
			if st.Proof != "join_token" {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// Another cluster's control plane isn't trusted, unless a join token of its own says so.
func TestAnotherAuthority(t *testing.T) {
	f, store := newFake(t), &memory{}
	k, stop := start(t, config(f, store, Proof{JoinToken: f.joinToken()}))
	until(t, k, "enrolled", has)
	f.newAuthority(t)
	if opened, ended, _ := stream(t, k, f.addr); opened {
		t.Error("a stream to a control plane of another authority")
	} else if err := <-ended; !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("error %v", err)
	}
	until(t, k, "told", func(st Status) bool { return strings.Contains(st.Problem, "unknown authority") })
	stop()
	again, _ := start(t, config(f, store, Proof{JoinToken: f.joinToken()}))
	if opened, _, _ := stream(t, again, f.addr); opened {
		t.Error("the stored identity opened a stream")
	}
	until(t, again, "enrolled", func(st Status) bool { return st.Issued == 1 && st.Proof == "join_token" })
	if opened, _, _ := stream(t, again, f.addr); !opened {
		t.Error("no stream")
	}
}

// A server that isn't one of the control planes is passed over, and is never told the token.
func TestOneAddressIsAnothersServer(t *testing.T) {
	f, other := newFake(t), newFake(t)
	cfg := config(f, &memory{}, Proof{JoinToken: f.joinToken()})
	cfg.Addresses = []string{other.addr, f.addr}
	k, _ := start(t, cfg)
	if st := until(t, k, "enrolled", has); st.Failed != 0 || len(other.asked) != 0 {
		t.Errorf("status %+v, the other server heard %d calls", st, len(other.asked))
	}
}

// Sessions are resumed, and a new certificate begins with none: a resumed one would show the old.
func TestResumption(t *testing.T) {
	f := newFake(t)
	k, _ := start(t, config(f, &memory{}, Proof{JoinToken: f.joinToken()}))
	until(t, k, "enrolled", has)
	resumed := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.resumed
	}
	for want := range 3 {
		opened, _, closeConn := stream(t, k, f.addr)
		closeConn()
		if got := resumed(); !opened || got != want {
			t.Fatalf("stream %d: opened %v, %d resumed, want %d", want, opened, got, want)
		}
	}
	old := k.current()
	k.doubt()
	until(t, k, "renewed", func(st Status) bool { return st.Proof == "renewal" })
	opened, _, closeConn := stream(t, k, f.addr)
	closeConn()
	if got := resumed(); !opened || got != 2 || k.current() == old {
		t.Errorf("after a renewal: opened %v, %d resumed, want 2", opened, got)
	}
}

// Either clock may be an hour off; what counts is how long ago something was.
func TestSkewedClocks(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"an hour ahead": time.Hour, "an hour behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			f, store := newFake(t), &memory{}
			f.ahead = -ahead
			f.life = 2 * time.Second
			cfg := config(f, store, Proof{JoinToken: f.joinToken()})
			k, stop := start(t, cfg)
			st := until(t, k, "enrolled", has)
			if st.LifeSeconds != 2 || st.AgeSeconds > 1 {
				t.Errorf("status %+v", st)
			}
			if opened, _, _ := stream(t, k, f.addr); !opened {
				t.Fatal("no stream")
			}
			st = until(t, k, "renewed", func(st Status) bool { return st.Issued >= 2 })
			if st.Expired() || st.Problem != "" {
				t.Errorf("status %+v", st)
			}
			stop()
			// The clock is put right while it doesn't run: at worst it renews early.
			cfg.clock = func() time.Time { return time.Now().Round(0).Add(-ahead) }
			again, _ := start(t, cfg)
			until(t, again, "renewed", func(st Status) bool { return st.Issued >= 1 && !st.Expired() })
		})
	}
}

// A state directory that can't be written costs the restart, not the instance.
func TestIdentityThatCannotBeStored(t *testing.T) {
	f, store := newFake(t), &memory{fault: errors.New("disk full")}
	k, _ := start(t, config(f, store, Proof{JoinToken: f.joinToken()}))
	st := until(t, k, "told", func(st Status) bool { return strings.Contains(st.Problem, "disk full") })
	if !has(st) {
		t.Error("no identity")
	}
	store.set(nil)
	until(t, k, "stored", func(st Status) bool { return st.Problem == "" })
	if document, _, err := store.LoadIdentity(); err != nil || document == nil {
		t.Errorf("stored nothing: %v", err)
	}
}

// What is stored is believed only as far as it can be checked.
func TestStoredIdentityThatIsNotOurs(t *testing.T) {
	f, store := newFake(t), &memory{}
	k, stop := start(t, config(f, store, Proof{JoinToken: f.joinToken()}))
	until(t, k, "enrolled", has)
	stop()
	other := &memory{}
	k, stop = start(t, config(f, other, Proof{JoinToken: f.joinToken()}))
	until(t, k, "enrolled", has)
	stop()
	for name, damaged := range map[string]*memory{
		"another's key": {document: store.document, key: other.key},
		"no key":        {document: store.document, key: secret.NewValue("AAAA")},
		"no document":   {document: []byte("{}"), key: store.key},
		"cut off":       {document: store.document[:len(store.document)/2], key: store.key},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(config(f, damaged, Proof{})); err == nil || !strings.Contains(err.Error(), "join-token create") {
				t.Errorf("error %v", err)
			}
			k, _ := start(t, config(f, damaged, Proof{JoinToken: f.joinToken()}))
			until(t, k, "enrolled", has)
		})
	}
	t.Run("another agent's", func(t *testing.T) {
		cfg := config(f, store, Proof{})
		cfg.Agent = "other"
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "certificate is of spiffe://agentry.local/ns/default/agent/helper") {
			t.Errorf("error %v", err)
		}
	})
}

// An instance that was given another id needs another identity.
func TestStoredIdentityOfAnotherInstance(t *testing.T) {
	f, store := newFake(t), &memory{}
	k, stop := start(t, config(f, store, Proof{JoinToken: f.joinToken()}))
	until(t, k, "enrolled", has)
	stop()
	cfg := config(f, store, Proof{})
	cfg.Instance = "helper-2"
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), `instance "helper-1"`) || !strings.Contains(err.Error(), "join-token create") {
		t.Errorf("error %v", err)
	}
	cfg.Proof = Proof{JoinToken: f.joinToken()}
	k, _ = start(t, cfg)
	until(t, k, "enrolled", has)
}

// A certificate for somebody else's key, or of another agent, is not taken.
func TestAnswersThatAreNotForUs(t *testing.T) {
	f := newFake(t)
	k, err := New(config(f, &memory{}, Proof{JoinToken: f.joinToken()}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := k.pendingKey()
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := f.ca.Agent("default", "helper", "")
	if err != nil {
		t.Fatal(err)
	}
	cert := func(agent string) *identityv1.Certificate {
		c, err := f.sign(p.csr, agent, "helper-1")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ok, key, short := cert("helper"), cert("helper"), cert("helper")
	key.Chain = foreign.Chain
	short.NotAfter = short.GetNow()
	roots := cert("helper")
	roots.Roots = nil
	for name, c := range map[string]*identityv1.Certificate{
		"another agent": cert("other"), "another key": key, "no life": short, "no roots": roots, "nothing": {},
	} {
		if err := k.accept(t.Context(), "join_token", p, c); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	if err := k.accept(t.Context(), "join_token", p, ok); err != nil {
		t.Error(err)
	}
}

// TLS is good for any client, and says what is missing.
func TestTLS(t *testing.T) {
	f := newFake(t)
	k, err := New(config(f, &memory{}, Proof{JoinToken: f.joinToken()}))
	if err != nil {
		t.Fatal(err)
	}
	renew := func() error {
		conn, err := rpc.Dial(f.addr, rpc.DialConfig{TLS: k.TLS()})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		p, err := k.pendingKey()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err = identityv1.NewEnrollServiceClient(conn).Renew(ctx, &identityv1.RenewRequest{Csr: p.csr})
		return err
	}
	if err := renew(); err == nil || !strings.Contains(err.Error(), "no identity yet") {
		t.Errorf("without an identity: %v", err)
	}
	if err := k.enroll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := renew(); err != nil {
		t.Error(err)
	}
}
