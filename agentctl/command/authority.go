package command

import (
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
)

// rootDoc is one root certificate.
type rootDoc struct {
	Pin         string    `json:"pin"`
	State       string    `json:"state"`
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	Certificate string    `json:"certificate"`
}

// authorityDoc is the certificate authority.
type authorityDoc struct {
	TrustDomain          string    `json:"trustDomain"`
	Roots                []rootDoc `json:"roots"`
	IntermediateSerial   string    `json:"intermediateSerial"`
	IntermediateNotAfter time.Time `json:"intermediateNotAfter"`
	Behind               int32     `json:"behind"`
}

func toRoots(in []*identityv1.Root) []rootDoc {
	out := []rootDoc{}
	for _, r := range in {
		out = append(out, rootDoc{
			Pin: r.GetPin(), State: r.GetState(), NotBefore: timeOf(r.GetNotBefore()), NotAfter: timeOf(r.GetNotAfter()),
			Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.GetCertificate()})),
		})
	}
	return out
}

func rootTable(roots []rootDoc) table {
	t := table{head: []string{"ROOT", "STATE", "NOT AFTER"}}
	for _, r := range roots {
		t.add("root/"+r.Pin, r.Pin[:min(16, len(r.Pin))], r.State, r.NotAfter.UTC().Format(time.RFC3339))
	}
	return t
}

func (c *cli) authorityCmd() *cobra.Command {
	return group("authority", "The certificate authority, and the change of its root",
		"  agentctl identity authority show\n  agentctl identity authority show -o jsonpath='{.roots[0].certificate}' > roots.pem\n  agentctl identity authority rotate prepare",
		c.authorityShowCmd(), c.authorityRotateCmd())
}

func (c *cli) authorityShowCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "show", Short: "Roots, the signing intermediate, and where a rotation is", Example: "  agentctl identity authority show", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			resp, err := cl.identity.GetAuthority(cmd.Context(), connect.NewRequest(&identityv1.GetAuthorityRequest{}))
			if err != nil {
				return err
			}
			m := resp.Msg
			d := authorityDoc{
				TrustDomain: m.GetTrustDomain(), Roots: toRoots(m.GetRoots()), IntermediateSerial: m.GetIntermediateSerial(),
				IntermediateNotAfter: timeOf(m.GetIntermediateNotAfter()), Behind: m.GetBehind(),
			}
			if !out.machine() && out != "name" && !c.flags.quiet {
				_, _ = fmt.Fprintf(c.env.Stdout, "trust domain: %s\nintermediate: %s until %s\n", d.TrustDomain, d.IntermediateSerial, d.IntermediateNotAfter.UTC().Format(time.RFC3339))
				if d.Behind > 0 {
					_, _ = fmt.Fprintf(c.env.Stdout, "instances that don't trust the next root yet: %d\n", d.Behind)
				}
				_, _ = fmt.Fprintln(c.env.Stdout)
			}
			return c.print(out, d, rootTable(d.Roots))
		},
	}
	out.bind(cmd)
	return cmd
}

func (c *cli) authorityRotateCmd() *cobra.Command {
	var out output
	var force bool
	var message string
	steps := map[string]identityv1.RotationStep{
		"prepare": identityv1.RotationStep_ROTATION_STEP_PREPARE, "activate": identityv1.RotationStep_ROTATION_STEP_ACTIVATE, "retire": identityv1.RotationStep_ROTATION_STEP_RETIRE,
	}
	words := []string{"prepare", "activate", "retire"}
	cmd := &cobra.Command{
		Use: "rotate [prepare|activate|retire]", Short: "Take the next step to another root; no instance is interrupted",
		Long:    "prepare makes the next root, which instances learn to trust as they renew. activate signs with it, once they all do. retire drops the former one, once its last certificate has ended.",
		Example: "  agentctl identity authority rotate prepare\n  agentctl identity authority show     # wait until nobody is behind\n  agentctl identity authority rotate activate\n  agentctl identity authority rotate retire",
		Args:    args(0, 1), ValidArgs: words,
		RunE: func(cmd *cobra.Command, given []string) error {
			req := &identityv1.RotateAuthorityRequest{Force: force, Message: message}
			if len(given) == 1 {
				step, ok := steps[given[0]]
				if !ok {
					return usagef("step %q: %s", given[0], strings.Join(words, ", "))
				}
				req.Step = step
			}
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			resp, err := cl.identity.RotateAuthority(cmd.Context(), connect.NewRequest(req))
			if err != nil {
				return err
			}
			done := strings.ToLower(strings.TrimPrefix(resp.Msg.GetDone().String(), "ROTATION_STEP_"))
			roots := toRoots(resp.Msg.GetRoots())
			if !out.machine() {
				c.note("%s: done", done)
			}
			return c.print(out, map[string]any{"done": done, "roots": roots}, rootTable(roots))
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "don't wait for instances that don't trust the next root yet, or certificates that haven't ended: they are cut off")
	cmd.Flags().StringVar(&message, "message", "", "why; kept in the audit log")
	out.bind(cmd)
	return cmd
}
