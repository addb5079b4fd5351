package command

import (
	"context"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
)

// bindingDoc gives a role to subjects somewhere.
type bindingDoc struct {
	Name      string   `json:"name"`
	Namespace string   `json:"namespace"`
	Role      string   `json:"role"`
	Subjects  []string `json:"subjects"`
	Kind      string   `json:"kind"`
	Object    string   `json:"object"`
	Selector  []string `json:"selector"`
	Condition string   `json:"condition"`
}

func toBinding(b *accessv1.Binding) bindingDoc {
	return bindingDoc{
		Name: b.GetName(), Namespace: b.GetNamespace(), Role: b.GetRole(), Subjects: list(b.GetSubjects()), Kind: b.GetKind(),
		Object: b.GetObject(), Selector: list(b.GetSelector()), Condition: b.GetCondition(),
	}
}

// on says what a binding is on, as people write it.
func (d bindingDoc) on() string {
	text := "everything"
	switch {
	case d.Object != "":
		text = d.Kind + "/" + d.Object
	case d.Kind != "":
		text = "every " + d.Kind
	}
	if len(d.Selector) > 0 {
		text += " with " + strings.Join(d.Selector, ",")
	}
	return text
}

func bindingTable(docs []bindingDoc) table {
	t := table{head: []string{"NAME", "NAMESPACE", "ROLE", "ON", "SUBJECTS", "CONDITION"}, empty: "No bindings. Make one: agentctl binding set NAME --role viewer --subject user:NAME"}
	for _, d := range docs {
		t.add("binding/"+d.Name, d.Name, d.Namespace, d.Role, d.on(), strings.Join(d.Subjects, ","), dash(d.Condition))
	}
	return t
}

func (c *cli) bindingCmd() *cobra.Command {
	return group("binding", "Bindings: who has which role on what",
		"  agentctl binding set team-a --role editor --subject group:team-a -n team-a\n  agentctl binding set weather-owner --role editor --subject user:ada@example.org --on agent/weather\n  agentctl binding list -A",
		c.bindingListCmd(), c.bindingSetCmd(), c.bindingDeleteCmd())
}

func (c *cli) bindingListCmd() *cobra.Command {
	var out output
	var all bool
	cmd := &cobra.Command{
		Use: "list", Short: "The bindings of a namespace", Example: "  agentctl binding list\n  agentctl binding list -A -o json", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			resp, err := cl.access.ListBindings(cmd.Context(), connect.NewRequest(&accessv1.ListBindingsRequest{Namespace: cl.namespace, AllNamespaces: all}))
			if err != nil {
				return err
			}
			docs := []bindingDoc{}
			for _, b := range resp.Msg.GetBindings() {
				docs = append(docs, toBinding(b))
			}
			return c.print(out, docs, bindingTable(docs))
		},
	}
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "of every namespace")
	out.bind(cmd)
	return cmd
}

func (c *cli) bindingSetCmd() *cobra.Command {
	var out output
	b := &accessv1.Binding{}
	var on, message string
	var all bool
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Give a role to users, groups or tokens",
		Example: "  agentctl binding set team-a --role editor --subject group:team-a -n team-a\n  agentctl binding set weather-owner --role editor --subject user:ada@example.org --on agent/weather\n" +
			"  agentctl binding set web-team --role operator --subject group:web --on agent --selector team=web\n  agentctl binding set admins --role admin --subject group:platform --all-namespaces",
		Args: args(1, 1), ValidArgsFunction: c.completeBindings(),
		RunE: func(cmd *cobra.Command, names []string) error {
			if b.GetRole() == "" || len(b.GetSubjects()) == 0 {
				return usagef("a binding needs --role and at least one --subject")
			}
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			b.Name, b.Namespace = names[0], cl.namespace
			if all {
				b.Namespace = "*"
			}
			if on != "" {
				if b.Kind, b.Object, err = kindAndName(on); err != nil {
					return err
				}
			}
			resp, err := cl.access.SetBinding(cmd.Context(), connect.NewRequest(&accessv1.SetBindingRequest{Namespace: b.GetNamespace(), Binding: b, Message: message}))
			if err != nil {
				return err
			}
			d := toBinding(resp.Msg.GetBinding())
			if out.machine() {
				return printDoc(c.env.Stdout, out, d)
			}
			return c.did(out, "binding/"+d.Name, "set: "+strings.Join(d.Subjects, ", ")+" may be "+d.Role+" on "+d.on()+" of "+place(d.Namespace))
		},
	}
	f := cmd.Flags()
	f.StringVar(&b.Role, "role", "", "the role (see agentctl role list)")
	f.StringSliceVar(&b.Subjects, "subject", nil, "user:NAME, group:NAME or token:ID; several by comma or repeated")
	f.StringVar(&on, "on", "", "KIND, KIND/NAME or KIND/PREFIX*; default: everything in the namespace")
	f.StringSliceVarP(&b.Selector, "selector", "l", nil, "key=value labels that the object must have; with --on KIND")
	f.StringVar(&b.Condition, "condition", "", "a CEL expression over principal, request and object that must be true")
	f.BoolVarP(&all, "all-namespaces", "A", false, "in every namespace")
	f.StringVar(&message, "message", "", "why; kept in the audit log")
	_ = cmd.RegisterFlagCompletionFunc("role", c.completeRoles(false))
	_ = cmd.RegisterFlagCompletionFunc("on", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return c.completer("")(cmd, nil, typed)
	})
	out.bind(cmd)
	return cmd
}

func place(namespace string) string {
	if namespace == "*" {
		return "every namespace"
	}
	return "namespace " + namespace
}

func (c *cli) bindingDeleteCmd() *cobra.Command {
	var yes, all bool
	var message string
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Take a binding away, at once and in running watches too; asks first", Example: "  agentctl binding delete team-a -n team-a --yes", Args: args(1, 1),
		ValidArgsFunction: c.completeBindings(),
		RunE: func(cmd *cobra.Command, names []string) error {
			name := strings.TrimPrefix(names[0], "binding/")
			cl, err := c.connect()
			if err != nil {
				return err
			}
			namespace := cl.namespace
			if all {
				namespace = "*"
			}
			if err := c.confirm(yes, "Delete binding "+name+" of "+place(namespace)+"?"); err != nil {
				return err
			}
			if _, err := cl.access.DeleteBinding(cmd.Context(), connect.NewRequest(&accessv1.DeleteBindingRequest{Namespace: namespace, Name: name, Message: message})); err != nil {
				return err
			}
			return c.did("", "binding/"+name, "deleted")
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "one that is on every namespace")
	cmd.Flags().StringVar(&message, "message", "", "why; kept in the audit log")
	return cmd
}

func (c *cli) completeBindings() cobra.CompletionFunc {
	return c.completeNames(func(ctx context.Context, cl *client) (names []string) {
		resp, err := cl.access.ListBindings(ctx, connect.NewRequest(&accessv1.ListBindingsRequest{Namespace: cl.namespace}))
		if err == nil {
			for _, b := range resp.Msg.GetBindings() {
				names = append(names, b.GetName())
			}
		}
		return names
	})
}
