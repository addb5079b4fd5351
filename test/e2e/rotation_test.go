package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	"github.com/agentry/agentry/gen/agentry/identity/v1/identityv1connect"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/test/harness"
)

// asking asks an agent all the time.
type asking struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	asked  int
	failed []error
}

func (w *world) asks(t *testing.T, agents ...*harness.Agent) *asking {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &asking{stop: stop}
	for _, a := range agents {
		for range 2 {
			l.wg.Go(func() {
				for ctx.Err() == nil {
					_, err := a.Chat(context.WithoutCancel(ctx), "", "hello")
					l.mu.Lock()
					l.asked++
					if err != nil {
						l.failed = append(l.failed, err)
					}
					l.mu.Unlock()
				}
			})
		}
	}
	t.Cleanup(l.end)
	return l
}

func (l *asking) end() {
	l.stop()
	l.wg.Wait()
}

// answers waits until each agent answers by a revision.
func answers(t *testing.T, revision int, agents ...*harness.Agent) {
	t.Helper()
	for _, a := range agents {
		eventually(t, 15*time.Second, func(ctx context.Context) error {
			ans, err := a.Chat(ctx, "", "hello")
			if err == nil && ans.Revision != fmt.Sprint(revision) {
				err = fmt.Errorf("%s answers by revision %s, want %d", a.Instance, ans.Revision, revision)
			}
			return err
		})
	}
}

// The root is rotated under load of requests and updates: no request fails, and no instance is locked out at any step.
func TestTheRootIsRotatedUnderLoad(t *testing.T) {
	t.Parallel()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	env.Vars = map[string][]string{"controlplane": {"AGENTRY_IDENTITY_LEAF_TTL=6s"}}
	w := worldIn(t, env, echoScript)
	w.apply(t, plain(1))
	var agents []*harness.Agent
	for _, id := range []string{"one", "two"} {
		a, err := w.StartAgent(w.cp, "helper", harness.AgentOptions{Instance: id, ModelBaseURL: w.url})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.WaitReady(t.Context(), 15*time.Second); err != nil {
			t.Fatalf("%v\n%s", err, a.Output())
		}
		agents = append(agents, a)
	}
	ids, err := w.cp.Identities()
	if err != nil {
		t.Fatal(err)
	}
	rotate := func(step identityv1.RotationStep) (string, error) {
		resp, err := ids.RotateAuthority(t.Context(), connect.NewRequest(&identityv1.RotateAuthorityRequest{Step: step}))
		if err != nil {
			return "", err
		}
		var states []string
		for _, r := range resp.Msg.GetRoots() {
			states = append(states, r.GetState())
		}
		return strings.Join(states, " "), nil
	}
	const prepare, activate, retire = identityv1.RotationStep_ROTATION_STEP_PREPARE, identityv1.RotationStep_ROTATION_STEP_ACTIVATE, identityv1.RotationStep_ROTATION_STEP_RETIRE
	tooEarly := func(step identityv1.RotationStep) {
		t.Helper()
		if _, err := rotate(step); connect.CodeOf(err) != connect.CodeFailedPrecondition {
			t.Errorf("%s before its time: %v", step, err)
		}
	}
	take := 1
	update := func() {
		t.Helper()
		take++
		w.apply(t, plain(take))
		answers(t, take, agents...)
	}
	do := func(step identityv1.RotationStep, want string) {
		t.Helper()
		began := time.Now()
		eventually(t, 30*time.Second, func(context.Context) error {
			update()
			got, err := rotate(step)
			if err == nil && got != want {
				t.Fatalf("after %s: %s, want %s", step, got, want)
			}
			return err
		})
		t.Logf("%s after %s", step, time.Since(began).Round(time.Millisecond))
	}
	l := w.asks(t, agents...)
	do(prepare, "active next")
	tooEarly(activate)
	do(activate, "active former")
	tooEarly(retire)
	do(retire, "active")
	update()
	l.end()
	for _, a := range agents {
		connected(t, a.URL())
		a.Kill()
		if err := a.Restart(); err != nil { // by what it stored: it knows the new root
			t.Fatal(err)
		}
	}
	for _, a := range agents {
		if err := a.WaitReady(t.Context(), 10*time.Second); err != nil {
			t.Fatal(err)
		}
		if id := connected(t, a.URL()); id.Problem != "" {
			t.Errorf("after the rotation: %+v", id)
		}
	}
	update()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failed) > 0 {
		t.Errorf("%d of %d requests failed: %v", len(l.failed), l.asked, l.failed[0])
	}
	t.Logf("%d requests, %d updates", l.asked, take)
}

