package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
)

// diffsDoc is what differs.
type diffsDoc struct {
	Diffs []diffDoc `json:"diffs"`
}

func (c *cli) diffCmd() *cobra.Command {
	var out output
	var names []string
	cmd := &cobra.Command{
		Use: "diff -f FILE|DIR|- | KIND/NAME@A KIND/NAME@B", Short: "What would change, or two versions of one thing: 0 nothing, 1 differences",
		Example: "  agentctl diff -f examples/nacos-helper\n  agentctl diff agent/mse-nacos-helper@8 agent/mse-nacos-helper@9\n  AGENTCTL_EXTERNAL_DIFF=\"diff -ru\" agentctl diff -f DIR",
		Args:    args(0, 2), ValidArgsFunction: c.completer(""),
		RunE: func(cmd *cobra.Command, words []string) error {
			if err := out.check(); err != nil {
				return err
			}
			req, set, err := c.diffRequest(names, words)
			if err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			req.Namespace = cl.namespace
			resp, err := cl.spec.Diff(cmd.Context(), connect.NewRequest(req))
			if err != nil {
				if faults := faultsOf(err); faults != nil {
					return c.refuse(out, set, faults, "")
				}
				return fmt.Errorf("diff: %w", err)
			}
			var changed []*specv1.ObjectDiff
			for _, d := range resp.Msg.GetDiffs() {
				if len(d.GetChanges()) > 0 || d.GetBefore() != d.GetAfter() {
					changed = append(changed, d)
				}
			}
			return c.answerDiff(cmd.Context(), out, changed)
		},
	}
	bindFiles(cmd, &names)
	out.bind(cmd)
	return cmd
}

func (c *cli) diffRequest(names, words []string) (*specv1.DiffRequest, fileSet, error) {
	if len(names) > 0 {
		if len(words) > 0 {
			return nil, fileSet{}, usagef("diff: -f, or two versions, not both")
		}
		set, err := c.readFiles(names)
		return &specv1.DiffRequest{Files: wireFiles(set.files)}, set, err
	}
	if len(words) != 2 {
		return nil, fileSet{}, failf(exitUsage, "agentctl diff -f DIR, or agentctl diff agent/NAME@8 agent/NAME@9", "diff: nothing to compare")
	}
	a, err := parseRef(words[0], "")
	if err != nil {
		return nil, fileSet{}, err
	}
	b, err := parseRef(words[1], "")
	if err != nil {
		return nil, fileSet{}, err
	}
	if a.kind != b.kind || a.name != b.name {
		return nil, fileSet{}, usagef("diff: two versions of one thing, not %s and %s", a, b)
	}
	return &specv1.DiffRequest{Kind: a.kind, Name: a.name, VersionA: a.version, VersionB: b.version}, fileSet{}, nil
}

func (c *cli) answerDiff(ctx context.Context, out output, changed []*specv1.ObjectDiff) error {
	code := exitOK
	if len(changed) > 0 {
		code = exitNo
	}
	if out.machine() {
		if err := printDoc(c.env.Stdout, out, diffsDoc{Diffs: toDiffs(changed)}); err != nil {
			return err
		}
		return answered(code)
	}
	if external := c.env.Getenv("AGENTCTL_EXTERNAL_DIFF"); external != "" && code == exitNo {
		return c.externalDiff(ctx, external, changed)
	}
	if err := c.printDiffs(changed); err != nil {
		return err
	}
	if code == exitOK && !c.flags.quiet {
		c.note("No differences.")
	}
	return answered(code)
}

// printDiffs shows each changed path; a text of several lines line by line.
func (c *cli) printDiffs(diffs []*specv1.ObjectDiff) error {
	p := diffPrinter{colour: c.colour(c.env.Stdout)}
	for _, d := range diffs {
		if c.flags.quiet {
			p.line("", d.GetKind()+"/"+d.GetName())
			continue
		}
		p.line("", d.GetKind()+"/"+d.GetName()+":")
		if len(d.GetChanges()) == 0 && d.GetBefore() != d.GetAfter() {
			p.value("(all)", d.GetBefore(), d.GetAfter())
		}
		for _, ch := range d.GetChanges() {
			p.value(ch.GetPath(), ch.GetBefore(), ch.GetAfter())
		}
	}
	_, err := c.env.Stdout.Write([]byte(p.b.String()))
	return err
}

type diffPrinter struct {
	b      strings.Builder
	colour bool
}

func (p *diffPrinter) line(sign, text string) {
	line := text
	if sign != "" {
		line = "  " + sign + " " + text
	}
	if p.colour && sign == "+" {
		line = lipgloss.NewStyle().Foreground(lipgloss.Green).Render(line)
	}
	if p.colour && sign == "-" {
		line = lipgloss.NewStyle().Foreground(lipgloss.Red).Render(line)
	}
	p.b.WriteString(line + "\n")
}

func (p *diffPrinter) value(path, before, after string) {
	var a, b string
	if json.Unmarshal([]byte(before), &a) == nil && json.Unmarshal([]byte(after), &b) == nil && (strings.Contains(a, "\n") || strings.Contains(b, "\n")) {
		p.line("~", path+":")
		for _, l := range lineDiff(strings.Split(a, "\n"), strings.Split(b, "\n")) {
			p.line(l.sign, "  "+l.text)
		}
		return
	}
	if before != "" {
		p.line("-", path+": "+before)
	}
	if after != "" {
		p.line("+", path+": "+after)
	}
}

type signed struct{ sign, text string }

// maxLines bounds the table of lineDiff; longer texts are shown whole, old and new.
const maxLines = 1500

// lineDiff gives the shortest way from a to b, by their longest common subsequence.
func lineDiff(a, b []string) []signed {
	var out []signed
	if len(a) > maxLines || len(b) > maxLines {
		for _, l := range a {
			out = append(out, signed{"-", l})
		}
		for _, l := range b {
			out = append(out, signed{"+", l})
		}
		return out
	}
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i, x := range slices.Backward(a) {
		for j, y := range slices.Backward(b) {
			common[i][j] = max(common[i+1][j], common[i][j+1])
			if x == y {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, signed{" ", a[i]})
			i, j = i+1, j+1
		case j == len(b) || (i < len(a) && common[i+1][j] >= common[i][j+1]):
			out = append(out, signed{"-", a[i]})
			i++
		default:
			out = append(out, signed{"+", b[j]})
			j++
		}
	}
	return out
}

// externalDiff hands two folders, a and b, to a program of the user's.
func (c *cli) externalDiff(ctx context.Context, program string, changed []*specv1.ObjectDiff) error {
	dir, err := os.MkdirTemp("", "agentctl-diff-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for _, d := range changed {
		name := strings.NewReplacer("/", "_", `\`, "_").Replace(d.GetKind()+"-"+d.GetName()) + ".json"
		for side, text := range map[string]string{"a": d.GetBefore(), "b": d.GetAfter()} {
			if err := os.MkdirAll(filepath.Join(dir, side), 0o700); err != nil {
				return err
			}
			if text == "" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, side, name), []byte(text+"\n"), 0o600); err != nil {
				return err
			}
		}
	}
	words := strings.Fields(program)
	cmd := exec.CommandContext(ctx, words[0], append(words[1:], "a", "b")...) //nolint:gosec // G204: running what the user named is the purpose
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, c.env.Stdout, c.env.Stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() > 1 {
		return failf(exitFailure, "", "AGENTCTL_EXTERNAL_DIFF: %w", err)
	} else if err != nil && exit == nil {
		return failf(exitFailure, "", "AGENTCTL_EXTERNAL_DIFF: %w", err)
	}
	return answered(exitNo)
}
