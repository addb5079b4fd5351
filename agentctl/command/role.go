package command

import (
	"context"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
)

// roleDoc is a role.
type roleDoc struct {
	Name        string   `json:"name"`
	Permissions []string `json:"permissions"`
	BuiltIn     bool     `json:"builtIn"`
	Description string   `json:"description"`
}

func toRole(r *accessv1.Role) roleDoc {
	return roleDoc{Name: r.GetName(), Permissions: list(r.GetPermissions()), BuiltIn: r.GetBuiltIn(), Description: r.GetDescription()}
}

func (c *cli) roleCmd() *cobra.Command {
	return group("role", "Roles: sets of permissions", "  agentctl role list\n  agentctl role permissions\n  agentctl role set labeller --permission spec.read --permission prompt.label",
		c.roleListCmd(), c.permissionsCmd(), c.roleSetCmd(), c.roleDeleteCmd())
}

func (c *cli) roleListCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "list", Short: "The built-in roles and your own", Example: "  agentctl role list\n  agentctl role list -o wide", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			resp, err := cl.access.ListRoles(cmd.Context(), connect.NewRequest(&accessv1.ListRolesRequest{}))
			if err != nil {
				return err
			}
			docs := []roleDoc{}
			t := table{head: []string{"NAME", "BUILT-IN", "PERMISSIONS", "DESCRIPTION"}, from: 3}
			for _, r := range resp.Msg.GetRoles() {
				d := toRole(r)
				docs = append(docs, d)
				built := "no"
				if d.BuiltIn {
					built = "yes"
				}
				t.add("role/"+d.Name, d.Name, built, strings.Join(d.Permissions, ","), dash(d.Description))
			}
			return c.print(out, docs, t)
		},
	}
	out.bind(cmd)
	return cmd
}

// permissionDoc is one permission.
type permissionDoc struct {
	Name    string   `json:"name"`
	Roles   []string `json:"roles"`
	Methods []string `json:"methods"`
}

func (c *cli) permissionsCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "permissions", Short: "Every permission, which roles hold it and what asks for it", Example: "  agentctl role permissions -o wide", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			resp, err := cl.access.ListPermissions(cmd.Context(), connect.NewRequest(&accessv1.ListPermissionsRequest{}))
			if err != nil {
				return err
			}
			docs := []permissionDoc{}
			t := table{head: []string{"PERMISSION", "ROLES", "METHODS"}, from: 2}
			for _, p := range resp.Msg.GetPermissions() {
				d := permissionDoc{Name: p.GetName(), Roles: list(p.GetRoles()), Methods: list(p.GetMethods())}
				docs = append(docs, d)
				t.add(d.Name, d.Name, dash(strings.Join(d.Roles, ",")), strings.Join(d.Methods, ","))
			}
			return c.print(out, docs, t)
		},
	}
	out.bind(cmd)
	return cmd
}

func (c *cli) roleSetCmd() *cobra.Command {
	var out output
	var permissions []string
	var description, message string
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Make or change a role", Example: "  agentctl role set labeller --permission spec.read --permission prompt.label --description 'moves labels'", Args: args(1, 1),
		ValidArgsFunction: c.completeOwnRoles(),
		RunE: func(cmd *cobra.Command, names []string) error {
			if len(permissions) == 0 {
				return usagef("a role without a permission gives nothing: name at least one --permission (see agentctl role permissions)")
			}
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			resp, err := cl.access.SetRole(cmd.Context(), connect.NewRequest(&accessv1.SetRoleRequest{
				Role: &accessv1.Role{Name: names[0], Permissions: permissions, Description: description}, Message: message,
			}))
			if err != nil {
				return err
			}
			d := toRole(resp.Msg.GetRole())
			if out.machine() {
				return printDoc(c.env.Stdout, out, d)
			}
			return c.did(out, "role/"+d.Name, "set: "+strings.Join(d.Permissions, ", "))
		},
	}
	cmd.Flags().StringSliceVar(&permissions, "permission", nil, "what it may; several by comma or repeated. spec.* is all of spec")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.Flags().StringVar(&message, "message", "", "why; kept in the audit log")
	out.bind(cmd)
	return cmd
}

func (c *cli) roleDeleteCmd() *cobra.Command {
	var yes bool
	var message string
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a role that no binding names; asks first", Example: "  agentctl role delete labeller --yes", Args: args(1, 1),
		ValidArgsFunction: c.completeOwnRoles(),
		RunE: func(cmd *cobra.Command, names []string) error {
			name := strings.TrimPrefix(names[0], "role/")
			cl, err := c.connect()
			if err != nil {
				return err
			}
			if err := c.confirm(yes, "Delete role "+name+"?"); err != nil {
				return err
			}
			if _, err := cl.access.DeleteRole(cmd.Context(), connect.NewRequest(&accessv1.DeleteRoleRequest{Name: name, Message: message})); err != nil {
				return err
			}
			return c.did("", "role/"+name, "deleted")
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	cmd.Flags().StringVar(&message, "message", "", "why; kept in the audit log")
	return cmd
}

// completeRoles completes the names of roles, of the installation's own alone or of all.
func (c *cli) completeRoles(own bool) cobra.CompletionFunc {
	ask := c.completeNames(func(ctx context.Context, cl *client) (names []string) {
		resp, err := cl.access.ListRoles(ctx, connect.NewRequest(&accessv1.ListRolesRequest{}))
		if err == nil {
			for _, r := range resp.Msg.GetRoles() {
				if !own || !r.GetBuiltIn() {
					names = append(names, r.GetName())
				}
			}
		}
		return names
	})
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return ask(cmd, nil, typed)
	}
}

// completeOwnRoles completes one argument with the installation's own roles.
func (c *cli) completeOwnRoles() cobra.CompletionFunc {
	return func(cmd *cobra.Command, words []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(words) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return c.completeRoles(true)(cmd, words, typed)
	}
}
