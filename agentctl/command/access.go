package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
)

// callerDoc is who is calling.
type callerDoc struct {
	Name     string       `json:"name"`
	Kind     string       `json:"kind"`
	Groups   []string     `json:"groups"`
	Admin    bool         `json:"admin"`
	Expires  *time.Time   `json:"expires"`
	Bindings []bindingDoc `json:"bindings"`
}

func (c *cli) whoAmICmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "whoami", Short: "Who the control plane takes you for, and what you may", Example: "  agentctl whoami\n  agentctl whoami -o json", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			resp, err := cl.access.WhoAmI(cmd.Context(), connect.NewRequest(&accessv1.WhoAmIRequest{}))
			if err != nil {
				return err
			}
			who := resp.Msg.GetCaller()
			d := callerDoc{Name: who.GetName(), Kind: who.GetKind(), Groups: list(who.GetGroups()), Admin: who.GetAdmin(), Bindings: []bindingDoc{}}
			if who.GetExpires() != nil {
				t := timeOf(who.GetExpires())
				d.Expires = &t
			}
			for _, b := range resp.Msg.GetBindings() {
				d.Bindings = append(d.Bindings, toBinding(b))
			}
			if out.machine() {
				return printDoc(c.env.Stdout, out, d)
			}
			return c.showCaller(out, d)
		},
	}
	out.bind(cmd)
	return cmd
}

func (c *cli) showCaller(out output, d callerDoc) error {
	_, _ = fmt.Fprintln(c.env.Stdout, oneLine(d.Name))
	if out == "name" || c.flags.quiet {
		return nil
	}
	if len(d.Groups) > 0 {
		_, _ = fmt.Fprintf(c.env.Stdout, "groups: %s\n", oneLine(strings.Join(d.Groups, ", ")))
	}
	if d.Expires != nil {
		_, _ = fmt.Fprintf(c.env.Stdout, "until: %s\n", d.Expires.Format(time.RFC3339))
	}
	if d.Admin {
		_, err := fmt.Fprintln(c.env.Stdout, "administrator: may do everything everywhere")
		return err
	}
	if len(d.Bindings) == 0 {
		if d.Kind == "token" { // its bindings name it by its id; without any it has its owner's rights
			c.note("No binding names this token: it may what its owner may, within its scopes. agentctl token list shows those; agentctl can-i asks about one thing")
			return nil
		}
		c.note("No binding names you: you may do nothing yet. An administrator makes one: agentctl binding set NAME --role viewer --subject %s", d.Name)
		return nil
	}
	_, _ = fmt.Fprintln(c.env.Stdout)
	return c.print("", nil, bindingTable(d.Bindings))
}

// canIDoc is the answer to can-i.
type canIDoc struct {
	Allowed    bool   `json:"allowed"`
	Permission string `json:"permission"`
	Namespace  string `json:"namespace"`
	Object     string `json:"object"`
	Reason     string `json:"reason"`
}

func (c *cli) canICmd() *cobra.Command {
	var out output
	var all bool
	cmd := &cobra.Command{
		Use: "can-i VERB [KIND[/NAME] | KIND NAME]", Short: `Whether you may; "no" is exit code 1`,
		Long:    "VERB is a permission, such as spec.write, or a verb of agentctl: get, apply, delete, rollback, ... Without KIND the whole namespace is meant, without /NAME every object of the kind.",
		Example: "  agentctl can-i apply agent/mse-nacos-helper\n  agentctl can-i credential.use credential/weather-key -n team-a\n  agentctl can-i get agent mse-nacos-helper\n  agentctl can-i get prompt -q && echo yes\n  agentctl can-i access.write -A", Args: args(1, 3),
		ValidArgsFunction: c.completeCanI,
		RunE: func(cmd *cobra.Command, words []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			d := canIDoc{Permission: words[0], Namespace: cl.namespace}
			if all {
				d.Namespace = "*"
			}
			req := &accessv1.CanIRequest{Permission: words[0], Namespace: d.Namespace}
			if len(words) == 3 { // as people write get: can-i get agent NAME
				words = []string{words[0], words[1] + "/" + words[2]}
			}
			if len(words) == 2 {
				if req.Kind, req.Name, err = kindAndName(words[1]); err != nil {
					return err
				}
				d.Object = strings.TrimSuffix(req.GetKind()+"/"+req.GetName(), "/")
			}
			resp, err := cl.access.CanI(cmd.Context(), connect.NewRequest(req))
			if err != nil {
				return err
			}
			d.Allowed, d.Reason = resp.Msg.GetAllowed(), resp.Msg.GetReason()
			if out.machine() {
				if err := printDoc(c.env.Stdout, out, d); err != nil {
					return err
				}
			} else {
				c.sayCanI(d)
			}
			if !d.Allowed {
				return answered(exitNo)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "in every namespace, and on the installation itself")
	out.bind(cmd)
	return cmd
}

func (c *cli) completeCanI(cmd *cobra.Command, words []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(words) > 0 {
		return c.completer("")(cmd, words[1:], typed)
	}
	return c.completeNames(func(ctx context.Context, cl *client) (names []string) {
		resp, err := cl.access.ListPermissions(ctx, connect.NewRequest(&accessv1.ListPermissionsRequest{}))
		if err == nil {
			for _, p := range resp.Msg.GetPermissions() {
				names = append(names, p.GetName())
			}
		}
		return names
	})(cmd, words, typed)
}

func (c *cli) sayCanI(d canIDoc) {
	if c.flags.quiet {
		return
	}
	word := "no"
	if d.Allowed {
		word = "yes"
	}
	_, _ = fmt.Fprintln(c.env.Stdout, word)
	if d.Reason != "" {
		c.note("%s", d.Reason)
	}
}

// kindAndName reads KIND or KIND/NAME; kinds may be shortened.
func kindAndName(text string) (kind, name string, err error) {
	word, name, named := strings.Cut(text, "/")
	if kind, err = parseKind(word); err != nil {
		return "", "", err
	}
	if named && name == "" {
		return "", "", usagef("%q: no name behind the /", text)
	}
	return kind, name, nil
}
