package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// contextEntry is one server with the way to it.
type contextEntry struct {
	Name      string `yaml:"name" json:"name"`
	Server    string `yaml:"server,omitempty" json:"server"`
	Namespace string `yaml:"namespace,omitempty" json:"namespace"`
	TokenFile string `yaml:"tokenFile,omitempty" json:"tokenFile"`
	CAFile    string `yaml:"caFile,omitempty" json:"caFile"`
}

// contextFile is ~/.config/agentctl/config.yaml.
type contextFile struct {
	Current  string         `yaml:"current,omitempty" json:"current"`
	Contexts []contextEntry `yaml:"contexts" json:"contexts"`
}

func (f *contextFile) find(name string) *contextEntry {
	for i := range f.Contexts {
		if f.Contexts[i].Name == name {
			return &f.Contexts[i]
		}
	}
	return nil
}

func (c *cli) contextPath() string {
	base := first(c.env.Getenv("XDG_CONFIG_HOME"), filepath.Join(c.env.Getenv("HOME"), ".config"))
	return filepath.Join(base, "agentctl", "config.yaml")
}

func (c *cli) readContexts() (contextFile, error) {
	var f contextFile
	path := c.contextPath()
	b, err := os.ReadFile(filepath.Clean(path))
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	if err := yaml.UnmarshalWithOptions(b, &f, yaml.DisallowUnknownField()); err != nil {
		return f, failf(exitData, "mend it or remove it", "%s: %s", path, yaml.FormatError(err, false, true))
	}
	return f, nil
}

// writeContexts replaces the file whole: a reader sees the old or the new one.
func (c *cli) writeContexts(f contextFile) error {
	path := c.contextPath()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	b, err := yaml.Marshal(f)
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// currentContext gives the context to use; the zero one where none is chosen.
func (c *cli) currentContext() (contextEntry, error) {
	f, err := c.readContexts()
	if err != nil {
		return contextEntry{}, err
	}
	name := first(c.flags.context, c.env.Getenv("AGENTCTL_CONTEXT"), f.Current)
	if name == "" {
		return contextEntry{}, nil
	}
	e := f.find(name)
	if e == nil {
		return contextEntry{}, failf(exitUsage, "see agentctl context list", "no context %q in %s", name, c.contextPath())
	}
	return *e, nil
}

func (c *cli) contextCmd() *cobra.Command {
	return group("context", "Servers to talk to, by name",
		"  agentctl context set dev --server http://127.0.0.1:7700\n  agentctl context use dev",
		c.contextListCmd(), c.contextUseCmd(), c.contextSetCmd(), c.contextDeleteCmd(), c.contextCurrentCmd())
}

func (c *cli) contextListCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "list", Short: "The contexts", Example: "  agentctl context list", Args: args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			f, err := c.readContexts()
			if err != nil {
				return err
			}
			if f.Contexts == nil {
				f.Contexts = []contextEntry{}
			}
			t := table{head: []string{"CURRENT", "NAME", "SERVER", "NAMESPACE"}, empty: "No contexts. Make one: agentctl context set NAME --server URL"}
			for _, e := range f.Contexts {
				mark := ""
				if e.Name == f.Current {
					mark = "*"
				}
				t.add(e.Name, mark, e.Name, e.Server, first(e.Namespace, "default"))
			}
			return c.print(out, f, t)
		},
	}
	out.bind(cmd)
	return cmd
}

func (c *cli) contextUseCmd() *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Make a context the current one", Example: "  agentctl context use dev", Args: args(1, 1),
		ValidArgsFunction: c.completeContexts,
		RunE: func(_ *cobra.Command, names []string) error {
			return c.editContexts(func(f *contextFile) error {
				if f.find(names[0]) == nil {
					return failf(exitNotFound, "see agentctl context list", "no context %q", names[0])
				}
				f.Current = names[0]
				return nil
			})
		},
	}
}

func (c *cli) contextSetCmd() *cobra.Command {
	return &cobra.Command{
		Use: "set NAME", Short: "Make or change a context, by --server, --namespace, --token-file and --ca-file; the first becomes current",
		Example: "  agentctl context set dev --server http://127.0.0.1:7700 --token-file ~/.local/state/agentry/token", Args: args(1, 1),
		RunE: func(_ *cobra.Command, names []string) error {
			return c.editContexts(func(f *contextFile) error {
				e := f.find(names[0])
				if e == nil {
					f.Contexts = append(f.Contexts, contextEntry{Name: names[0]})
					e = &f.Contexts[len(f.Contexts)-1]
				}
				e.Server = first(c.flags.server, e.Server, defaultServer)
				e.Namespace = first(c.flags.namespace, e.Namespace)
				e.TokenFile = first(c.flags.tokenFile, e.TokenFile)
				e.CAFile = first(c.flags.caFile, e.CAFile)
				f.Current = first(f.Current, names[0])
				return nil
			})
		},
	}
}

func (c *cli) contextDeleteCmd() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Forget a context", Example: "  agentctl context delete dev", Args: args(1, 1),
		ValidArgsFunction: c.completeContexts,
		RunE: func(_ *cobra.Command, names []string) error {
			return c.editContexts(func(f *contextFile) error {
				if f.find(names[0]) == nil {
					return failf(exitNotFound, "see agentctl context list", "no context %q", names[0])
				}
				kept := []contextEntry{}
				for _, e := range f.Contexts {
					if e.Name != names[0] {
						kept = append(kept, e)
					}
				}
				f.Contexts = kept
				if f.Current == names[0] {
					f.Current = ""
				}
				return nil
			})
		},
	}
}

func (c *cli) contextCurrentCmd() *cobra.Command {
	return &cobra.Command{
		Use: "current", Short: "The current context's name", Example: "  agentctl context current", Args: args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			e, err := c.currentContext()
			if err != nil {
				return err
			}
			if e.Name == "" {
				return failf(exitNotFound, "agentctl context use NAME", "no context is chosen")
			}
			_, err = fmt.Fprintln(c.env.Stdout, e.Name)
			return err
		},
	}
}

func (c *cli) editContexts(edit func(*contextFile) error) error {
	f, err := c.readContexts()
	if err != nil {
		return err
	}
	if err := edit(&f); err != nil {
		return err
	}
	return c.writeContexts(f)
}

func (c *cli) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	f, err := c.readContexts()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := make([]string, 0, len(f.Contexts))
	for _, e := range f.Contexts {
		names = append(names, e.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
