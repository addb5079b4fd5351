package command

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// mutation holds the flags of every command that writes.
type mutation struct {
	dryRun        string
	checkRevision int64
	message       string
	checked       func() bool
}

func (m *mutation) bind(cmd *cobra.Command) {
	m.bindFor(cmd, "the agent is at this revision now; 0: it must not exist")
}

// bindFor is bind for what is not an agent: unless says what --check-revision insists on.
func (m *mutation) bindFor(cmd *cobra.Command, unless string) {
	m.bindWithout(cmd)
	f := cmd.Flags()
	f.Int64Var(&m.checkRevision, "check-revision", 0, "fail (4) unless "+unless)
	m.checked = func() bool { return f.Changed("check-revision") }
}

// bindWithout is bind without --check-revision, for what is made new or of many kinds.
func (m *mutation) bindWithout(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&m.dryRun, "dry-run", "none", `"server": stop before the write and show what would change`)
	f.Lookup("dry-run").NoOptDefVal = "server"
	f.StringVar(&m.message, "message", "", "why; kept in history")
	m.checked = func() bool { return false }
}

// dry reports whether to stop before the write, and judges the flags.
func (m *mutation) dry() (bool, error) {
	if m.checked() && m.checkRevision < 0 {
		return false, usagef("--check-revision %d: a revision is a number from 1; 0: it must not exist", m.checkRevision)
	}
	switch m.dryRun {
	case "none":
		return false, nil
	case "server":
		return true, nil
	default:
		return false, usagef("--dry-run=%s: none or server", m.dryRun)
	}
}

// check gives the revision to insist on, or nil.
func (m *mutation) check() *int64 {
	if !m.checked() {
		return nil
	}
	return &m.checkRevision
}

// confirm asks before what can't be undone. Without a terminal it refuses rather than wait for nobody.
func (c *cli) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !isTTY(c.env.Stdin) {
		return failf(exitUsage, "say --yes", "%s Nobody to ask: no terminal", question)
	}
	_, _ = fmt.Fprintf(c.env.Stderr, "%s [y/N] ", question)
	answer, err := bufio.NewReader(c.env.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return failf(exitFailure, "", "nothing was done")
	}
	return nil
}
