package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
)

func (c *cli) identityCmd() *cobra.Command {
	return group("identity", "Identities of instances: join tokens, certificates, the authority",
		"  agentctl identity join-token create mse-nacos-helper\n  agentctl identity list\n  agentctl identity revoke mse-nacos-helper/INSTANCE\n  agentctl identity authority rotate prepare",
		c.joinTokenCmd(), c.identityListCmd(), c.identityRevokeCmd(), c.authorityCmd())
}

func (c *cli) joinTokenCmd() *cobra.Command {
	return group("join-token", "One-time tokens with which an instance gets its first certificate",
		"  AGENTD_JOIN_TOKEN=$(agentctl identity join-token create mse-nacos-helper -q) AGENT_NAME=mse-nacos-helper agentd\n  agentctl identity join-token list",
		c.joinTokenCreateCmd(), c.joinTokenListCmd(), c.joinTokenDeleteCmd())
}

// joinTokenDoc is a join token. Secret is set by create alone.
type joinTokenDoc struct {
	ID        string    `json:"id"`
	Namespace string    `json:"namespace"`
	Agent     string    `json:"agent"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires"`
	CreatedBy string    `json:"createdBy"`
	Secret    string    `json:"secret,omitempty"`
}

func toJoinToken(t *identityv1.JoinToken) joinTokenDoc {
	return joinTokenDoc{
		ID: t.GetId(), Namespace: t.GetNamespace(), Agent: t.GetAgent(), Created: timeOf(t.GetCreated()), Expires: timeOf(t.GetExpires()), CreatedBy: t.GetCreatedBy(),
	}
}

func (c *cli) joinTokenCreateCmd() *cobra.Command {
	var out output
	var ttl time.Duration
	var message string
	cmd := &cobra.Command{
		Use: "create AGENT", Short: "Make a token for one instance of an agent and print it, this once",
		Example: "  agentctl identity join-token create mse-nacos-helper --ttl 5m\n  AGENTD_JOIN_TOKEN=$(agentctl identity join-token create mse-nacos-helper -q) AGENT_NAME=mse-nacos-helper agentd", Args: args(1, 1),
		ValidArgsFunction: c.completer(kindAgent),
		RunE: func(cmd *cobra.Command, names []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			if ttl < 0 {
				return usagef("--ttl %s: a token counts from now on", ttl)
			}
			req := &identityv1.CreateJoinTokenRequest{Namespace: cl.namespace, Agent: strings.TrimPrefix(names[0], "agent/"), Message: message}
			if ttl != 0 {
				req.Ttl = durationpb.New(ttl)
			}
			resp, err := cl.identity.CreateJoinToken(cmd.Context(), connect.NewRequest(req))
			if err != nil {
				return err
			}
			d := toJoinToken(resp.Msg.GetToken())
			d.Secret = resp.Msg.GetSecret()
			if out.machine() {
				return printDoc(c.env.Stdout, out, d)
			}
			if !c.flags.quiet {
				c.note("for one instance of agent %s, until %s: %s\nThis is the only time that the token is shown:", d.Agent, d.Expires.Format(time.RFC3339), cl.startLine(cmd.Context(), d))
			}
			_, err = fmt.Fprintln(c.env.Stdout, d.Secret)
			return err
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long it can be spent; default 10m, at most 24h")
	cmd.Flags().StringVar(&message, "message", "", "why; kept in the audit log")
	out.bind(cmd)
	return cmd
}

// startLine says how an instance is started with a join token.
func (cl *client) startLine(ctx context.Context, d joinTokenDoc) string {
	line := "AGENTD_JOIN_TOKEN=TOKEN AGENT_NAME=" + d.Agent
	if d.Namespace != "default" {
		line += " AGENT_NAMESPACE=" + d.Namespace
	}
	// Without it agentd tries the default address, which is right where this call fails.
	if info, err := cl.status.Info(ctx, connect.NewRequest(&releasev1.InfoRequest{})); err == nil && info.Msg.GetRuntimeAddress() != "" {
		line += " CONTROL_PLANE=" + info.Msg.GetRuntimeAddress()
	}
	return line + " agentd"
}

func (c *cli) joinTokenListCmd() *cobra.Command {
	var out output
	var all bool
	cmd := &cobra.Command{
		Use: "list", Short: "Tokens that can still be spent", Example: "  agentctl identity join-token list", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			resp, err := cl.identity.ListJoinTokens(cmd.Context(), connect.NewRequest(&identityv1.ListJoinTokensRequest{Namespace: cl.namespace, AllNamespaces: all}))
			if err != nil {
				return err
			}
			docs := []joinTokenDoc{}
			t := table{head: []string{"ID", "NAMESPACE", "AGENT", "EXPIRES", "CREATED BY"}, empty: "No join tokens. Make one: agentctl identity join-token create AGENT"}
			for _, x := range resp.Msg.GetTokens() {
				d := toJoinToken(x)
				docs = append(docs, d)
				t.add("join-token/"+d.ID, d.ID, d.Namespace, d.Agent, c.until(d.Expires), d.CreatedBy)
			}
			return c.print(out, docs, t)
		},
	}
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "of every namespace")
	out.bind(cmd)
	return cmd
}