// thief is what whoever stole a certificate can do with it.
type thief struct {
	t    *testing.T
	cfg  *tls.Config
	addr string
}

func (th thief) enroll(do func(context.Context, identityv1.EnrollServiceClient, []byte) error) error {
	th.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		th.t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		th.t.Fatal(err)
	}
	conn, err := grpc.NewClient(th.addr, grpc.WithTransportCredentials(credentials.NewTLS(th.cfg)))
	if err != nil {
		th.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(th.t.Context(), 10*time.Second)
	defer cancel()
	return do(ctx, identityv1.NewEnrollServiceClient(conn), csr)
}

// A valid certificate of agent A, used by another process than the instance that it was given to, opens nothing of B; revoked, its
// stream is cut within 5 s and stays out.
func TestAStolenCertificateOpensNothingOfAnotherAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	w.apply(t, harness.Files{
		"a/agent-base.json": `{"promptKey": "p"}`, "a/model.json": `{"model": "scripted", "apiKey": "secret-of-agent-a"}`,
		"b/agent-base.json": `{"promptKey": "p"}`, "b/model.json": `{"model": "scripted", "apiKey": "secret-of-agent-b"}`,
		"prompts/p.json": `{"promptKey": "p", "version": "1.0.0", "template": "be helpful"}`,
	})
	token, err := w.cp.JoinToken(t.Context(), "default", "a")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := w.cp.Enroll(t.Context(), token, "default", "a", "one")
	if err != nil {
		t.Fatal(err)
	}
	hello := func(agent, instance string) *pushv1.Hello {
		return &pushv1.Hello{Namespace: "default", Agent: agent, Instance: instance, AgentdVersion: "test"}
	}
	end := func(h *pushv1.Hello) codes.Code {
		t.Helper()
		c, err := w.cp.DialPushAs(t.Context(), cfg, h)
		if err != nil {
			return status.Code(err)
		}
		defer c.Close()
		for {
			m, err := c.Next(10 * time.Second)
			if err != nil {
				return status.Code(err)
			}
			if m.GetSnapshot() != nil || m.GetWelcome() != nil {
				t.Errorf("%s/%s was answered with %v", h.GetAgent(), h.GetInstance(), m)
				return codes.OK
			}
		}
	}
	for _, h := range []*pushv1.Hello{hello("b", "one"), hello("b", "b"), hello("A", "one"), hello("a", "two")} {
		if got := end(h); got != codes.PermissionDenied {
			t.Errorf("stream of %s/%s: %v", h.GetAgent(), h.GetInstance(), got)
		}
	}
	if st := w.status(t, "b"); len(st.Instances) != 0 {
		t.Errorf("B shows instances: %+v", st.Instances)
	}
	th := thief{t, cfg, w.cp.Runtime}
	if err := th.enroll(func(ctx context.Context, c identityv1.EnrollServiceClient, csr []byte) error {
		_, err := c.Enroll(ctx, &identityv1.EnrollRequest{Namespace: "default", Agent: "b", Instance: "one", Csr: csr})
		return err
	}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("enroll as B: %v", err)
	}
	if err := th.enroll(func(ctx context.Context, c identityv1.EnrollServiceClient, csr []byte) error {
		_, err := c.Renew(ctx, &identityv1.RenewRequest{Instance: "two", Csr: csr})
		return err
	}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("renew as another instance: %v", err)
	}
	// Its own stream it can open, and gets what A's config names and nothing else.
	c, err := w.cp.DialPushAs(t.Context(), cfg, hello("a", "one"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, _, err := c.NextSnapshot(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if text := s.String(); !strings.Contains(fmt.Sprint(s.GetCredentials()), "secret-of-agent-a") || strings.Contains(text, "secret-of-agent-b") {
		t.Errorf("%d credentials, or another's", len(s.GetCredentials()))
	}
	ids, err := w.cp.Identities()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := revoke(t.Context(), ids, "a"); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err = c.Next(5 * time.Second); err != nil {
			break
		}
	}
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("the stream ended with %v", err)
	}
	t.Logf("cut after %s", time.Since(began).Round(time.Microsecond))
	if got := end(hello("a", "one")); got != codes.PermissionDenied {
		t.Errorf("back in: %v", got)
	}
	if err := th.enroll(func(ctx context.Context, c identityv1.EnrollServiceClient, csr []byte) error {
		_, err := c.Renew(ctx, &identityv1.RenewRequest{Instance: "one", Csr: csr})
		return err
	}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("renewed after the revocation: %v", err)
	}
}

