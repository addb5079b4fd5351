package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
)

// Run parses args, performs the command and gives the process's exit code (`agentctl help exit-codes`).
func Run(ctx context.Context, env Env, args []string) int {
	c := &cli{env: env}
	root := c.root()
	root.SetArgs(args)
	return c.report(root.ExecuteContext(ctx))
}

// commands is the whole list.
func (c *cli) commands() []*cobra.Command {
	return []*cobra.Command{
		c.applyCmd(),
		c.approvalsCmd(),
		c.auditCmd(),
		c.bindingCmd(),
		c.canICmd(),
		c.certsCmd(),
		c.clusterCmd(),
		c.completionCmd(),
		c.configCmd(),
		c.contextCmd(),
		c.credentialCmd(),
		c.deleteCmd(),
		c.describeCmd(),
		c.diffCmd(),
		c.eventsCmd(),
		c.explainCmd(),
		c.exportCmd(),
		c.getCmd(),
		c.healthCmd(),
		c.historyCmd(),
		c.identityCmd(),
		c.invokeCmd(),
		c.loginCmd(),
		c.logoutCmd(),
		c.mcpCmd(),
		c.modelCmd(),
		c.promptCmd(),
		c.roleCmd(),
		c.rollbackCmd(),
		c.rolloutCmd(),
		c.statusCmd(),
		c.tokenCmd(),
		c.upCmd(),
		c.validateCmd(),
		c.versionCmd(),
		c.waitCmd(),
		c.whoAmICmd(),
	}
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "agentctl",
		Short: "Apply, watch and ask agents",
		Example: `  agentctl apply -f examples/nacos-helper      # write a folder of specs
  agentctl status                              # which agent serves what
  agentctl invoke mse-nacos-helper -m "hello"  # ask an agent`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE:          c.unknown,
	}
	root.SetIn(c.env.Stdin)
	root.SetOut(c.env.Stdout)
	root.SetErr(c.env.Stderr)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return failf(exitUsage, "see "+cmd.CommandPath()+" --help", "%w", err)
	})
	root.SetUsageTemplate(usageTemplate)
	f := root.PersistentFlags()
	f.StringVar(&c.flags.server, "server", "", "control plane's people door, of several replicas by comma (AGENTCTL_SERVER; default from the context, else "+defaultServer+")")
	f.StringVar(&c.flags.tokenFile, "token-file", "", "file with the token (AGENTCTL_TOKEN holds the token itself)")
	f.StringVar(&c.flags.caFile, "ca-file", "", "PEM file with the authority of the server's certificate (AGENTCTL_CA_FILE; default: the system's)")
	f.StringVar(&c.flags.context, "context", "", "context to use (AGENTCTL_CONTEXT; see agentctl context)")
	f.StringVarP(&c.flags.namespace, "namespace", "n", "", `namespace (AGENTCTL_NAMESPACE; "default")`)
	f.BoolVar(&c.flags.noHeaders, "no-headers", false, "tables without their first line")
	f.BoolVar(&c.flags.noColor, "no-color", false, "no colours (NO_COLOR; without a terminal there are none)")
	f.BoolVarP(&c.flags.quiet, "quiet", "q", false, "print names only")
	root.AddCommand(c.commands()...)
	root.SetHelpCommand(c.helpCmd(root))
	_ = root.RegisterFlagCompletionFunc("namespace", cobra.NoFileCompletions)
	return root
}

// unknown runs agentctl-NAME from PATH, or says what is near.
func (c *cli) unknown(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	if path, err := exec.LookPath("agentctl-" + args[0]); err == nil && !strings.ContainsAny(args[0], `/\`) {
		return c.plugin(cmd.Context(), path, args[1:])
	}
	hint := "see agentctl --help"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return failf(exitUsage, hint, "unknown command %q", args[0])
}

// plugin hands the process over to another program and gives back its exit code.
func (c *cli) plugin(ctx context.Context, path string, args []string) error {
	p := exec.CommandContext(ctx, path, args...) //nolint:gosec // G204: running what the user named is the purpose
	p.Stdin, p.Stdout, p.Stderr, p.Env = c.env.Stdin, c.env.Stdout, c.env.Stderr, os.Environ()
	err := p.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return answered(exit.ExitCode())
	}
	return err
}

// group is a command that only holds others.
func group(use, short, example string, subs ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use: use, Short: short, Example: example, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return failf(exitUsage, "see "+cmd.CommandPath()+" --help", "unknown command %q for %q", args[0], cmd.CommandPath())
		},
	}
	g.AddCommand(subs...)
	return g
}

// args checks how many arguments there are; most -1: any number.
func args(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, got []string) error {
		if len(got) >= least && (most < 0 || len(got) <= most) {
			return nil
		}
		hint := "usage: " + cmd.UseLine()
		if len(got) < least {
			return failf(exitUsage, hint, "%s: %d argument(s), at least %d needed", cmd.CommandPath(), len(got), least)
		}
		return failf(exitUsage, hint, "%s: unexpected argument %q", cmd.CommandPath(), got[most])
	}
}

func (c *cli) helpCmd(root *cobra.Command) *cobra.Command {
	help := &cobra.Command{
		Use: "help [COMMAND | exit-codes]", Short: "Help for a command, or for the exit codes",
		Example: "  agentctl help apply\n  agentctl help exit-codes",
		RunE: func(_ *cobra.Command, words []string) error {
			if len(words) == 1 && words[0] == "exit-codes" {
				for _, e := range exitCodes() {
					_, _ = fmt.Fprintf(c.env.Stdout, "%3d  %s\n", e.code, e.text)
				}
				return nil
			}
			cmd, rest, err := root.Find(words)
			if err != nil || len(rest) > 0 {
				return failf(exitUsage, "see agentctl --help", "no help for %q", strings.Join(words, " "))
			}
			return cmd.Help()
		},
	}
	return help
}

// usageTemplate is cobra's with the examples first.
const usageTemplate = `{{if .HasExample}}Examples:
{{.Example}}

{{end}}Usage:
  {{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND{{else}}{{.UseLine}}{{end}}
{{if .HasAvailableSubCommands}}
Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}
{{end}}{{if .HasAvailableLocalFlags}}
Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}
{{end}}{{if .HasAvailableInheritedFlags}}
Flags of every command:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}
{{end}}`
