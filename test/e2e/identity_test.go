package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/test/harness"
)

// shownIdentity is what agentd says of its identity.
type shownIdentity struct {
	SPIFFEID    string    `json:"spiffeId"`
	Serial      string    `json:"serial"`
	NotAfter    time.Time `json:"notAfter"`
	AgeSeconds  float64   `json:"ageSeconds"`
	LifeSeconds float64   `json:"lifeSeconds"`
	Proof       string    `json:"proof"`
	Problem     string    `json:"problem"`
	Connected   bool      `json:"-"`
}

func identityAt(ctx context.Context, url string) (shownIdentity, error) {
	var shown struct {
		Client   struct{ Connected bool } `json:"controlPlane"`
		Identity shownIdentity            `json:"identity"`
	}
	code, body, err := harness.Get(ctx, url+"/admin/config")
	if err == nil && code != 200 {
		err = fmt.Errorf("/admin/config %d %s", code, body)
	}
	if err != nil {
		return shownIdentity{}, err
	}
	err = json.Unmarshal([]byte(body), &shown)
	shown.Identity.Connected = shown.Client.Connected
	return shown.Identity, err
}

// connected waits until an agentd has a stream and an identity, and gives it.
func connected(t *testing.T, url string) shownIdentity {
	t.Helper()
	var id shownIdentity
	eventually(t, 20*time.Second, func(ctx context.Context) (err error) {
		id, err = identityAt(ctx, url)
		if err == nil && (!id.Connected || id.Serial == "" || id.AgeSeconds > id.LifeSeconds) {
			err = fmt.Errorf("not connected with an identity that counts: %+v", id)
		}
		return err
	})
	return id
}

// streamFault tries a stream with these credentials and gives how it was refused.
func streamFault(t *testing.T, addr string, creds credentials.TransportCredentials, token string) error {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token), 10*time.Second)
	defer cancel()
	s, err := pushv1.NewConfigServiceClient(conn).Stream(ctx)
	if err != nil {
		return err
	}
	_ = s.Send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Hello{Hello: &pushv1.Hello{Namespace: "default", Agent: "helper", Instance: "nobody"}}})
	_, err = s.Recv()
	return err
}

// `agentctl up` runs with identities and no extra step: each instance has its own, the runtime door takes nothing else, and an instance
// that is started again goes by what it has stored, though the join token in its environment is spent.
func TestUpRunsWithIdentities(t *testing.T) {
	t.Parallel()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	dir, data, infoFile := filepath.Join(env.Dir, "spec"), filepath.Join(env.Dir, "data"), filepath.Join(env.Dir, "info.json")
	if err := plain(1).WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	var info upInfo
	begin := func() *harness.Proc {
		_ = os.Remove(infoFile)
		up, err := env.Start("up", "agentctl", nil, "up", dir, "--port-base", "0", "--data-dir", data, "--info-file", infoFile, "--instances", "helper=2")
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, func(context.Context) error {
			if !up.Running() {
				t.Fatalf("up ended:\n%s", up.Output())
			}
			info, err = readInfo(infoFile)
			return err
		})
		return up
	}
	up := begin()
	serials := map[string]string{}
	for i, url := range info.Agents["helper"] {
		id := connected(t, url)
		if id.SPIFFEID != "spiffe://agentry.local/ns/default/agent/helper" || id.Proof != "join_token" || id.LifeSeconds < 23*3600 {
			t.Errorf("identity %+v", id)
		}
		serials[url] = id.Serial
		state := filepath.Join(data, "agentd", "default", []string{"helper", "helper-2"}[i])
		st, err := os.Stat(filepath.Join(state, "identity"))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("the stored identity: %v, %v", st, err)
		}
	}
	cp := &harness.ControlPlane{People: strings.TrimPrefix(info.People, "http://"), DataDir: filepath.Dir(info.TokenFile), Runtime: info.Runtime}
	ids, err := cp.Identities()
	if err != nil {
		t.Fatal(err)
	}
	listed, err := ids.ListIdentities(t.Context(), connect.NewRequest(&identityv1.ListIdentitiesRequest{Namespace: "default"}))
	if err != nil || len(listed.Msg.GetIdentities()) != 2 {
		t.Errorf("identities %v, %v; want two", listed, err)
	}

	token, err := cp.Token()
	if err != nil {
		t.Fatal(err)
	}
	if err := streamFault(t, info.Runtime, insecure.NewCredentials(), token); status.Code(err) != codes.Unavailable {
		t.Errorf("plaintext: %v, want Unavailable", err)
	}
	join, err := cp.JoinToken(t.Context(), "default", "helper")
	if err != nil {
		t.Fatal(err)
	}
	if err := streamFault(t, info.Runtime, credentials.NewTLS(harness.Pinned(join)), token); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a certificate: %v, want Unauthenticated", err)
	}
	old := harness.Pinned(join)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if err := streamFault(t, info.Runtime, credentials.NewTLS(old), token); status.Code(err) != codes.Unavailable {
		t.Errorf("TLS 1.2: %v, want Unavailable", err)
	}

	var pids []int
	if err := json.Unmarshal(info.PIDs["helper"], &pids); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	url := info.Agents["helper"][0]
	eventually(t, 20*time.Second, func(context.Context) error {
		now, err := readInfo(infoFile)
		if err != nil {
			return err
		}
		var fresh []int
		if err := json.Unmarshal(now.PIDs["helper"], &fresh); err != nil || fresh[0] == pids[0] || fresh[0] == 0 {
			return fmt.Errorf("pids %v: not started again yet (%w)", fresh, err)
		}
		return nil
	})
	if id := connected(t, url); id.Serial != serials[url] || id.Problem != "" {
		t.Errorf("after a restart with a spent token: %+v, want serial %s", id, serials[url])
	}
	if err := up.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := up.Wait(20 * time.Second); err != nil {
		t.Errorf("Ctrl-C: %v\n%s", err, up.Output())
	}
	up = begin()
	for _, url := range info.Agents["helper"] {
		if id := connected(t, url); id.Problem != "" || id.AgeSeconds > 600 {
			t.Errorf("up again: %+v", id)
		}
	}
	if err := up.Stop(20 * time.Second); err != nil {
		t.Error(err)
	}
}

