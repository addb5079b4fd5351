package command

import (
	"context"
	"errors"
	"fmt"
	"net/url"
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
The session lies in a file of mode 0600 beside the context file and ends after 12 hours; agentctl logout ends it at once. --context NAME
logs in to another context, and makes it where there is none.`,
		Example: "  agentctl login --server https://agentry.example.org:7700\n  agentctl login --device\n  agentctl login --with-token < token\n  agentctl login --bootstrap < bootstrap-token",
		Args:    args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (l.device && (l.withToken || l.bootstrap)) || (l.withToken && l.bootstrap) {
				return usagef("--device, --with-token and --bootstrap are three ways: one at a time")
			}
			return c.login(cmd.Context(), l)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&l.device, "device", false, "show a code to enter elsewhere, for a machine without a browser")
	f.BoolVar(&l.withToken, "with-token", false, "keep the API token on standard input")
	f.BoolVar(&l.bootstrap, "bootstrap", false, "spend the one-time bootstrap token on standard input for an administrator's token")
	return cmd
}

func (c *cli) login(ctx context.Context, l login) error {
	entry, err := c.loginContext()
	if err != nil {
		return err
	}
	// Who logs in isn't logged in: a spent or missing token in the way must not keep them out.
	cl, err := c.connectTo(entry, func(contextEntry, string, bool) (secret.Value, error) { return secret.Value{}, nil })
	if err != nil {
		return err
	}
	for _, u := range cl.servers.hosts() {
		if u.Scheme == "http" && !loopback(u.Hostname()) {
			return failf(exitUsage, "use https://", "nobody logs in over plain HTTP at %s", u.Host)
		}
	}
	var token secret.Value
	kind := mintedSession
	switch {
	case l.withToken:
		kind = givenSession
		token, err = c.givenToken("Token")
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
	if err != nil && !l.bootstrap {
		return err
	}
	// A bootstrap token is spent by now: what it was spent for is kept, whatever became of the question.
	former := secret.Value{}
	if entry.TokenFile == c.sessionPath(entry.Name, mintedSession) {
		former, _ = readToken(entry.TokenFile, "") // gone: nothing to end
	}
	if kept := c.keepSession(entry.Name, kind, cl, token); kept != nil || err != nil {
		return errors.Join(kept, err)
	}
	// Nobody holds the session that this one takes the place of any more: it must not go on counting.
	if former.Reveal() != token.Reveal() {
		if err := c.endSession(ctx, entry, former); err != nil {
			c.note("note: the former session could not be ended (%s); agentctl token list shows it", err)
		}
	}
	for _, name := range []string{"AGENTCTL_TOKEN", "AGENTRY_TOKEN_FILE"} {
		if c.env.Getenv(name) != "" {
			c.note("note: %s is set, and goes before this session", name)
		}
	}
	if c.flags.quiet {
		return c.did("name", who.Msg.GetCaller().GetName(), "")
	}
	return c.did("", "logged in as "+who.Msg.GetCaller().GetName(), "(context "+entry.Name+")")
}

// loginContext gives the context to log in to: the chosen one, which need not exist yet.
func (c *cli) loginContext() (contextEntry, error) {
	f, err := c.readContexts()
	if err != nil {
		return contextEntry{}, err
	}
	name := first(c.flags.context, c.env.Getenv("AGENTCTL_CONTEXT"), f.Current, "default")
	if e := f.find(name); e != nil {
		return *e, nil
	}
	return contextEntry{Name: name}, nil
}

// givenToken reads a token from standard input, or from a person without echo.
func (c *cli) givenToken(what string) (secret.Value, error) {
	raw, err := c.readValue("", what)
	if err != nil {
		return secret.Value{}, failf(exitUsage, "give it on standard input", "log in: %w", err)
	}
	return secret.NewValue(strings.TrimSpace(string(raw))), nil
}

func (c *cli) bootstrapToken(ctx context.Context, cl *client) (secret.Value, error) {
	given, err := c.givenToken("Bootstrap token")
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

// A session's file says by its ending whose token it holds: one that login itself got, and logout ends, or one that a person gave,
// who may use it elsewhere too.
const (
	mintedSession = ".session"
	givenSession  = ".token"
)

// sessionPath is where a context's session lies.
func (c *cli) sessionPath(name, kind string) string {
	return filepath.Join(filepath.Dir(c.contextPath()), "sessions", url.PathEscape(name)+kind)
}

// keepSession writes the token beside the context file and names it in the context, which is made where there is none.
func (c *cli) keepSession(name, kind string, cl *client, token secret.Value) error {
	return c.editContexts(func(f *contextFile) error {
		e := f.find(name)
		if e == nil {
			f.Contexts = append(f.Contexts, contextEntry{Name: name})
			e = &f.Contexts[len(f.Contexts)-1]
		}
		path := c.sessionPath(name, kind)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		tmp := path + ".tmp"
		_ = os.Remove(tmp) // one that was left behind may have another mode
		if err := os.WriteFile(tmp, []byte(token.Reveal()+"\n"), 0o600); err != nil {
			return err
		}
		if err := os.Rename(tmp, path); err != nil {
			return err
		}
		if former := e.TokenFile; former != path && c.ownSession(name, former) {
			_ = os.Remove(former)
		}
		e.Server, e.TokenFile = cl.server, path
		ca, err := absolute(first(c.flags.caFile, c.env.Getenv("AGENTCTL_CA_FILE"), e.CAFile))
		if err != nil {
			return err
		}
		e.CAFile = ca
		e.Namespace = first(c.flags.namespace, e.Namespace)
		f.Current = name
		return nil
	})
}

// ownSession says whether a context's token file is one that login wrote.
func (c *cli) ownSession(name, file string) bool {
	return file == c.sessionPath(name, mintedSession) || file == c.sessionPath(name, givenSession)
}

// absolute lets a context be used from any folder.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

func (c *cli) logoutCmd() *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "End the session, here and at the control plane",
		Long:    "An API token that was given by login --with-token is forgotten here and goes on counting: agentctl token revoke ends it.",
		Example: "  agentctl logout", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			entry, err := c.currentContext()
			if err != nil {
				return err
			}
			if entry.Name == "" || !c.ownSession(entry.Name, entry.TokenFile) {
				return failf(exitUsage, "agentctl token revoke ends an API token", "no session of agentctl login is kept in the current context")
			}
			var ended error
			if entry.TokenFile == c.sessionPath(entry.Name, mintedSession) {
				if token, gone := readToken(entry.TokenFile, ""); gone == nil {
					ended = c.endSession(cmd.Context(), entry, token)
				}
			}
			// One that couldn't be ended is forgotten here all the same, and the error told.
			err = c.editContexts(func(f *contextFile) error {
				if e := f.find(entry.Name); e != nil {
					e.TokenFile = ""
				}
				return nil
			})
			if rm := os.Remove(entry.TokenFile); rm != nil && !errors.Is(rm, os.ErrNotExist) {
				err = errors.Join(err, rm)
			}
			if err != nil {
				return fmt.Errorf("log out: %w", err)
			}
			if ended != nil {
				return fmt.Errorf("forgotten here, but not ended at the control plane: %w", ended)
			}
			return c.did("", "logged out", "(context "+entry.Name+")")
		},
	}
}

// endSession ends a session at its own server, whatever else the environment names. One that counts no more is as good as ended.
func (c *cli) endSession(ctx context.Context, entry contextEntry, token secret.Value) error {
	if token.IsZero() {
		return nil
	}
	at := &cli{env: c.env, flags: globalFlags{server: entry.Server, caFile: c.flags.caFile}}
	cl, err := at.connectTo(entry, func(contextEntry, string, bool) (secret.Value, error) { return token, nil })
	if err != nil {
		return err
	}
	if _, err = cl.access.Logout(ctx, connect.NewRequest(&accessv1.LogoutRequest{})); connect.CodeOf(err) == connect.CodeUnauthenticated {
		return nil
	}
	return err
}
