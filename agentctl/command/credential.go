package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
)

// maxValue is the most that a credential's value may have, in bytes.
const maxValue = 64 << 10

// credentialDoc is what create or rotate did. It never holds a value.
type credentialDoc struct {
	Name          string   `json:"name"`
	Namespace     string   `json:"namespace"`
	From          int64    `json:"from"`
	Version       int64    `json:"version"`
	Agents        []string `json:"agents"`
	StoreRevision int64    `json:"storeRevision"`
	DryRun        bool     `json:"dryRun"`
}

// useDoc is one place where a credential is referred to.
type useDoc struct {
	Agent    string `json:"agent"`
	Revision int64  `json:"revision"`
	Role     string `json:"role"`
	Path     string `json:"path"`
}

func (c *cli) credentialCmd() *cobra.Command {
	return group("credential", "Credentials; their values are write-only",
		"  agentctl credential create weather-key --from-file key.txt\n  agentctl credential rotate weather-key < key.txt\n  agentctl credential used-by weather-key",
		c.listKindCmd(kindCredential), c.credentialWriteCmd(false), c.credentialWriteCmd(true), c.credentialDeleteCmd(), c.usedByCmd(), c.resealCmd())
}

func (c *cli) credentialWriteCmd(rotate bool) *cobra.Command {
	var out output
	var m mutation
	var file string
	word, short := "create", "Store a secret under a name"
	if rotate {
		word, short = "rotate", "Give a credential another value: every dependent instance uses it for its next call"
	}
	cmd := &cobra.Command{
		Use: word + " NAME", Short: short,
		Example: "  agentctl credential " + word + " weather-key --from-file key.txt\n  pass show weather | agentctl credential " + word + " weather-key\n  agentctl credential " + word + " weather-key    # asks, without echo",
		Long:    "The value comes from --from-file, from standard input, or from a prompt on a terminal; never from an argument. One line break at its end is dropped.", Args: args(1, 1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, names []string) error {
			cl, dry, err := c.begin(out, &m)
			if err != nil {
				return err
			}
			value, err := c.readValue(file, "Value of credential "+names[0])
			if err != nil {
				return err
			}
			d := credentialDoc{Name: names[0], Namespace: cl.namespace, Agents: []string{}, DryRun: dry}
			if rotate {
				err = d.rotate(cmd.Context(), cl, m, value)
			} else {
				err = d.create(cmd.Context(), cl, m, value)
			}
			if err != nil {
				return fmt.Errorf("%s credential %s: %w", word, d.Name, err)
			}
			if rotate {
				return c.printMove(out, d, "credential/"+d.Name, change("version "+itoa(d.From), "version "+itoa(d.Version)), d.Agents, dry)
			}
			if out.machine() {
				return printDoc(c.env.Stdout, out, d)
			}
			line := "credential/" + d.Name
			switch {
			case out == "name" || c.flags.quiet:
			case dry:
				line += fmt.Sprintf(" would be created (version %d, dry run)", d.Version)
			default:
				line += fmt.Sprintf(" created (version %d)", d.Version)
			}
			_, err = fmt.Fprintln(c.env.Stdout, line)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "from-file", "", "read the value from this file (- is standard input)")
	if rotate {
		cmd.ValidArgsFunction = c.completer(kindCredential)
		m.bindFor(cmd, "the credential is at this version")
	} else {
		m.bindWithout(cmd)
	}
	out.bind(cmd)
	return cmd
}

func (d *credentialDoc) create(ctx context.Context, cl *client, m mutation, value []byte) error {
	resp, err := cl.credentials.Create(ctx, connect.NewRequest(&registryv1.CreateRequest{Namespace: cl.namespace, Name: d.Name, Value: value, Message: m.message, DryRun: d.DryRun}))
	if err != nil {
		return err
	}
	d.Version, d.StoreRevision = resp.Msg.GetVersion(), resp.Msg.GetStoreRevision()
	return nil
}

func (d *credentialDoc) rotate(ctx context.Context, cl *client, m mutation, value []byte) error {
	resp, err := cl.credentials.Rotate(ctx, connect.NewRequest(&registryv1.RotateRequest{
		Namespace: cl.namespace, Name: d.Name, Value: value, Message: m.message, CheckRevision: m.check(), DryRun: d.DryRun,
	}))
	if err != nil {
		return err
	}
	d.From, d.Version, d.Agents, d.StoreRevision = resp.Msg.GetFrom(), resp.Msg.GetVersion(), list(resp.Msg.GetAgents()), resp.Msg.GetStoreRevision()
	return nil
}

// readValue reads a secret: from a file, from standard input, or from a person without echo.
func (c *cli) readValue(file, what string) ([]byte, error) {
	var value []byte
	var err error
	switch {
	case file != "" && file != "-":
		var f *os.File
		if f, err = os.Open(filepath.Clean(file)); err == nil {
			value, err = readBounded(f)
			err = errors.Join(err, f.Close())
		}
	case file == "" && isTTY(c.env.Stdin):
		value, err = c.askValue(what)
	default:
		value, err = readBounded(c.env.Stdin)
	}
	if err != nil {
		return nil, failf(exitUsage, "give it with --from-file, or on standard input", "read the value: %w", err)
	}
	value = bytes.TrimSuffix(bytes.TrimSuffix(value, []byte("\n")), []byte("\r"))
	if len(value) == 0 {
		return nil, failf(exitUsage, "give it with --from-file, or on standard input", "the value is empty")
	}
	return value, nil
}

func readBounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxValue+2))
	if err == nil && len(b) > maxValue+1 {
		return nil, fmt.Errorf("more than %d bytes", maxValue)
	}
	return b, err
}

