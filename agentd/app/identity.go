package app

import (
	"context"
	"flag"

	"github.com/agentry/agentry/agentd/configclient"
	"github.com/agentry/agentry/agentd/identity"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/version"
)

// Identity is how the instance shows who it is. The identity in the state directory goes first; the proof is for the first one, and for
// when the control plane takes the stored one no more.
type Identity struct {
	// TrustDomain is the control plane's: --trust-domain, AGENTRY_TRUST_DOMAIN, default "agentry.local".
	TrustDomain string
	// Proof is from AGENTD_JOIN_TOKEN, AGENTD_JOIN_TOKEN_FILE, AGENTD_KUBERNETES_TOKEN_FILE, AGENTD_X509POP_CERT, AGENTD_X509POP_KEY and
	// AGENTD_ROOTS_FILE.
	Proof identity.Proof
}

func defaultIdentity(env func(string) string) Identity {
	i := Identity{TrustDomain: identity.DefaultTrustDomain, Proof: identity.Proof{
		JoinToken: secret.NewValue(env("AGENTD_JOIN_TOKEN")), JoinTokenFile: env("AGENTD_JOIN_TOKEN_FILE"),
		KubernetesTokenFile: env("AGENTD_KUBERNETES_TOKEN_FILE"),
		CertFile:            env("AGENTD_X509POP_CERT"), KeyFile: env("AGENTD_X509POP_KEY"), RootsFile: env("AGENTD_ROOTS_FILE"),
	}}
	if v := env("AGENTRY_TRUST_DOMAIN"); v != "" {
		i.TrustDomain = v
	}
	return i
}

func identityFlags(fs *flag.FlagSet, i *Identity) {
	fs.StringVar(&i.TrustDomain, "trust-domain", i.TrustDomain, "`name` that heads every identity, as the control plane has it (AGENTRY_TRUST_DOMAIN)")
	fs.StringVar(&i.Proof.JoinTokenFile, "join-token-file", i.Proof.JoinTokenFile, "`file` with a one-time join token for the first identity (AGENTD_JOIN_TOKEN_FILE)")
	fs.StringVar(&i.Proof.RootsFile, "roots-file", i.Proof.RootsFile, "`file` (PEM) with the control plane's roots, for a first identity without a join token (AGENTD_ROOTS_FILE)")
}

// newIdentity loads the instance's identity.
func (d *daemon) newIdentity() (*identity.Keeper, error) {
	return identity.New(identity.Config{
		Namespace: d.cfg.Namespace, Agent: d.cfg.Agent, Instance: d.state.Instance(), TrustDomain: d.cfg.Identity.TrustDomain,
		Addresses: d.cfg.ControlPlane, Proof: d.cfg.Identity.Proof, Store: d.state, CanServe: d.state.HasLastGood(),
		UserAgent: "agentd/" + version.String(), Redactor: d.redactor, Log: d.log,
	})
}

// dial connects to a control plane with the newest identity.
func (d *daemon) dial(ctx context.Context, address string) (configclient.Conn, error) {
	return d.identity.Dial(ctx, address)
}
