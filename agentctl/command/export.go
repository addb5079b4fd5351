package command

import (
	"fmt"
	"os"
	"path/filepath"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/specfile"
)

// exportDoc is canonical files as one document.
type exportDoc struct {
	Files []exportedFile `json:"files"`
}

type exportedFile struct {
	Path    string `json:"path"`
	Content string `json:"content"`
}

func (c *cli) exportCmd() *cobra.Command {
	var out output
	var dir string
	var revision int64
	var references bool
	cmd := &cobra.Command{
		Use: "export [KIND [NAME...] | KIND/NAME...]", Short: "Canonical files from which apply makes the same again",
		Example: "  agentctl export -d backup\n  agentctl export -o yaml > all.yaml\n  agentctl export agent mse-nacos-helper --with-references -d out",
		Long: `Writes the files below --dir, where files of the same names are replaced. Without --dir they are printed, each behind a line
"-- path --", or with -o yaml (or -o manifest) as one YAML manifest that apply -f - reads; -o json is a list of the files. Secrets are
references, never values.`,
		Args: args(0, -1), ValidArgsFunction: c.completer(""),
		RunE: func(cmd *cobra.Command, words []string) error {
			if out == "manifest" {
				out = "yaml"
			}
			if err := out.check(); err != nil {
				return err
			}
			if out == "yaml" && dir != "" {
				return usagef("-o yaml prints one manifest; leave --dir out, or leave -o yaml out for a folder")
			}
			req := &specv1.ExportRequest{Revision: revision, WithReferences: references}
			if len(words) > 0 {
				kind, refs, err := parseRefs(words)
				if err != nil {
					return err
				}
				req.Kind = kind
				for _, r := range refs {
					if r.kind != kind || r.version != "" {
						return usagef("export %s: names of one kind, without a version (see --revision)", r)
					}
					req.Names = append(req.Names, r.name)
				}
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			req.Namespace = cl.namespace
			resp, err := cl.spec.Export(cmd.Context(), connect.NewRequest(req))
			if err != nil {
				return fmt.Errorf("export: %w", err)
			}
			return c.writeExport(out, dir, resp.Msg.GetFiles())
		},
	}
	cmd.Flags().StringVarP(&dir, "dir", "d", "", "folder to write to")
	cmd.Flags().Int64Var(&revision, "revision", 0, "an agent's revision; 0: what counts now")
	cmd.Flags().BoolVar(&references, "with-references", false, "also the prompts and MCP entries that the agents refer to")
	out.bind(cmd)
	return cmd
}

func (c *cli) writeExport(out output, dir string, files []*specv1.File) error {
	if len(files) == 0 {
		c.note("Nothing to export.")
	}
	doc := exportDoc{Files: []exportedFile{}}
	for _, f := range files {
		if !filepath.IsLocal(filepath.FromSlash(f.GetPath())) {
			return failf(exitFailure, "", "the server names a file outside the folder: %q", f.GetPath())
		}
		doc.Files = append(doc.Files, exportedFile{Path: f.GetPath(), Content: string(f.GetContent())})
	}
	if dir == "" {
		return c.printExport(out, doc)
	}
	for _, f := range doc.Files {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(f.Content), 0o600); err != nil {
			return err
		}
		if out.machine() {
			continue
		}
		if _, err := fmt.Fprintln(c.env.Stdout, path); err != nil {
			return err
		}
	}
	if out.machine() {
		return printDoc(c.env.Stdout, out, doc)
	}
	return nil
}

func (c *cli) printExport(out output, doc exportDoc) error {
	if out == "yaml" {
		return c.printManifest(doc)
	}
	if out.machine() {
		return printDoc(c.env.Stdout, out, doc)
	}
	for _, f := range doc.Files {
		if _, err := fmt.Fprintf(c.env.Stdout, "-- %s --\n%s", f.Path, f.Content); err != nil {
			return err
		}
	}
	return nil
}

// printManifest prints the files as one text with a YAML document for each object.
func (c *cli) printManifest(doc exportDoc) error {
	if len(doc.Files) == 0 {
		return nil
	}
	files := make([]specfile.File, 0, len(doc.Files))
	for _, f := range doc.Files {
		files = append(files, specfile.File{Path: f.Path, Content: []byte(f.Content)})
	}
	set, faults := specfile.Parse(files)
	if len(faults) > 0 {
		return failf(exitFailure, "agentctl export -d DIR", "the server's files don't make a manifest: %s", faults[0])
	}
	b, err := specfile.Manifest(set)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	_, err = c.env.Stdout.Write(b)
	return err
}