func (c *cli) askValue(what string) ([]byte, error) {
	f, ok := c.env.Stdin.(*os.File)
	if !ok {
		return nil, errors.New("no terminal")
	}
	_, _ = fmt.Fprintf(c.env.Stderr, "%s (not shown): ", what)
	b, err := term.ReadPassword(int(f.Fd()))
	_, _ = fmt.Fprintln(c.env.Stderr)
	return b, err
}

func (c *cli) credentialDeleteCmd() *cobra.Command {
	var d deleting
	cmd := &cobra.Command{
		Use: "delete NAME...", Short: "Delete credentials; asks first", Example: "  agentctl credential delete weather-key\n  agentctl credential delete weather-key --yes --force",
		Args: args(1, -1), ValidArgsFunction: c.completer(kindCredential),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := d.out.check(); err != nil {
				return err
			}
			var refs []ref
			for _, n := range names {
				r, err := parseRef(kindCredential+"/"+n, "")
				if err != nil {
					return err
				}
				refs = append(refs, r)
			}
			return c.delete(cmd.Context(), d, refs)
		},
	}
	cmd.Flags().BoolVar(&d.yes, "yes", false, "don't ask")
	cmd.Flags().BoolVar(&d.force, "force", false, "also what agents refer to")
	d.m.bindWithout(cmd)
	d.out.bind(cmd)
	return cmd
}

func (c *cli) usedByCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "used-by NAME", Short: "Which agents refer to a credential, and where", Example: "  agentctl credential used-by weather-key\n  agentctl credential used-by weather-key -o json",
		Args: args(1, 1), ValidArgsFunction: c.completer(kindCredential),
		RunE: func(cmd *cobra.Command, names []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			resp, err := cl.credentials.UsedBy(cmd.Context(), connect.NewRequest(&registryv1.UsedByRequest{Namespace: cl.namespace, Name: names[0]}))
			if err != nil {
				return err
			}
			docs := []useDoc{}
			t := table{head: []string{"AGENT", "REVISION", "ROLE", "PATH"}, empty: "No agent refers to credential/" + names[0] + "."}
			for _, u := range resp.Msg.GetUses() {
				d := useDoc{Agent: u.GetAgent(), Revision: u.GetRevision(), Role: u.GetRole(), Path: u.GetPath()}
				docs = append(docs, d)
				t.add("agent/"+d.Agent, d.Agent, itoa(d.Revision), d.Role, d.Path)
			}
			return c.print(out, docs, t)
		},
	}
	out.bind(cmd)
	return cmd
}

// resealDoc is what a reseal did.
type resealDoc struct {
	KeyID    string `json:"keyId"`
	Sealed   int32  `json:"sealed"`
	Resealed int32  `json:"resealed"`
}

func (c *cli) resealCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "reseal", Short: "Seal everything anew with the first key of the control plane's key file",
		Long: `To change the key: put the new one on top of the key file of every replica, restart them, run this, then remove the former key
and restart again. It is safe to repeat, and nothing is lost when it stops half-way.`,
		Example: "  agentctl credential reseal", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, _, err := c.begin(out, nil)
			if err != nil {
				return err
			}
			resp, err := cl.credentials.Reseal(cmd.Context(), connect.NewRequest(&registryv1.ResealRequest{}))
			if err != nil {
				return err
			}
			d := resealDoc{KeyID: resp.Msg.GetKeyId(), Sealed: resp.Msg.GetSealed(), Resealed: resp.Msg.GetResealed()}
			if out.machine() {
				return printDoc(c.env.Stdout, out, d)
			}
			if out == "name" || c.flags.quiet {
				_, err = fmt.Fprintln(c.env.Stdout, d.KeyID)
				return err
			}
			_, err = fmt.Fprintf(c.env.Stdout, "%d of %d sealed values were sealed anew; all are sealed with key %s\n", d.Resealed, d.Sealed, d.KeyID)
			return err
		},
	}
	out.bind(cmd)
	return cmd
}
