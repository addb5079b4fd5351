package command

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) promptCmd() *cobra.Command {
	return group("prompt", "Prompts and their labels", "  agentctl prompt list\n  agentctl prompt show mse-nacos-helper@3.0.11\n  agentctl prompt label set mse-nacos-helper prod 3.0.12",
		c.listKindCmd(kindPrompt), c.showKindCmd(kindPrompt), c.labelCmd())
}

// listKindCmd is get of one kind.
func (c *cli) listKindCmd(kind string) *cobra.Command {
	var g getting
	cmd := &cobra.Command{
		Use: "list", Short: "What is stored", Example: "  agentctl " + kind + " list\n  agentctl " + kind + " list -o json", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.get(cmd.Context(), &g, kind, nil) },
	}
	g.bind(cmd)
	return cmd
}

// showKindCmd shows one thing as people read it: of a prompt the template, of others the JSON.
func (c *cli) showKindCmd(kind string) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "show NAME[@VERSION]", Short: "One of them, by default as it counts now", Example: "  agentctl " + kind + " show NAME\n  agentctl " + kind + " show NAME@1.2.0 -o json",
		Args: args(1, 1), ValidArgsFunction: c.completer(kind),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := out.check(); err != nil {
				return err
			}
			r, err := parseRef(kind+"/"+names[0], "")
			if err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			o, err := cl.object(cmd.Context(), r)
			if err != nil {
				return err
			}
			d := toObject(o)
			if out.machine() || out == "name" || c.flags.quiet {
				return c.print(out, d, c.objectTable(kind, cl.namespace, false, []objectDoc{d}))
			}
			return c.show(d)
		},
	}
	out.bind(cmd)
	return cmd
}

func (c *cli) show(d objectDoc) error {
	c.headOf(d)
	var p struct {
		Template  string          `json:"template"`
		Variables json.RawMessage `json:"variables"`
	}
	if d.Kind == kindPrompt && json.Unmarshal(d.Spec, &p) == nil && p.Template != "" {
		if p.Variables != nil {
			_, _ = fmt.Fprintf(c.env.Stdout, "variables: %s\n", p.Variables)
		}
		_, err := fmt.Fprintf(c.env.Stdout, "\n%s\n", p.Template)
		return err
	}
	return c.specOf(d)
}

// headOf prints the line that says which thing this is.
func (c *cli) headOf(d objectDoc) {
	which := "version " + first(d.Version, itoa(d.Revision))
	if d.Kind == kindAgent {
		which = "revision " + itoa(d.Revision)
	}
	_, _ = fmt.Fprintf(c.env.Stdout, "%s/%s, %s, written %s by %s\n", d.Kind, d.Name, which, c.ago(d.Updated), dash(d.UpdatedBy))
	if len(d.Labels) > 0 {
		_, _ = fmt.Fprintf(c.env.Stdout, "labels: %v\n", d.Labels)
	}
}

func (c *cli) specOf(d objectDoc) error {
	if d.Spec == nil {
		return nil
	}
	var b bytes.Buffer
	if err := json.Indent(&b, d.Spec, "", "  "); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.env.Stdout, "%s\n", b.Bytes())
	return err
}
