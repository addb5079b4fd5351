package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentry/agentry/internal/scriptmodel"
)

func (c *cli) modelCmd() *cobra.Command {
	return group("model", "The scripted model server", "  agentctl model serve answers.yaml", c.modelServeCmd())
}

func (c *cli) modelServeCmd() *cobra.Command {
	var listen string
	var printURL bool
	cmd := &cobra.Command{
		Use: "serve [SCRIPT]", Short: "Serve scripted answers by the OpenAI API: test specs without paying",
		Example: "  agentctl model serve answers.yaml --listen 127.0.0.1:9901\n  curl 127.0.0.1:9901/_seen        # what it was asked, keys in clear, loopback only",
		Long: `Serves POST /v1/chat/completions and /v1/responses (streaming and not), /v1/embeddings and GET /v1/models from a script in YAML: rules, of which the
first that matches answers with a text, tool calls or a fault. It is a scripted model server, not a language model: nothing is generated.
Without SCRIPT it echoes. GET /_seen tells what it was asked; DELETE /_seen forgets it.`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, files []string) error {
			var script scriptmodel.Script
			if len(files) == 1 {
				b, err := c.readInput(files[0])
				if err != nil {
					return err
				}
				if script, err = scriptmodel.ParseScript(b); err != nil {
					return failf(exitData, "", "%s: %w", files[0], err)
				}
			}
			return c.serveModel(cmd.Context(), scriptmodel.New(script), listen, printURL)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address; port 0: a free one")
	cmd.Flags().BoolVar(&printURL, "print-url", false, "print the base URL, and nothing else, to stdout")
	return cmd
}

// serveModel serves until ctx ends.
func (c *cli) serveModel(ctx context.Context, srv *scriptmodel.Server, listen string, printURL bool) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil || !loopback(host) {
		return usagef("--listen %s: a loopback address with a port, such as 127.0.0.1:9901 (it remembers keys in clear)", listen)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("model serve: %w", err)
	}
	url := "http://" + l.Addr().String()
	if printURL {
		_, _ = fmt.Fprintln(c.env.Stdout, url)
	}
	c.note("%s\nlistening on %s", scriptmodel.Banner, url)
	hs := &http.Server{Handler: srv, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	go func() { stopped <- hs.Serve(l) }()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
	}
	srv.Close()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := hs.Shutdown(grace); err != nil {
		_ = hs.Close()
	}
	if err := <-stopped; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// readInput reads a file, or standard input for "-"; bounded, for a person writes it.
func (c *cli) readInput(name string) ([]byte, error) {
	const most = 4 << 20
	in := c.env.Stdin
	if name != "-" {
		f, err := os.Open(filepath.Clean(name))
		if err != nil {
			return nil, failf(exitUsage, "", "%w", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && len(b) > most {
		return nil, failf(exitData, "", "%s: more than %d bytes", name, most)
	}
	return b, err
}
