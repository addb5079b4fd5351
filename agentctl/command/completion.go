package command

import "github.com/spf13/cobra"

func (c *cli) completionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish|powershell", Short: "A script that completes commands and names in a shell",
		Example: "  source <(agentctl completion bash)\n  agentctl completion zsh > \"${fpath[1]}/_agentctl\"\n  agentctl completion fish > ~/.config/fish/completions/agentctl.fish", Args: args(1, 1),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, shells []string) error {
			root, w := cmd.Root(), c.env.Stdout
			switch shells[0] {
			case "bash":
				return root.GenBashCompletionV2(w, true)
			case "zsh":
				return root.GenZshCompletion(w)
			case "fish":
				return root.GenFishCompletion(w, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(w)
			default:
				return usagef("no completion for %q (bash, zsh, fish, powershell)", shells[0])
			}
		},
	}
}