func revoke(ctx context.Context, ids identityv1connect.IdentityServiceClient, agent string) error {
	_, err := ids.Revoke(ctx, connect.NewRequest(&identityv1.RevokeRequest{Namespace: "default", Agent: agent, Message: "stolen"}))
	return err
}

// Instances whose clocks are wrong by an hour either way enroll, renew and go through a rotation under load like one whose clock is
// right: no request fails.
func TestWrongClocks(t *testing.T) {
	t.Parallel()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	changes, err := harness.SkewedClock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	env.Programs = map[string]string{"agentd": variant(t, env.Dir+"/skewed", "agentd", changes)}
	env.Vars = map[string][]string{"controlplane": {"AGENTRY_IDENTITY_LEAF_TTL=6s"}}
	w := worldIn(t, env, echoScript)
	w.apply(t, plain(1))
	var agents []*harness.Agent
	for id, skew := range map[string]string{"ahead": "3600", "behind": "-3600"} {
		a, err := w.StartAgent(w.cp, "helper", harness.AgentOptions{Instance: id, ModelBaseURL: w.url, Vars: []string{harness.SkewVar + "=" + skew}})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.WaitReady(t.Context(), 15*time.Second); err != nil {
			t.Fatalf("%s: %v\n%s", id, err, a.Output())
		}
		agents = append(agents, a)
	}
	for _, a := range agents { // by their logs: the build is what it should be
		text, _, _ := strings.Cut(strings.TrimPrefix(a.Output(), "time="), " ")
		at, err := time.Parse(time.RFC3339, text)
		if off := time.Until(at).Abs(); err != nil || off < 55*time.Minute || off > 65*time.Minute {
			t.Errorf("%s has a clock of %q, %v", a.Instance, text, err)
		}
	}
	l := w.asks(t, agents...)
	seen := map[string]map[string]bool{}
	take := 1
	eventually(t, 60*time.Second, func(context.Context) error {
		take++
		w.apply(t, plain(take))
		answers(t, take, agents...)
		for _, a := range agents {
			if seen[a.Instance] == nil {
				seen[a.Instance] = map[string]bool{}
			}
			seen[a.Instance][connected(t, a.URL()).Serial] = true
			if len(seen[a.Instance]) < 4 {
				return errors.New("not renewed three times yet")
			}
		}
		return nil
	})
	l.end()
	if len(l.failed) > 0 {
		t.Errorf("%d of %d requests failed: %v", len(l.failed), l.asked, l.failed[0])
	}
	t.Logf("%d requests, %d updates", l.asked, take)
}