// A join token is good for one instance, of its own agent; who comes second is told what to do.
func TestAJoinTokenIsSpentOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	w.apply(t, plain(1))
	token, err := w.cp.JoinToken(t.Context(), "default", "helper")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.cp.Enroll(t.Context(), token, "default", "other", "one"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("for another agent: %v, want Unauthenticated", err)
	}
	cfg, err := w.cp.Enroll(t.Context(), token, "default", "helper", "one")
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.cp.DialPushAs(t.Context(), cfg, &pushv1.Hello{Namespace: "default", Agent: "helper", Instance: "one", AgentdVersion: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.NextSnapshot(5 * time.Second); err != nil {
		t.Error(err)
	}
	if _, err := w.cp.Enroll(t.Context(), token, "default", "helper", "two"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("the second time: %v, want Unauthenticated", err)
	}
	a, err := w.StartAgent(w.cp, "helper", harness.AgentOptions{ModelBaseURL: w.url, Vars: []string{"AGENTD_JOIN_TOKEN=" + token}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		code, body, err := harness.Get(ctx, a.URL()+"/readyz")
		if err == nil && (code != 503 || !strings.Contains(body, "agentctl identity join-token create helper")) {
			err = fmt.Errorf("readyz %d %q, want 503 that says what to run", code, body)
		}
		return err
	})
	if secret, _, _ := strings.Cut(token, "."); strings.Contains(a.Output(), secret) {
		t.Error("agentd printed the join token")
	}
}

// An identity that ran out while the control plane was dead, or got lost, costs no start and no request; it is renewed, or had anew by
// a join token, when the control plane is back.
func TestRestartsWithAnExpiredOrLostIdentity(t *testing.T) {
	t.Parallel()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	env.Vars = map[string][]string{"controlplane": {"AGENTRY_IDENTITY_LEAF_TTL=3s"}}
	w := worldIn(t, env, echoScript)
	w.apply(t, plain(1))
	a := w.agent(t, "helper")
	w.settled(t, "helper")
	w.cp.Kill()
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		id, err := identityAt(ctx, a.URL())
		if err == nil && (id.AgeSeconds < id.LifeSeconds || id.Problem == "") {
			err = fmt.Errorf("not expired, or nothing told: %+v", id)
		}
		return err
	})
	again := func(what string) {
		t.Helper()
		a.Kill()
		if err := a.Restart(); err != nil {
			t.Fatal(err)
		}
		if err := a.WaitReady(t.Context(), 5*time.Second); err != nil {
			t.Fatalf("%s: %v\n%s", what, err, a.Output())
		}
		if ans, err := a.Chat(t.Context(), "", "hello"); err != nil || ans.Revision != "1" {
			t.Errorf("%s: answered %+v, %v", what, ans, err)
		}
	}
	for i := range 5 {
		again(fmt.Sprintf("restart %d", i))
	}
	if err := w.cp.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if id := connected(t, a.URL()); id.Proof != "renewal" {
		t.Errorf("back by %+v, want a renewal", id)
	}

	w.cp.Kill()
	if err := os.Remove(filepath.Join(a.StateDir, "identity")); err != nil {
		t.Fatal(err)
	}
	again("without an identity")
	if err := w.cp.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		id, err := identityAt(ctx, a.URL())
		if err == nil && !strings.Contains(id.Problem, "join-token create helper") {
			err = fmt.Errorf("identity %+v, want what to do", id)
		}
		return err
	})
	again("with a spent token only")
}

