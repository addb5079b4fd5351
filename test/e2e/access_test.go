package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/gen/agentry/access/v1/accessv1connect"
	"github.com/agentry/agentry/gen/agentry/release/v1/releasev1connect"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/gen/agentry/spec/v1/specv1connect"
	"github.com/agentry/agentry/test/harness"
)

// caller is somebody at one replica.
type caller struct {
	access accessv1connect.AccessServiceClient
	harness.API
}

func callerAt(cp *harness.ControlPlane, token string) caller {
	auth := connect.WithInterceptors(connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
			r.Header().Set("Authorization", "Bearer "+token)
			return next(ctx, r)
		}
	}))
	base := "http://" + cp.People
	return caller{
		access: accessv1connect.NewAccessServiceClient(http.DefaultClient, base, auth),
		API: harness.API{
			Spec:   specv1connect.NewSpecServiceClient(http.DefaultClient, base, auth),
			Status: releasev1connect.NewStatusServiceClient(http.DefaultClient, base, auth),
		},
	}
}

// lists says whether the caller may list the agents of the default namespace.
func (c caller) lists(ctx context.Context) (bool, error) {
	_, err := c.Spec.List(ctx, connect.NewRequest(&specv1.ListRequest{Namespace: "default", Kind: "agent"}))
	if code := connect.CodeOf(err); code == connect.CodePermissionDenied || code == connect.CodeUnauthenticated {
		return false, nil
	}
	return err == nil, err
}

// Two replicas, each with a bootstrap token of its own in its own file, make one administrator however many try; what is written at one
// counts at the other: tokens, bindings, and their ends, which are there within a moment.
func TestTwoReplicasAreOneDirectory(t *testing.T) {
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
	var replicas []*harness.ControlPlane
	var secrets, files []string
	for i := range 2 {
		dir := filepath.Join(env.Dir, fmt.Sprintf("replica-%d", i))
		flags := []string{"--etcd-endpoints", "http://" + addr, "--data-dir", dir, "--dev-token=false"}
		if i > 0 {
			flags = append(flags, "--kek-file", filepath.Join(env.Dir, "replica-0", "kek"))
		}
		cp, err := env.StartControlPlane(t.Context(), flags...)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "bootstrap-token")
		eventually(t, 5*time.Second, func(context.Context) error {
			b, err := os.ReadFile(file)
			if err == nil {
				secrets = append(secrets, strings.TrimSpace(string(b)))
			}
			return err
		})
		replicas, files = append(replicas, cp), append(files, file)
	}
	for _, cp := range replicas {
		eventually(t, 5*time.Second, func(ctx context.Context) error {
			info, err := callerAt(cp, "").access.LoginInfo(ctx, connect.NewRequest(&accessv1.LoginInfoRequest{}))
			if err == nil && !info.Msg.GetBootstrap() {
				err = errors.New("no bootstrap token waits")
			}
			return err
		})
	}

	type result struct {
		token string
		err   error
	}
	const spenders = 8 // few enough for the limit of logins
	results := make(chan result)
	for i := range spenders {
		go func() {
			resp, err := callerAt(replicas[i%2], "").access.Bootstrap(t.Context(), connect.NewRequest(&accessv1.BootstrapRequest{BootstrapToken: secrets[i/2%2]}))
			if err != nil {
				results <- result{err: err}
				return
			}
			results <- result{token: resp.Msg.GetToken()}
		}()
	}
	var admin string
	for range spenders {
		r := <-results
		switch {
		case r.err == nil && admin != "":
			t.Error("the bootstrap token was spent twice")
		case r.err == nil:
			admin = r.token
		case connect.CodeOf(r.err) != connect.CodeUnauthenticated:
			t.Errorf("refused with %v", r.err)
		}
	}
	if admin == "" {
		t.Fatal("nobody became administrator")
	}
	for _, file := range files {
		eventually(t, 5*time.Second, func(context.Context) error {
			if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s is still there", file)
			}
			return nil
		})
	}

	// A token and what it may, from one replica to the other.
	here := callerAt(replicas[0], admin)
	made, err := here.access.CreateToken(t.Context(), connect.NewRequest(&accessv1.CreateTokenRequest{
		Name: "ci", Ttl: durationpb.New(time.Hour), Scopes: []*accessv1.Scope{{Namespace: "elsewhere", Role: "viewer"}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	there := callerAt(replicas[1], made.Msg.GetSecret())
	becomes := func(what string, want bool) {
		t.Helper()
		began := time.Now()
		eventually(t, 5*time.Second, func(ctx context.Context) error {
			got, err := there.lists(ctx)
			if err == nil && got != want {
				err = fmt.Errorf("%s: lists is %t", what, got)
			}
			return err
		})
		t.Logf("%s: at the other replica after %s", what, time.Since(began).Round(time.Millisecond))
	}
	becomes("a scope that leaves the namespace out", false)
	binding := &accessv1.Binding{Name: "ci", Role: "viewer", Subjects: []string{"token:" + made.Msg.GetToken().GetId()}}
	if _, err := here.access.SetBinding(t.Context(), connect.NewRequest(&accessv1.SetBindingRequest{Namespace: "default", Binding: binding})); err != nil {
		t.Fatal(err)
	}
	becomes("a binding", true)
	if _, err := here.access.DeleteBinding(t.Context(), connect.NewRequest(&accessv1.DeleteBindingRequest{Namespace: "default", Name: "ci"})); err != nil {
		t.Fatal(err)
	}
	becomes("the binding's end", false)
	if _, err := here.access.RevokeToken(t.Context(), connect.NewRequest(&accessv1.RevokeTokenRequest{Token: "ci"})); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func(ctx context.Context) error {
		_, err := there.access.WhoAmI(ctx, connect.NewRequest(&accessv1.WhoAmIRequest{}))
		if connect.CodeOf(err) != connect.CodeUnauthenticated {
			return fmt.Errorf("the revoked token is answered %s", connect.CodeOf(err))
		}
		return nil
	})
}