func (c *cli) joinTokenDeleteCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete ID", Short: "Make a token useless", Example: "  agentctl identity join-token delete ID", Args: args(1, 1),
		ValidArgsFunction: c.completeNames(func(ctx context.Context, cl *client) (ids []string) {
			resp, err := cl.identity.ListJoinTokens(ctx, connect.NewRequest(&identityv1.ListJoinTokensRequest{Namespace: cl.namespace}))
			if err == nil {
				for _, t := range resp.Msg.GetTokens() {
					ids = append(ids, t.GetId())
				}
			}
			return ids
		}),
		RunE: func(cmd *cobra.Command, ids []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			id := strings.TrimPrefix(ids[0], "join-token/")
			if _, err := cl.identity.DeleteJoinToken(cmd.Context(), connect.NewRequest(&identityv1.DeleteJoinTokenRequest{Namespace: cl.namespace, Id: id})); err != nil {
				return err
			}
			return c.did("", "join-token/"+id, "deleted")
		},
	}
	return cmd
}

// identityDoc is the newest certificate of one instance.
type identityDoc struct {
	Namespace string    `json:"namespace"`
	Agent     string    `json:"agent"`
	Instance  string    `json:"instance"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	Proof     string    `json:"proof"`
	Revoked   bool      `json:"revoked"`
}

// revocationDoc is what isn't accepted any more.
type revocationDoc struct {
	Namespace string    `json:"namespace"`
	Agent     string    `json:"agent"`
	Instance  string    `json:"instance"`
	Before    time.Time `json:"before"`
	RevokedBy string    `json:"revokedBy"`
	Message   string    `json:"message"`
}

func toRevocation(r *identityv1.Revocation) revocationDoc {
	return revocationDoc{
		Namespace: r.GetNamespace(), Agent: r.GetAgent(), Instance: r.GetInstance(), Before: timeOf(r.GetBefore()), RevokedBy: r.GetRevokedBy(), Message: r.GetMessage(),
	}
}

// identitiesDoc is what identity list prints.
type identitiesDoc struct {
	Identities  []identityDoc   `json:"identities"`
	Revocations []revocationDoc `json:"revocations"`
}

func (c *cli) identityListCmd() *cobra.Command {
	var out output
	var all bool
	cmd := &cobra.Command{
		Use: "list [AGENT]", Short: "The newest certificate of each instance", Example: "  agentctl identity list\n  agentctl identity list mse-nacos-helper -o json", Args: args(0, 1),
		ValidArgsFunction: c.completer(kindAgent),
		RunE: func(cmd *cobra.Command, names []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			req := &identityv1.ListIdentitiesRequest{Namespace: cl.namespace, AllNamespaces: all}
			if len(names) == 1 {
				req.Agent = strings.TrimPrefix(names[0], "agent/")
			}
			resp, err := cl.identity.ListIdentities(cmd.Context(), connect.NewRequest(req))
			if err != nil {
				return err
			}
			d := identitiesDoc{Identities: []identityDoc{}, Revocations: []revocationDoc{}}
			t := table{head: []string{"AGENT", "INSTANCE", "STATE", "EXPIRES", "PROOF", "NAMESPACE", "SERIAL"}, from: 5, empty: "No identities yet."}
			for _, x := range resp.Msg.GetIdentities() {
				i := identityDoc{
					Namespace: x.GetNamespace(), Agent: x.GetAgent(), Instance: x.GetInstance(), Serial: x.GetSerial(),
					NotBefore: timeOf(x.GetNotBefore()), NotAfter: timeOf(x.GetNotAfter()), Proof: x.GetProof(), Revoked: x.GetRevoked(),
				}
				d.Identities = append(d.Identities, i)
				t.add("identity/"+i.Agent+"/"+i.Instance, i.Agent, i.Instance, i.state(c.now()), i.NotAfter.UTC().Format(time.RFC3339), i.Proof, i.Namespace, i.Serial)
			}
			for _, r := range resp.Msg.GetRevocations() {
				d.Revocations = append(d.Revocations, toRevocation(r))
			}
			return c.print(out, d, t)
		},
	}
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "of every namespace")
	out.bind(cmd)
	return cmd
}

func (d identityDoc) state(now time.Time) string {
	switch {
	case d.Revoked:
		return "revoked"
	case now.After(d.NotAfter):
		return "expired"
	}
	return "valid"
}

func (c *cli) identityRevokeCmd() *cobra.Command {
	var out output
	var yes bool
	var message string
	cmd := &cobra.Command{
		Use: "revoke AGENT[/INSTANCE]", Short: "End the certificates of an agent or of one instance; asks first",
		Long:    "Streams that show them are cut at once, and nothing is opened or renewed with them any more. An instance comes back with a new join token. It goes on serving its last good config until it is stopped.",
		Example: "  agentctl identity revoke mse-nacos-helper/a1b2c3 --message 'host was compromised'", Args: args(1, 1),
		ValidArgsFunction: c.completer(kindAgent),
		RunE: func(cmd *cobra.Command, names []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			agent, instance, one := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(names[0], "identity/"), "agent/"), "/")
			if one && instance == "" { // not a way to say all of them
				return usagef("%q: no instance behind the /", names[0])
			}
			what := "all instances of agent " + agent
			if instance != "" {
				what = "instance " + instance + " of agent " + agent
			}
			if err := c.confirm(yes, "End the certificates of "+what+"?"); err != nil {
				return err
			}
			resp, err := cl.identity.Revoke(cmd.Context(), connect.NewRequest(&identityv1.RevokeRequest{Namespace: cl.namespace, Agent: agent, Instance: instance, Message: message}))
			if err != nil {
				return err
			}
			if out.machine() {
				return printDoc(c.env.Stdout, out, toRevocation(resp.Msg.GetRevocation()))
			}
			return c.did(out, "identity/"+agent+strings.TrimSuffix("/"+instance, "/"), fmt.Sprintf("revoked (%d known certificates)", resp.Msg.GetCertificates()))
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	cmd.Flags().StringVar(&message, "message", "", "why; kept in the audit log")
	out.bind(cmd)
	return cmd
}
