package command

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/specfile"
)

// validDoc is what validate found.
type validDoc struct {
	Faults []fileFaultDoc `json:"faults"`
	Notes  []string       `json:"notes"`
}

func (c *cli) validateCmd() *cobra.Command {
	var out output
	var names []string
	var partial bool
	cmd := &cobra.Command{
		Use: "validate -f FILE|DIR|-", Short: "Check files without a server: fields, ranges and references within the set",
		Example: "  agentctl validate -f examples/nacos-helper\n  agentctl validate -f my-agent --partial -o json",
		Long: `Checks what can be checked offline: syntax, fields, ranges, and that what the files refer to is among them. With --partial a
reference to something that isn't among them is a warning: it may be on the server. Warns of literal secrets and of what looks like one.`,
		Args: args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if len(names) == 0 {
				return failf(exitUsage, "agentctl validate -f DIR", "nothing to validate: -f is missing")
			}
			set, err := c.readFiles(names)
			if err != nil {
				return err
			}
			return c.validate(out, set, partial)
		},
	}
	bindFiles(cmd, &names)
	cmd.Flags().BoolVar(&partial, "partial", false, "what the files refer to may be on the server")
	out.bind(cmd)
	return cmd
}

func (c *cli) validate(out output, set fileSet, partial bool) error {
	parsed, faults := specfile.Parse(set.files)
	missing := references(parsed)
	var notes []string
	if partial {
		for _, f := range missing {
			notes = append(notes, set.line(f))
		}
	} else {
		faults = append(faults, missing...)
	}
	for _, n := range append(parsed.Notes, specfile.Suspicious(parsed)...) {
		n.File = set.show(n.File)
		notes = append(notes, n.String())
	}
	for _, f := range literals(parsed) {
		notes = append(notes, set.line(f))
	}
	if out.machine() {
		if err := printDoc(c.env.Stdout, out, validDoc{Faults: set.faultDocs(faults), Notes: append([]string{}, notes...)}); err != nil {
			return err
		}
		if len(faults) > 0 {
			return answered(exitData)
		}
		return nil
	}
	for _, n := range notes {
		c.note("warning: %s", n)
	}
	if len(faults) > 0 {
		return c.refuse(out, set, faults, "")
	}
	if c.flags.quiet {
		return nil
	}
	_, err := fmt.Fprintf(c.env.Stdout, "valid: %d agent(s), %d prompt(s), %d MCP entr(ies), %d credential(s) in %d file(s)\n",
		len(parsed.Agents), len(parsed.Prompts), len(parsed.MCPServers), len(parsed.Credentials), len(set.files))
	return err
}

// references gives a fault for everything that an agent names and the set doesn't hold.
func references(set *specfile.Set) []spec.Fault {
	known := map[string]map[string]bool{kindPrompt: {}, kindMCP: {}, kindCredential: {}}
	for _, p := range set.Prompts {
		known[kindPrompt][p.Spec.PromptKey] = true
		known[kindPrompt][p.Spec.PromptKey+"@"+p.Spec.Version] = true
	}
	for _, m := range set.MCPServers {
		known[kindMCP][m.Spec.Name] = true
		known[kindMCP][m.Spec.Name+"@"+m.Spec.Version] = true
	}
	for _, cr := range set.Credentials {
		known[kindCredential][cr.Name] = true
	}
	var out []spec.Fault
	for _, a := range set.Agents {
		for _, r := range a.Spec.References() {
			names := known[r.Kind]
			whole := strings.TrimSuffix(r.Name+"@"+r.Version, "@")
			if names == nil || names[whole] {
				continue // a partner may come later
			}
			hint := "is it on the server? then --partial"
			if near, ok := spec.Nearest(whole, slices.Sorted(maps.Keys(names))); ok {
				hint = "did you mean " + near + "?"
			}
			out = append(out, a.Fault(r.Path, fmt.Sprintf("no %s %q among these files", r.Kind, whole), hint))
		}
	}
	return out
}

// literals warns of each secret that stands in a file.
func literals(set *specfile.Set) []spec.Fault {
	open := map[string]bool{} // parameters that an MCP entry of the set declares to be no secret
	for _, m := range set.MCPServers {
		if m.Spec.Parameters == nil {
			continue
		}
		for section, params := range map[string]map[string]spec.Parameter{"headers": m.Spec.Parameters.Headers, "queryParams": m.Spec.Parameters.QueryParams} {
			for name, p := range params {
				open[strings.ToLower(m.Spec.Name+"\x00"+section+"\x00"+name)] = !p.Secret
			}
		}
	}
	var out []spec.Fault
	for _, a := range set.Agents {
		for _, l := range specfile.Literals(&a.Spec) {
			if l.Server != "" && open[strings.ToLower(l.Server+"\x00"+l.Section+"\x00"+l.Parameter)] {
				continue
			}
			out = append(out, a.Fault(l.Path, "a literal secret; apply stores it as credential "+l.CredentialName, "write {\"credentialRef\": \""+l.CredentialName+"\"} in files that are shared"))
		}
	}
	return out
}
