package identityapi_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/agentry/agentry/controlplane/access"
	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	"github.com/agentry/agentry/internal/errs"
)

// only is a caller who holds permissions on single agents, as "permission agent".
type only []string

// Allowed looks for the pair.
func (o only) Allowed(_ access.Principal, permission string, obj access.Object) bool {
	for _, one := range o {
		if p, agent, _ := strings.Cut(one, " "); p == permission && agent == obj.Name {
			return true
		}
	}
	return false
}

// Somewhere looks for the permission.
func (o only) Somewhere(_ access.Principal, permission, _ string) bool {
	for _, one := range o {
		if strings.HasPrefix(one, permission+" ") {
			return true
		}
	}
	return false
}

// person gives the context of a caller.
type person func(t *testing.T) context.Context

func ada(t *testing.T) context.Context {
	t.Helper()
	return access.With(t.Context(), access.Principal{Name: "user:ada", Kind: access.User, Admin: true})
}

func bob(rules ...string) person {
	return func(t *testing.T) context.Context {
		t.Helper()
		return access.With(t.Context(), access.Principal{Name: "user:bob", Kind: access.User, Rules: only(rules)})
	}
}

func TestJoinTokensOfPeople(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	create := func(agent string, ttl *durationpb.Duration) (*identityv1.CreateJoinTokenResponse, error) {
		r, err := w.service.CreateJoinToken(ada(t), connect.NewRequest(&identityv1.CreateJoinTokenRequest{Namespace: "default", Agent: agent, Ttl: ttl}))
		if err != nil {
			return nil, err
		}
		return r.Msg, nil
	}
	for name, ttl := range map[string]time.Duration{"negative": -time.Second, "none": 0, "two days": 2 * day} {
		if _, err := create("helper", durationpb.New(ttl)); !errs.Is(err, errs.Invalid) {
			t.Errorf("ttl %s: %v", name, err)
		}
	}
	if _, err := create("a b", nil); !errs.Is(err, errs.Invalid) {
		t.Errorf("no name: %v", err)
	}
	mine, err := create("helper", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := create("other", durationpb.New(time.Hour)); err != nil {
		t.Fatal(err)
	}
	tok := mine.GetToken()
	if tok.GetCreatedBy() != "user:ada" || tok.GetExpires().AsTime().Sub(tok.GetCreated().AsTime()) != 10*time.Minute || !strings.HasPrefix(mine.GetSecret(), "agj_") {
		t.Errorf("token %v", tok)
	}
	if strings.Contains(tok.String(), mine.GetSecret()[4:20]) {
		t.Error("the secret is in what may be told")
	}
	list := func(ctx context.Context, r *identityv1.ListJoinTokensRequest) []string {
		t.Helper()
		resp, err := w.service.ListJoinTokens(ctx, connect.NewRequest(r))
		if err != nil {
			t.Fatal(err)
		}
		out := []string{}
		for _, x := range resp.Msg.GetTokens() {
			out = append(out, x.GetNamespace()+"/"+x.GetAgent())
		}
		return out
	}
	for name, tc := range map[string]struct {
		who  person
		r    *identityv1.ListJoinTokensRequest
		want []string
	}{
		"all":                {ada, &identityv1.ListJoinTokensRequest{AllNamespaces: true}, []string{"default/helper", "default/other"}},
		"another namespace":  {ada, &identityv1.ListJoinTokensRequest{Namespace: "prod"}, []string{}},
		"only what is yours": {bob("identity.read helper"), &identityv1.ListJoinTokensRequest{Namespace: "default"}, []string{"default/helper"}},
		"nothing is yours":   {bob(), &identityv1.ListJoinTokensRequest{Namespace: "default"}, []string{}},
	} {
		if diff := cmp.Diff(tc.want, list(tc.who(t), tc.r)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, err := w.service.ListJoinTokens(ada(t), connect.NewRequest(&identityv1.ListJoinTokensRequest{})); !errs.Is(err, errs.Invalid) {
		t.Errorf("no namespace: %v", err)
	}
	remove := func(ctx context.Context, namespace string) error {
		_, err := w.service.DeleteJoinToken(ctx, connect.NewRequest(&identityv1.DeleteJoinTokenRequest{Namespace: namespace, Id: tok.GetId()}))
		return err
	}
	for name, tc := range map[string]struct {
		err  error
		want errs.Kind
	}{
		"not yours":         {remove(bob("identity.join other")(t), "default"), errs.NotFound},
		"yours to see":      {remove(bob("identity.read helper", "spec.read helper")(t), "default"), errs.Denied},
		"another namespace": {remove(ada(t), "prod"), errs.NotFound},
		"no namespace":      {remove(ada(t), ""), errs.NotFound},
	} {
		if !errs.Is(tc.err, tc.want) {
			t.Errorf("%s: %v", name, tc.err)
		}
	}
	if err := remove(bob("identity.join helper")(t), "default"); err != nil {
		t.Fatal(err)
	}
	if err := remove(ada(t), "default"); !errs.Is(err, errs.NotFound) {
		t.Errorf("twice: %v", err)
	}
}

func TestIdentitiesAndRevocations(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join("default", "helper", "i1")
	w.join("default", "helper", "i2")
	w.join("default", "helperling", "i1") // whose name begins the same way
	w.join("prod", "helper", "i1")
	resp, err := w.service.Revoke(ada(t), connect.NewRequest(&identityv1.RevokeRequest{Namespace: "default", Agent: "helper", Instance: "i1", Message: "lost"}))
	if err != nil || resp.Msg.GetCertificates() != 1 || resp.Msg.GetRevocation().GetRevokedBy() != "user:ada" || resp.Msg.GetRevocation().GetMessage() != "lost" {
		t.Fatalf("%v, %v", resp, err)
	}
	list := func(ctx context.Context, r *identityv1.ListIdentitiesRequest) []string {
		t.Helper()
		resp, err := w.service.ListIdentities(ctx, connect.NewRequest(r))
		if err != nil {
			t.Fatal(err)
		}
		out := []string{}
		for _, i := range resp.Msg.GetIdentities() {
			line := i.GetNamespace() + "/" + i.GetAgent() + "/" + i.GetInstance() + " " + i.GetProof()
			if i.GetRevoked() {
				line += " revoked"
			}
			out = append(out, line)
		}
		for _, v := range resp.Msg.GetRevocations() {
			out = append(out, "- "+v.GetNamespace()+"/"+v.GetAgent()+"/"+v.GetInstance())
		}
		return out
	}
	for name, tc := range map[string]struct {
		who  person
		r    *identityv1.ListIdentitiesRequest
		want []string
	}{
		"a namespace": {ada, &identityv1.ListIdentitiesRequest{Namespace: "default"}, []string{
			"default/helper/i1 join_token revoked", "default/helper/i2 join_token", "default/helperling/i1 join_token", "- default/helper/i1",
		}},
		"one agent":          {ada, &identityv1.ListIdentitiesRequest{Namespace: "default", Agent: "helperling"}, []string{"default/helperling/i1 join_token"}},
		"one agent of all":   {ada, &identityv1.ListIdentitiesRequest{AllNamespaces: true, Agent: "helperling"}, []string{"default/helperling/i1 join_token"}},
		"another namespace":  {ada, &identityv1.ListIdentitiesRequest{Namespace: "prod"}, []string{"prod/helper/i1 join_token"}},
		"only what is yours": {bob("identity.read helperling"), &identityv1.ListIdentitiesRequest{AllNamespaces: true}, []string{"default/helperling/i1 join_token"}},
		"nothing is yours":   {bob(), &identityv1.ListIdentitiesRequest{AllNamespaces: true}, []string{}},
	} {
		if diff := cmp.Diff(tc.want, list(tc.who(t), tc.r)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, err := w.service.Revoke(ada(t), connect.NewRequest(&identityv1.RevokeRequest{Namespace: "default"})); !errs.Is(err, errs.Invalid) {
		t.Errorf("revoke nobody: %v", err)
	}
}

func TestAuthorityAndItsRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join("default", "helper", "i1")
	w.join("default", "helper", "i2")
	w.mu.Lock()
	w.connected["default/helper/i1"] = true
	w.mu.Unlock()
	get := func() *identityv1.GetAuthorityResponse {
		t.Helper()
		r, err := w.service.GetAuthority(bob()(t), connect.NewRequest(&identityv1.GetAuthorityRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		return r.Msg
	}
	a := get()
	if a.GetTrustDomain() != "example.org" || len(a.GetRoots()) != 1 || a.GetRoots()[0].GetState() != "active" || a.GetBehind() != 0 || a.GetIntermediateSerial() == "" {
		t.Errorf("authority %v", a)
	}
	rotate := func(step identityv1.RotationStep, force bool) (identityv1.RotationStep, error) {
		r, err := w.service.RotateAuthority(ada(t), connect.NewRequest(&identityv1.RotateAuthorityRequest{Step: step, Force: force}))
		if err != nil {
			return 0, err
		}
		return r.Msg.GetDone(), nil
	}
	if _, err := rotate(99, true); !errs.Is(err, errs.Invalid) {
		t.Errorf("an unknown step: %v", err)
	}
	if done, err := rotate(identityv1.RotationStep_ROTATION_STEP_UNSPECIFIED, false); err != nil || done != identityv1.RotationStep_ROTATION_STEP_PREPARE {
		t.Fatalf("%v, %v", done, err)
	}
	if a := get(); a.GetBehind() != 1 || len(a.GetRoots()) != 2 {
		t.Errorf("prepared: %d behind, %d roots", a.GetBehind(), len(a.GetRoots()))
	}
	if _, err := rotate(identityv1.RotationStep_ROTATION_STEP_ACTIVATE, false); !errs.Is(err, errs.Precondition) {
		t.Errorf("activate: %v", err)
	}
	for _, want := range []identityv1.RotationStep{identityv1.RotationStep_ROTATION_STEP_ACTIVATE, identityv1.RotationStep_ROTATION_STEP_RETIRE} {
		if done, err := rotate(identityv1.RotationStep_ROTATION_STEP_UNSPECIFIED, true); err != nil || done != want {
			t.Errorf("%v, %v", done, err)
		}
	}
	if got := get(); len(got.GetRoots()) != 1 || got.GetRoots()[0].GetPin() == a.GetRoots()[0].GetPin() {
		t.Error("the root is the same")
	}
}
