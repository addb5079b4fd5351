package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/internal/secret"
)

// login holds the flags of the command.
type login struct {
	device, withToken, bootstrap bool
}

func (c *cli) loginCmd() *cobra.Command {
	var l login
	cmd := &cobra.Command{
		Use: "login", Short: "Log in and keep the session in the current context",
		Long: `Without a flag, by the OIDC provider of the control plane in a browser (authorization code with PKCE, answered on a port of this
machine). On a machine without a browser: --device. With an API token or the one-time bootstrap token on standard input: --with-token, --bootstrap.
The session lies in a file of mode 0600 beside the context file and ends after 12 hours; agentctl logout ends it at once.`,
		Example: "  agentctl login --server https://agentry.example.org:7700\n  agentctl login --device\n  agentctl login --with-token < token\n  agentctl login --bootstrap < bootstrap-token",
		Args:    args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			cl.caller.token = secret.Value{} // who logs in isn't logged in: a spent token in the way would be refused
			ctx := cmd.Context()
			var token secret.Value
			switch {
			case l.withToken:
				token, err = c.givenToken()
			case l.bootstrap:
				token, err = c.bootstrapToken(ctx, cl)
			default:
				token, err = c.oidcSession(ctx, cl, l.device)
			}
			if err != nil {
				return err
			}
			cl.caller.token = token
			who, err := cl.access.WhoAmI(ctx, connect.NewRequest(&accessv1.WhoAmIRequest{}))
			if err != nil {
				return err
			}
			name, err := c.keepSession(cl, token)
			if err != nil {
				return err
			}
			return c.did("", "logged in as "+who.Msg.GetCaller().GetName(), "(context "+name+")")
		},
	}
	f := cmd.Flags()
	f.BoolVar(&l.device, "device", false, "show a code to enter elsewhere, for a machine without a browser")
	f.BoolVar(&l.withToken, "with-token", false, "keep the API token on standard input")
	f.BoolVar(&l.bootstrap, "bootstrap", false, "spend the one-time bootstrap token on standard input for an administrator's token")
	cmd.MarkFlagsMutuallyExclusive("device", "with-token", "bootstrap")
	return cmd
}

// givenToken reads a token from standard input, or from a person without echo.
func (c *cli) givenToken() (secret.Value, error) {
	raw, err := c.readValue("", "token")
	if err != nil {
		return secret.Value{}, err
	}
	return secret.NewValue(strings.TrimSpace(string(raw))), nil
}

func (c *cli) bootstrapToken(ctx context.Context, cl *client) (secret.Value, error) {
	given, err := c.givenToken()
	if err != nil {
		return secret.Value{}, err
	}
	resp, err := cl.access.Bootstrap(ctx, connect.NewRequest(&accessv1.BootstrapRequest{BootstrapToken: given.Reveal()}))
	if err != nil {
		return secret.Value{}, err
	}
	return secret.NewValue(resp.Msg.GetToken()), nil
}

// oidcSession gets an ID token of the provider and exchanges it for a session.
func (c *cli) oidcSession(ctx context.Context, cl *client, device bool) (secret.Value, error) {
	info, err := cl.access.LoginInfo(ctx, connect.NewRequest(&accessv1.LoginInfoRequest{}))
	if err != nil {
		return secret.Value{}, err
	}
	if info.Msg.GetIssuer() == "" {
		hint := "log in with an API token: agentctl login --with-token < token"
		if info.Msg.GetBootstrap() {
			hint = "this control plane waits for its first administrator: agentctl login --bootstrap < bootstrap-token (in its data directory)"
		}
		return secret.Value{}, failf(exitPermission, hint, "the control plane at %s has no OIDC provider", cl.server)
	}
	p, err := newProvider(ctx, info.Msg)
	if err != nil {
		return secret.Value{}, err
	}
	req := &accessv1.LoginRequest{}
	if device {
		req.IdToken, err = p.byDevice(ctx, c)
	} else {
		req.IdToken, req.Nonce, err = p.byBrowser(ctx, c)
	}
	if err != nil {
		return secret.Value{}, err
	}
	resp, err := cl.access.Login(ctx, connect.NewRequest(req))
	if err != nil {
		return secret.Value{}, err
	}
	return secret.NewValue(resp.Msg.GetToken()), nil
}

// sessionPath is where a context's session lies.
func (c *cli) sessionPath(context string) string {
	return filepath.Join(filepath.Dir(c.contextPath()), "sessions", context)
}

// keepSession writes the token beside the context file and names it in the context, which is made where there is none.
func (c *cli) keepSession(cl *client, token secret.Value) (name string, err error) {
	err = c.editContexts(func(f *contextFile) error {
		name = first(c.flags.context, c.env.Getenv("AGENTCTL_CONTEXT"), f.Current, "default")
		e := f.find(name)
		if e == nil {
			f.Contexts = append(f.Contexts, contextEntry{Name: name})
			e = &f.Contexts[len(f.Contexts)-1]
		}
		path := c.sessionPath(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		tmp := path + ".tmp"
		if err := os.WriteFile(tmp, []byte(token.Reveal()+"\n"), 0o600); err != nil {
			return err
		}
		if err := os.Rename(tmp, path); err != nil {
			return err
		}
		e.Server, e.TokenFile = cl.server, path
		e.CAFile = first(c.flags.caFile, c.env.Getenv("AGENTCTL_CA_FILE"), e.CAFile)
		f.Current = name
		return nil
	})
	return name, err
}

func (c *cli) logoutCmd() *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "End the session, here and at the control plane", Example: "  agentctl logout", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			entry, err := c.currentContext()
			if err != nil {
				return err
			}
			path := c.sessionPath(entry.Name)
			if entry.Name == "" || entry.TokenFile != path {
				return failf(exitUsage, "agentctl token revoke ends an API token", "no session of agentctl login is kept in the current context")
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			// One that counts no more is as good as ended; one that couldn't be ended is still forgotten here, and the error told.
			_, ended := cl.access.Logout(cmd.Context(), connect.NewRequest(&accessv1.LogoutRequest{}))
			if connect.CodeOf(ended) == connect.CodeUnauthenticated {
				ended = nil
			}
			err = c.editContexts(func(f *contextFile) error {
				if e := f.find(entry.Name); e != nil {
					e.TokenFile = ""
				}
				return nil
			})
			if rm := os.Remove(path); rm != nil && !errors.Is(rm, os.ErrNotExist) {
				err = errors.Join(err, rm)
			}
			if err = errors.Join(err, ended); err != nil {
				return fmt.Errorf("log out: %w", err)
			}
			return c.did("", "logged out", "(context "+entry.Name+")")
		},
	}
}
