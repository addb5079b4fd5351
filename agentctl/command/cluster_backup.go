package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	clusterv1 "github.com/agentry/agentry/gen/agentry/cluster/v1"
	"github.com/agentry/agentry/internal/backupfile"
)

// backupTries is how often a backup is begun anew that the store's compaction overtook.
const backupTries = 3

// backupDoc is what a backup holds.
type backupDoc struct {
	File      string `json:"file"`
	ClusterID string `json:"clusterId"`
	Epoch     uint64 `json:"epoch"`
	Revision  int64  `json:"revision"`
	Taken     string `json:"taken"` // RFC 3339
	Version   string `json:"version"`
	KEK       string `json:"kek"` // names the key that its secrets are sealed with
	Keys      uint64 `json:"keys"`
	Bytes     int64  `json:"bytes"`
}

func (c *cli) clusterBackupCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "backup FILE", Short: "Save everything that the control plane keeps",
		Long: `Saves every spec, prompt, MCP entry and credential, what is released, tokens, identities and the audit log as of one moment, while
the control plane works on. Secrets are sealed in it: bringing it back needs the control plane's key file (--kek-file), which isn't in it.
FILE is written whole or not at all, readable by its owner only; "-" is standard output.`,
		Example: "  agentctl cluster backup agentry.backup\n  agentctl cluster backup - | age -r RECIPIENT > agentry.backup.age", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, words []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			return c.backup(cmd.Context(), cl, words[0], out)
		},
	}
	out.bind(cmd)
	return cmd
}

func (c *cli) backup(ctx context.Context, cl *client, file string, out output) error {
	if file == "-" {
		if isTTY(c.env.Stdout) {
			return usagef("a backup is no text for a terminal: name a file, or send it on")
		}
		_, err := c.fetchBackup(ctx, cl, c.env.Stdout)
		return err
	}
	var doc backupDoc
	err := writeWhole(file, func(w *os.File) (err error) {
		for left := backupTries - 1; ; left-- {
			if doc, err = c.fetchBackup(ctx, cl, w); err == nil || left == 0 || connect.CodeOf(err) != connect.CodeUnavailable {
				return err
			}
			if _, err := w.Seek(0, io.SeekStart); err != nil {
				return err
			}
			if err := w.Truncate(0); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	doc.File = file
	return c.printBackup(out, doc, "saved")
}

func (c *cli) printBackup(out output, doc backupDoc, what string) error {
	if out.machine() {
		return printDoc(c.env.Stdout, out, doc)
	}
	_, err := fmt.Fprintf(c.env.Stdout, "%s %s: cluster %s, epoch %d, store revision %d of %s, %d keys, %d bytes; secrets in it need key %s\n",
		doc.File, what, doc.ClusterID, doc.Epoch, doc.Revision, doc.Taken, doc.Keys, doc.Bytes, doc.KEK)
	return err
}

// fetchBackup gets a backup and looks at it while it comes: what ends too early, or was spoiled on its way, is an error.
func (c *cli) fetchBackup(ctx context.Context, cl *client, to io.Writer) (backupDoc, error) {
	stream, err := cl.cluster.Backup(ctx, connect.NewRequest(&clusterv1.BackupRequest{}))
	if err != nil {
		return backupDoc{}, cl.caller.explain(err)
	}
	defer func() { _ = stream.Close() }()
	in := &backupStream{stream: stream, to: to, progress: c.progress("received")}
	defer in.progress.end()
	doc, err := readBackup(in)
	if in.err != nil {
		return backupDoc{}, cl.caller.explain(in.err)
	}
	if err != nil {
		return backupDoc{}, failf(exitFailure, "take it again", "what came: %w", err)
	}
	return doc, nil
}

// backupStream reads what comes, and writes it on.
type backupStream struct {
	stream   *connect.ServerStreamForClient[clusterv1.BackupResponse]
	to       io.Writer
	rest     []byte
	err      error // of the stream or of writing on
	progress *progress
}

// Read reads.
func (s *backupStream) Read(into []byte) (int, error) {
	for len(s.rest) == 0 {
		if !s.stream.Receive() {
			if s.err = s.stream.Err(); s.err != nil {
				return 0, s.err
			}
			return 0, io.EOF
		}
		s.rest = s.stream.Msg().GetData()
		if _, s.err = io.Copy(s.to, bytes.NewReader(s.rest)); s.err != nil {
			return 0, s.err
		}
		s.progress.add(len(s.rest))
	}
	n := copy(into, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// readBackup reads a backup to its last byte and says what it holds.
func readBackup(in io.Reader) (backupDoc, error) {
	r, err := backupfile.NewReader(in)
	if err != nil {
		return backupDoc{}, err
	}
	for err == nil {
		_, err = r.Next()
	}
	if !errors.Is(err, io.EOF) {
		return backupDoc{}, err
	}
	h := r.Header
	doc := backupDoc{
		ClusterID: h.ClusterID, Epoch: h.Epoch, Revision: h.Revision, Taken: h.Taken.UTC().Format(time.RFC3339), Version: h.Version, KEK: h.KEK,
	}
	doc.Keys, doc.Bytes = r.Count()
	return doc, nil
}

// writeWhole writes a file of mode 0600 beside its place and renames it there when it is whole.
func writeWhole(file string, write func(*os.File) error) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	err = write(tmp)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

// progress tells a terminal how far something is.
type progress struct {
	c     *cli
	what  string
	bytes int64
	told  time.Time
	shows bool
}

func (c *cli) progress(what string) *progress {
	return &progress{c: c, what: what, shows: isTTY(c.env.Stderr)}
}

func (p *progress) add(n int) {
	p.bytes += int64(n)
	if !p.shows || time.Since(p.told) < 200*time.Millisecond {
		return
	}
	p.told = time.Now()
	_, _ = fmt.Fprintf(p.c.env.Stderr, "\r%s %.1f MB ", p.what, float64(p.bytes)/1e6)
}

func (p *progress) end() {
	if p.shows && !p.told.IsZero() {
		_, _ = fmt.Fprintln(p.c.env.Stderr)
	}
}

func (c *cli) clusterVerifyCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "verify FILE", Short: "Check that a backup is whole, without a server",
		Example: "  agentctl cluster verify agentry.backup", Args: args(1, 1),
		RunE: func(_ *cobra.Command, words []string) error {
			if err := out.check(); err != nil {
				return err
			}
			in, end, err := c.openBackup(words[0])
			if err != nil {
				return err
			}
			defer end()
			doc, err := readBackup(in)
			if err != nil {
				return failf(exitData, "it can't be brought back", "%s: %w", words[0], err)
			}
			doc.File = words[0]
			return c.printBackup(out, doc, "is whole")
		},
	}
	out.bind(cmd)
	return cmd
}

// openBackup opens a backup; "-" is standard input.
func (c *cli) openBackup(file string) (io.Reader, func(), error) {
	if file == "-" {
		return c.env.Stdin, func() {}, nil
	}
	f, err := os.Open(filepath.Clean(file))
	if err != nil {
		return nil, nil, failf(exitData, "name a file that agentctl cluster backup wrote", "%w", err)
	}
	return f, func() { _ = f.Close() }, nil
}
