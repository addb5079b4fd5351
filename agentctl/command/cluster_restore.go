package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	clusterv1 "github.com/agentry/agentry/gen/agentry/cluster/v1"
)

// restorePiece is how much of a file one message holds.
const restorePiece = 512 << 10

// restoreDoc is what a restore did.
type restoreDoc struct {
	ClusterID      string           `json:"clusterId"`
	Epoch          uint64           `json:"epoch"`
	Revision       int64            `json:"revision"`
	Taken          string           `json:"taken"` // RFC 3339; empty: the store was taken as it was
	BackupRevision int64            `json:"backupRevision"`
	Written        map[string]int64 `json:"written"`
	DryRun         bool             `json:"dryRun"`
	Notes          []string         `json:"notes"`
}

// restoring is what restore was asked.
type restoring struct {
	out                 output
	m                   mutation
	yes                 bool
	other, access, asIs bool
}

func (c *cli) clusterRestoreCmd() *cobra.Command {
	var r restoring
	cmd := &cobra.Command{
		Use: "restore FILE | --as-is", Short: "Bring a backup back while the control plane runs; asks first",
		Long: `Brings back what agentctl cluster backup saved. While it runs nothing is pushed and nothing else is written; agents go on answering
with what they run. Then a new epoch begins and every instance takes what was brought back, those that run it already without a change.
What the backup doesn't have is gone afterwards. Tokens, roles, bindings, revocations, join tokens and the audit log stay as they are,
so that nothing that was taken away comes back.

--as-is is for a store that was brought back by etcd's own tools: instances have seen more than it holds (STORE_WENT_BACK), and a new
epoch makes it count again.`,
		Example: "  agentctl cluster restore agentry.backup --dry-run=server\n  agentctl cluster restore agentry.backup --yes --message 'the bad import of Tuesday'\n" +
			"  agentctl cluster restore agentry.backup --other-cluster --yes   # a new control plane becomes the lost one\n  agentctl cluster restore --as-is --yes",
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, words []string) error {
			if err := r.out.check(); err != nil {
				return err
			}
			switch {
			case r.asIs && (len(words) > 0 || r.other || r.access):
				return usagef("--as-is takes the store as it is: no file and no other choice belongs to it")
			case !r.asIs && len(words) == 0:
				return usagef("name the backup, or say --as-is")
			}
			return c.restore(cmd.Context(), r, words)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&r.yes, "yes", false, "don't ask")
	f.BoolVar(&r.other, "other-cluster", false, "the backup is of another cluster: this control plane becomes that one, with its certificate authority")
	f.BoolVar(&r.access, "access", false, "bring tokens, roles and bindings back too, in place of those that are there")
	f.BoolVar(&r.asIs, "as-is", false, "begin a new epoch on what the store holds")
	r.m.bindWithout(cmd)
	r.out.bind(cmd)
	return cmd
}

func (c *cli) restore(ctx context.Context, r restoring, words []string) error {
	dry, err := r.m.dry()
	if err != nil {
		return err
	}
	question := "Take the store as it is and begin a new epoch?"
	if !r.asIs {
		question = "Replace everything that the control plane keeps by " + words[0] + "?"
	}
	if !dry {
		if err := c.confirm(r.yes, question); err != nil {
			return err
		}
	}
	in, end := io.Reader(nil), func() {}
	if !r.asIs {
		if in, end, err = c.openBackup(words[0]); err != nil {
			return err
		}
	}
	defer end()
	cl, err := c.connect()
	if err != nil {
		return err
	}
	stream := cl.cluster.Restore(ctx)
	err = stream.Send(&clusterv1.RestoreRequest{Message: &clusterv1.RestoreRequest_Options{Options: &clusterv1.RestoreOptions{
		AsIs: r.asIs, OtherCluster: r.other, Access: r.access, Message: r.m.message, DryRun: dry,
	}}})
	if err == nil && !r.asIs {
		err = c.sendBackup(stream, in)
	}
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the server has answered already
		_, _ = stream.CloseAndReceive()
		return cl.caller.explain(err)
	}
	resp, err := stream.CloseAndReceive()
	if err != nil {
		return notRestored(cl.caller.explain(err), words, dry)
	}
	return c.printRestored(r.out, restoreDocOf(resp.Msg, dry))
}

// notRestored says what a restore that failed leaves behind.
func notRestored(err error, words []string, dry bool) error {
	code, wire := connect.CodeOf(err), (*connect.Error)(nil)
	switch {
	case len(words) > 0 && code == connect.CodeInvalidArgument && errors.As(err, &wire):
		return failf(exitData, "nothing was written; agentctl cluster verify looks at a file without a server", "restore %s: %s", words[0], wire.Message())
	case !dry && exitCode(err) == exitUnreachable:
		return failf(exitUnreachable, "it may have been broken off in the middle: while agentctl cluster status says RESTORING, nothing is pushed or written; run the same command again", "restore: %w", err)
	default:
		return fmt.Errorf("restore: %w", err)
	}
}

func (c *cli) sendBackup(stream *connect.ClientStreamForClient[clusterv1.RestoreRequest, clusterv1.RestoreResponse], in io.Reader) error {
	told := c.progress("sent")
	defer told.end()
	buf := make([]byte, restorePiece)
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 {
			if serr := stream.Send(&clusterv1.RestoreRequest{Message: &clusterv1.RestoreRequest_Data{Data: buf[:n]}}); serr != nil {
				return serr
			}
			told.add(n)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return failf(exitData, "", "read the backup: %w", err)
		}
	}
}

func restoreDocOf(m *clusterv1.RestoreResponse, dry bool) restoreDoc {
	doc := restoreDoc{
		ClusterID: m.GetClusterId(), Epoch: m.GetEpoch(), Revision: m.GetRevision(), BackupRevision: m.GetBackupRevision(),
		Written: m.GetWritten(), DryRun: dry, Notes: m.GetNotes(),
	}
	if m.GetTaken() != nil {
		doc.Taken = m.GetTaken().AsTime().UTC().Format(time.RFC3339)
	}
	if doc.Written == nil {
		doc.Written = map[string]int64{}
	}
	if doc.Notes == nil {
		doc.Notes = []string{}
	}
	return doc
}

func (c *cli) printRestored(out output, doc restoreDoc) error {
	if out.machine() {
		return printDoc(c.env.Stdout, out, doc)
	}
	what := "the store as it is"
	if doc.Taken != "" {
		what = fmt.Sprintf("the backup of %s (store revision %d)", doc.Taken, doc.BackupRevision)
	}
	did := "counts from store revision " + fmt.Sprint(doc.Revision) + " on"
	if doc.DryRun {
		did = "would count (dry run)"
	}
	_, err := fmt.Fprintf(c.env.Stdout, "cluster %s: %s %s, epoch %d\n", doc.ClusterID, what, did, doc.Epoch)
	var written []string
	for _, kind := range slices.Sorted(maps.Keys(doc.Written)) {
		written = append(written, fmt.Sprintf("%s %d", kind, doc.Written[kind]))
	}
	if len(written) > 0 {
		c.note("written: %s", strings.Join(written, ", "))
	}
	for _, n := range doc.Notes {
		c.note("note: %s", n)
	}
	return err
}
