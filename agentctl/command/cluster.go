package command

import "github.com/spf13/cobra"

func (c *cli) clusterCmd() *cobra.Command {
	return group("cluster", "The control plane itself: how it stands, save it, bring it back",
		"  agentctl cluster status\n  agentctl cluster backup agentry.backup\n  agentctl cluster restore agentry.backup --dry-run=server",
		c.clusterStatusCmd(), c.clusterMembersCmd(), c.clusterBackupCmd(), c.clusterRestoreCmd(), c.clusterVerifyCmd())
}
