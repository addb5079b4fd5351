package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/test/harness"
)

// Two replicas are one authority: a token made at one is spent at the other, a TLS session of one goes on at the other, and a
// revocation at one cuts the stream at the other.
func TestTwoReplicasAreOneAuthority(t *testing.T) {
	t.Parallel()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	addr, err := harness.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := env.Start("etcd", buildEtcd(t, env.Dir), nil, "--dir", filepath.Join(env.Dir, "etcd"), "--listen", addr); err != nil {
		t.Fatal(err)
	}
	w := worldIn(t, env, echoScript, "--etcd-endpoints", "http://"+addr)
	w.apply(t, plain(1))
	other, err := w.StartControlPlane(t.Context(), "--etcd-endpoints", "http://"+addr)
	if err != nil {
		t.Fatal(err)
	}
	token, err := w.cp.JoinToken(t.Context(), "default", "helper")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := other.Enroll(t.Context(), token, "default", "helper", "one")
	if err != nil {
		t.Fatal(err)
	}
	resumed := make(chan bool, 8)
	verify := cfg.VerifyConnection
	cfg.ServerName, cfg.ClientSessionCache = "runtime", tls.NewLRUClientSessionCache(4)
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		resumed <- cs.DidResume
		return verify(cs)
	}
	var c *harness.PushClient
	for i, cp := range []*harness.ControlPlane{w.cp, other} {
		if c, err = cp.DialPushAs(t.Context(), cfg, &pushv1.Hello{Namespace: "default", Agent: "helper", Instance: "one", AgentdVersion: "test"}); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, _, err := c.NextSnapshot(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		if got, want := <-resumed, i == 1; got != want {
			t.Errorf("connection %d resumed: %t", i, got)
		}
	}
	ids, err := w.cp.Identities()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := revoke(t.Context(), ids, "helper"); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err = c.Next(5 * time.Second); err != nil {
			break
		}
	}
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("at the other replica the stream ended with %v", err)
	}
	t.Logf("cut at the other replica after %s", time.Since(began).Round(time.Millisecond))
	if _, err := ids.RotateAuthority(t.Context(), connect.NewRequest(&identityv1.RotateAuthorityRequest{})); err != nil {
		t.Fatal(err)
	}
	there, err := other.Identities()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func(ctx context.Context) error {
		a, err := there.GetAuthority(ctx, connect.NewRequest(&identityv1.GetAuthorityRequest{}))
		if err == nil && len(a.Msg.GetRoots()) != 2 {
			err = fmt.Errorf("%d roots at the other replica, want 2", len(a.Msg.GetRoots()))
		}
		return err
	})
}

// buildEtcd builds the etcd server into a directory and gives its path.
func buildEtcd(t *testing.T, dir string) string {
	t.Helper()
	bin := filepath.Join(dir, "etcdserver")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../etcdserver")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build etcdserver: %v\n%s", err, out)
	}
	return bin
}
