package command

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthCmd asks one page. An image without a shell and without curl can thus say how its process is.
func (c *cli) healthCmd() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "health URL", Short: "Ask one page of a process, such as its /readyz: 0 it answers 200, 1 it answers something else, 6 nobody answers",
		Example: "  agentctl health http://127.0.0.1:8800/readyz\n  agentctl health https://127.0.0.1:7700/readyz --ca-file people-ca.pem",
		Long: `Sends one GET without a token, follows no redirect, and prints the first line of the answer. For the health checks of containers and
supervisors.`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, words []string) error {
			u, err := url.Parse(words[0])
			if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
				return usagef("%q is no URL", words[0])
			}
			entry, err := c.currentContext()
			if err != nil {
				return err
			}
			roots, err := c.roots(entry)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return c.health(ctx, u, &http.Client{
				Transport:     &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, DisableKeepAlives: true},
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			})
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "give up after it")
	return cmd
}

func (c *cli) health(ctx context.Context, u *url.URL, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	switch {
	case err != nil && ctx.Err() != nil:
		return failf(exitTimeout, "", "%s: %w", u, ctx.Err())
	case err != nil:
		return failf(exitUnreachable, "", "%w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	first, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if resp.StatusCode != http.StatusOK {
		return failf(exitNo, "", "%s: %s: %s", u, resp.Status, first)
	}
	_, err = fmt.Fprintln(c.env.Stdout, first)
	return err
}
