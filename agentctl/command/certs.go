package command

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentry/agentry/agentctl/certs"
)

func (c *cli) certsCmd() *cobra.Command {
	return group("certs", "The certificates and keys of a first installation, for who has no authority of their own",
		"  agentctl certs make -f deploy/certs.yaml --dir /etc/agentry/certs", c.certsMakeCmd())
}

// madeDoc is one thing of a plan.
type madeDoc struct {
	Path     string `json:"path"`
	What     string `json:"what"`
	Did      string `json:"did"`
	NotAfter string `json:"notAfter"` // RFC 3339; empty: it doesn't end
}

func (c *cli) certsMakeCmd() *cobra.Command {
	var file, dir string
	var out output
	cmd := &cobra.Command{
		Use: "make -f PLAN --dir DIR", Short: "Make the authorities, certificates and keys of a plan that are missing or soon run out",
		Example: "  agentctl certs make -f deploy/certs.yaml --dir /etc/agentry/certs",
		Long: `Makes what a plan wants and is not there, and certificates anew that have less than a third of their life left, or are for other
names. Keys and authorities that are there are kept. Run it again to renew. It asks no server.`,
		Args: args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if file == "" || dir == "" {
				return usagef("-f PLAN and --dir DIR are needed")
			}
			text, err := c.readInput(file)
			if err != nil {
				return err
			}
			plan, err := certs.Parse(text)
			if err != nil {
				return failf(exitData, "deploy/certs.yaml shows the form", "%s: %w", file, err)
			}
			done, err := certs.Make(filepath.Clean(dir), plan, time.Now())
			docs, t := []madeDoc{}, table{head: []string{"PATH", "WHAT", "DID", "ENDS"}, empty: "The plan wants nothing."}
			for _, d := range done {
				until := ""
				if !d.NotAfter.IsZero() {
					until = d.NotAfter.UTC().Format(time.RFC3339)
				}
				docs = append(docs, madeDoc{d.Path, d.What, d.Did, until})
				t.add(d.Path, d.Path, d.What, d.Did, dash(until))
			}
			if err == nil || len(docs) > 0 { // what was made before a failure is there
				err = errors.Join(c.print(out, docs, t), err)
			}
			if errors.Is(err, fs.ErrPermission) {
				return failf(exitPermission, "run it as the user who owns "+dir, "%w", err)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "filename", "f", "", `plan (YAML); "-": standard input`)
	f.StringVar(&dir, "dir", "", "directory to make them in")
	out.bind(cmd)
	return cmd
}
