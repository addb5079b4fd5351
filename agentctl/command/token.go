package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
)

// tokenDoc is an API token or a session. Secret is set by create alone.
type tokenDoc struct {
	ID       string     `json:"id"`
	Name     string     `json:"name"`
	Kind     string     `json:"kind"`
	Owner    string     `json:"owner"`
	Scopes   []string   `json:"scopes"`
	Created  time.Time  `json:"created"`
	Expires  time.Time  `json:"expires"`
	LastUsed *time.Time `json:"lastUsed"`
	Secret   string     `json:"secret,omitempty"`
}

func toToken(t *accessv1.Token) tokenDoc {
	d := tokenDoc{
		ID: t.GetId(), Name: t.GetName(), Kind: t.GetKind(), Owner: t.GetOwner(), Scopes: []string{},
		Created: timeOf(t.GetCreated()), Expires: timeOf(t.GetExpires()),
	}
	for _, s := range t.GetScopes() {
		d.Scopes = append(d.Scopes, s.GetRole()+"@"+first(s.GetNamespace(), "*"))
	}
	if t.GetLastUsed() != nil {
		used := timeOf(t.GetLastUsed())
		d.LastUsed = &used
	}
	return d
}

func (c *cli) tokenCmd() *cobra.Command {
	return group("token", "API tokens, for scripts and for CI",
		"  agentctl token create ci --scope editor@team-a --ttl 720h\n  agentctl token list\n  agentctl token revoke ci",
		c.tokenCreateCmd(), c.tokenListCmd(), c.tokenRevokeCmd())
}

func (c *cli) tokenCreateCmd() *cobra.Command {
	var out output
	var scopes []string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make an API token and print it, this once",
		Long:    "The token may do what you may, and of that only what --scope leaves. It is printed once and kept nowhere: the control plane has its hash.",
		Example: "  agentctl token create ci --scope editor@team-a\n  agentctl token create ci -q > token   # the secret alone", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, names []string) error {
			if ttl < 0 {
				return usagef("--ttl %s: a token counts from now on", ttl)
			}
			req := &accessv1.CreateTokenRequest{Name: names[0]}
			for _, text := range scopes {
				role, namespace, _ := strings.Cut(text, "@")
				if role == "" {
					return usagef("--scope %q: ROLE or ROLE@NAMESPACE", text)
				}
				if namespace == "*" {
					namespace = ""
				}
				req.Scopes = append(req.Scopes, &accessv1.Scope{Role: role, Namespace: namespace})
			}
			if ttl != 0 {
				req.Ttl = durationpb.New(ttl)
			}
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			resp, err := cl.access.CreateToken(cmd.Context(), connect.NewRequest(req))
			if err != nil {
				return err
			}
			d := toToken(resp.Msg.GetToken())
			d.Secret = resp.Msg.GetSecret()
			if out.machine() {
				return printDoc(c.env.Stdout, out, d)
			}
			if !c.flags.quiet {
				c.note("token %s (%s) counts until %s. This is the only time that it is shown:", d.Name, d.ID, d.Expires.Format(time.RFC3339))
			}
			_, err = fmt.Fprintln(c.env.Stdout, d.Secret)
			return err
		},
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.Flags().StringArrayVar(&scopes, "scope", nil, "bound it to ROLE, or to ROLE@NAMESPACE; may be repeated")
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long it counts, at most 2160h; default 2160h (90 days)")
	_ = cmd.RegisterFlagCompletionFunc("scope", c.completeRoles(false))
	out.bind(cmd)
	return cmd
}

func (c *cli) tokenListCmd() *cobra.Command {
	var out output
	var all bool
	cmd := &cobra.Command{
		Use: "list", Short: "Your tokens and sessions", Example: "  agentctl token list\n  agentctl token list --all", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			resp, err := cl.access.ListTokens(cmd.Context(), connect.NewRequest(&accessv1.ListTokensRequest{All: all}))
			if err != nil {
				return err
			}
			docs := []tokenDoc{}
			t := table{head: []string{"NAME", "ID", "KIND", "OWNER", "SCOPES", "EXPIRES", "LAST USED"}, empty: "No tokens. Make one: agentctl token create NAME"}
			for _, x := range resp.Msg.GetTokens() {
				d := toToken(x)
				docs = append(docs, d)
				used := "never"
				if d.LastUsed != nil {
					used = c.ago(*d.LastUsed)
				}
				t.add("token/"+d.ID, dash(d.Name), d.ID, d.Kind, d.Owner, dash(strings.Join(d.Scopes, ",")), c.until(d.Expires), used)
			}
			return c.print(out, docs, t)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "everybody's (needs access.read on the installation)")
	out.bind(cmd)
	return cmd
}

func (c *cli) tokenRevokeCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "revoke NAME|ID", Short: "End a token: it counts no more, on any replica", Example: "  agentctl token revoke ci", Args: args(1, 1),
		ValidArgsFunction: c.completeTokens(),
		RunE: func(cmd *cobra.Command, names []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			resp, err := cl.access.RevokeToken(cmd.Context(), connect.NewRequest(&accessv1.RevokeTokenRequest{Token: strings.TrimPrefix(names[0], "token/")}))
			if err != nil {
				return err
			}
			d := toToken(resp.Msg.GetToken())
			if out.machine() {
				return printDoc(c.env.Stdout, out, d)
			}
			return c.did(out, "token/"+d.ID, "revoked")
		},
	}
	out.bind(cmd)
	return cmd
}

// completeTokens completes the names of the caller's tokens.
func (c *cli) completeTokens() cobra.CompletionFunc {
	return c.completeNames(func(ctx context.Context, cl *client) (names []string) {
		resp, err := cl.access.ListTokens(ctx, connect.NewRequest(&accessv1.ListTokensRequest{}))
		if err == nil {
			for _, t := range resp.Msg.GetTokens() {
				names = append(names, first(t.GetName(), t.GetId()))
			}
		}
		return names
	})
}

// did says in one line what became of an object.
func (c *cli) did(out output, name, what string) error {
	line := name + " " + what
	if out == "name" || c.flags.quiet {
		line = name
	}
	_, err := fmt.Fprintln(c.env.Stdout, oneLine(line))
	return err
}
