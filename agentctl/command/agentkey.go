package command

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentry/agentry/internal/secret"
)

// agentKey is the key that an agent's doors ask for where its spec sets expose.auth: not the control plane's token.
type agentKey struct{ flag string }

const hintKey = "give a key of the agent (expose.auth in its spec) by AGENTCTL_AGENT_KEY or --key"

func (k *agentKey) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&k.flag, "key", "", "key of the agent's doors, where its spec has expose.auth (AGENTCTL_AGENT_KEY, which other users of this machine don't see)")
}

func (k agentKey) value(c *cli) secret.Value {
	return secret.NewValue(strings.TrimSpace(first(k.flag, c.env.Getenv("AGENTCTL_AGENT_KEY"))))
}

// authorize puts the key on a request to an instance; never where it could be read on the way.
func authorize(req *http.Request, key secret.Value) error {
	if key.IsZero() {
		return nil
	}
	if readable(req.URL) {
		return failf(exitUsage, "agentd serves TLS with --tls-cert and --tls-key", "a key is not sent over plain HTTP to %s", req.URL.Host)
	}
	req.Header.Set("Authorization", "Bearer "+key.Reveal())
	return nil
}

func readable(u *url.URL) bool { return u.Scheme != "https" && !loopback(u.Hostname()) }