// Leaves of a few seconds under load: renewed, streams made anew, and no request fails.
func TestIdentitiesAreRenewedUnderLoad(t *testing.T) {
	t.Parallel()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	env.Vars = map[string][]string{"controlplane": {"AGENTRY_IDENTITY_LEAF_TTL=4s"}}
	w := worldIn(t, env, echoScript)
	w.apply(t, plain(1))
	a := w.agent(t, "helper")
	w.settled(t, "helper")
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	var mu sync.Mutex
	var failed []error
	asked := 0
	for range 2 {
		load.Go(func() {
			for ctx.Err() == nil {
				_, err := a.Chat(t.Context(), "", "hello")
				mu.Lock()
				asked++
				if err != nil {
					failed = append(failed, err)
				}
				mu.Unlock()
			}
		})
	}
	serials := map[string]bool{}
	for take := 2; len(serials) < 4; take++ {
		serials[connected(t, a.URL()).Serial] = true
		w.apply(t, plain(take))
		eventually(t, 10*time.Second, func(ctx context.Context) error {
			ans, err := a.Chat(ctx, "", "hello")
			if err == nil && ans.Revision != fmt.Sprint(take) {
				err = fmt.Errorf("answered by revision %s, want %d", ans.Revision, take)
			}
			return err
		})
	}
	stop()
	load.Wait()
	if len(failed) > 0 {
		t.Errorf("%d of %d requests failed: %v", len(failed), asked, failed[0])
	}
	t.Logf("%d requests over %d certificates", asked, len(serials))
}

// A revoked instance's stream is cut at once and stays out; it goes on serving what it has, and a new join token brings it back.
func TestARevokedInstanceComesBackByANewToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	w.apply(t, plain(1))
	file := filepath.Join(w.Dir, "join-token")
	put := func() {
		t.Helper()
		token, err := w.cp.JoinToken(t.Context(), "default", "helper")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put()
	a, err := w.StartAgent(w.cp, "helper", harness.AgentOptions{ModelBaseURL: w.url, Vars: []string{"AGENTD_JOIN_TOKEN_FILE=" + file}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.WaitReady(t.Context(), 15*time.Second); err != nil {
		t.Fatalf("%v\n%s", err, a.Output())
	}
	first := connected(t, a.URL())
	ids, err := w.cp.Identities()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ids.Revoke(t.Context(), connect.NewRequest(&identityv1.RevokeRequest{Namespace: "default", Agent: "helper", Instance: "helper"})); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, 5*time.Second, func(ctx context.Context) error {
		id, err := identityAt(ctx, a.URL())
		if err == nil && id.Connected {
			err = errors.New("the stream is still open")
		}
		return err
	})
	t.Logf("cut after %s", time.Since(began))
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		id, err := identityAt(ctx, a.URL())
		if err == nil && (id.Connected || !strings.Contains(id.Problem, "revoked")) {
			err = fmt.Errorf("identity %+v, want one that says revoked", id)
		}
		return err
	})
	if ans, err := a.Chat(t.Context(), "", "hello"); err != nil || ans.Revision != "1" {
		t.Errorf("it should go on serving: %+v, %v", ans, err)
	}
	put()
	if id := connected(t, a.URL()); id.Serial == first.Serial || id.Proof != "join_token" {
		t.Errorf("back by %+v", id)
	}
	for _, name := range []string{"identity", "key"} {
		b, err := os.ReadFile(filepath.Join(a.StateDir, name))
		if err != nil || bytes.Contains(b, []byte("PRIVATE KEY")) {
			t.Errorf("%s: %v, or a key in plain text", name, err)
		}
	}
}
