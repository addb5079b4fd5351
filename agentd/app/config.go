package app

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/agentd/configclient"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/rpc"
	"github.com/agentry/agentry/internal/spec"
)

// Config is what a user sets: flags win over the environment, that over the defaults (semantics.md 4).
type Config struct {
	Agent        string   // AGENT_NAME
	Namespace    string   // AGENT_NAMESPACE, default "default"
	ControlPlane []string // CONTROL_PLANE, several by comma, default 127.0.0.1:7701
	Listen       string   // AGENTD_LISTEN, default 127.0.0.1:8800; port 0 chooses one
	Advertise    string   // AGENTD_ADVERTISE: where others reach this instance; empty: the address listened on
	TLSCert      string   // AGENTD_TLS_CERT, a PEM file; with TLSKey the door speaks TLS, which it must where others reach it
	TLSKey       string   // AGENTD_TLS_KEY
	Instance     string   // AGENTD_INSTANCE_ID; empty: one made in the state directory
	StateDir     string   // default agentd/NAMESPACE/AGENT in the data directory
	StateKeyFile string   // AGENTD_STATE_KEY_FILE
	Persist      configclient.PersistSecrets
	// ApplyDeadline bounds one attempt to assemble a config, default 10 s.
	ApplyDeadline time.Duration
	// BeatInterval is how often the instance says that it lives and what it counted, 15 s jittered (AGENTD_BEAT_INTERVAL). The control
	// plane takes 45 s of silence for STALE, so only tests change it.
	BeatInterval time.Duration
	// DrainTimeout bounds the wait for running requests when agentd ends, default 8 s.
	DrainTimeout time.Duration
	Identity     Identity
	ModelBaseURL string // AGENTD_MODEL_BASE_URL
	// Egress is what may be connected to beyond public addresses (AGENTD_EGRESS_ALLOW), the host of ModelBaseURL included; nil: nothing.
	Egress *egress.Policy
	// InternalPush lets push notifications go to what Egress allows; else they reach public addresses only (--allow-internal-push).
	InternalPush  bool
	LogLevel      string
	LogFormat     string
	InfoFile      string
	PprofAddr     string // where Go's profiles are served; empty: nowhere
	ForgetCluster bool
	ShowVersion   bool

	// Lookup gives the environment to the telemetry exporters, which have standard variables of their own.
	Lookup func(string) string

	dataDir string
}

// Default gives the defaults under an environment.
func Default(env func(string) string) Config {
	data := filepath.Join(env("HOME"), ".local", "state", "agentry")
	if state := env("XDG_STATE_HOME"); state != "" {
		data = filepath.Join(state, "agentry")
	}
	c := Config{
		Agent: env("AGENT_NAME"), Namespace: "default", ControlPlane: []string{"127.0.0.1:7701"}, Listen: "127.0.0.1:8800",
		Advertise: env("AGENTD_ADVERTISE"), Instance: env("AGENTD_INSTANCE_ID"), StateKeyFile: env("AGENTD_STATE_KEY_FILE"),
		Persist: configclient.PersistSealed, ApplyDeadline: 10 * time.Second, DrainTimeout: 8 * time.Second, BeatInterval: 15 * time.Second,
		Identity: defaultIdentity(env), ModelBaseURL: env("AGENTD_MODEL_BASE_URL"), LogLevel: "info", LogFormat: "text", Lookup: env,
	}
	for name, into := range map[string]*string{
		"AGENT_NAMESPACE": &c.Namespace, "AGENTD_LISTEN": &c.Listen, "AGENTD_TLS_CERT": &c.TLSCert, "AGENTD_TLS_KEY": &c.TLSKey,
	} {
		if v := env(name); v != "" {
			*into = v
		}
	}
	if v := env("CONTROL_PLANE"); v != "" {
		c.ControlPlane = split(v)
	}
	if v := env("AGENTD_BEAT_INTERVAL"); v != "" {
		c.BeatInterval, _ = time.ParseDuration(v) // what can't be read is 0, which Validate refuses
	}
	c.dataDir = data
	return c
}

func split(list string) []string {
	var out []string
	for s := range strings.SplitSeq(list, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// ParseConfig reads arguments and environment. flag.ErrHelp means that help was asked for and printed to out.
func ParseConfig(args []string, env func(string) string, out io.Writer) (Config, error) {
	c := Default(env)
	control, persist, allow := strings.Join(c.ControlPlane, ","), string(c.Persist), env("AGENTD_EGRESS_ALLOW")
	fs := flag.NewFlagSet("agentd", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Usage = func() {
		_, _ = fmt.Fprint(out, "agentd runs one agent as the control plane says.\n\n"+
			"  AGENT_NAME=mse-nacos-helper CONTROL_PLANE=127.0.0.1:7701 AGENTD_JOIN_TOKEN=agj_... agentd\n\n"+
			"The join token is for the first start: `agentctl identity join-token create mse-nacos-helper` makes one. Other proofs for it are\n"+
			"AGENTD_KUBERNETES_TOKEN_FILE, or AGENTD_X509POP_CERT with AGENTD_X509POP_KEY, each with --roots-file. Later starts go by the\n"+
			"identity in the state directory.\n\nFlags:\n")
		fs.PrintDefaults()
	}
	fs.StringVar(&c.Agent, "agent", c.Agent, "`name` of the agent to run (AGENT_NAME)")
	fs.StringVar(&c.Namespace, "namespace", c.Namespace, "`namespace` of the agent (AGENT_NAMESPACE)")
	fs.StringVar(&control, "control-plane", control, "`addresses` of the control plane, by comma (CONTROL_PLANE)")
	fs.StringVar(&c.Listen, "listen", c.Listen, "`address` of the door; port 0 chooses one (AGENTD_LISTEN)")
	fs.StringVar(&c.TLSCert, "tls-cert", c.TLSCert, "`file` (PEM) with the door's certificate and its chain; a new one counts without a restart (AGENTD_TLS_CERT)")
	fs.StringVar(&c.TLSKey, "tls-key", c.TLSKey, "`file` (PEM) with the certificate's key (AGENTD_TLS_KEY)")
	fs.StringVar(&c.StateDir, "state-dir", c.StateDir, "`directory` for the last good config; each instance needs its own")
	fs.StringVar(&persist, "persist-secrets", persist, "sealed, or none: credential values are not written, and no start without the control plane")
	identityFlags(fs, &c.Identity)
	fs.DurationVar(&c.ApplyDeadline, "apply-deadline", c.ApplyDeadline, "how long one attempt to assemble a config may take")
	fs.DurationVar(&c.DrainTimeout, "drain-timeout", c.DrainTimeout, "how long running requests are waited for at the end")
	fs.StringVar(&c.ModelBaseURL, "model-base-url", c.ModelBaseURL, "`URL` to call instead of every spec's model.baseUrl (AGENTD_MODEL_BASE_URL)")
	fs.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
	fs.StringVar(&c.LogFormat, "log-format", c.LogFormat, "text or json")
	fs.StringVar(&c.InfoFile, "info-file", "", "`file` that gets address, instance and pid as JSON once the door is open")
	fs.StringVar(&c.PprofAddr, "pprof-addr", "", "loopback `address` that serves Go's profiles to whoever asks; default: none")
	fs.BoolVar(&c.ForgetCluster, "forget-cluster", false, "drop the last good config and all that was learnt from its cluster, then start")
	fs.BoolVar(&c.InternalPush, "allow-internal-push", env("AGENTD_ALLOW_INTERNAL_PUSH") == "true", "let A2A push notifications go where --egress-allow says, beyond public addresses (AGENTD_ALLOW_INTERNAL_PUSH)")
	fs.BoolVar(&c.ShowVersion, "version", false, "print the version and end")
	fs.StringVar(&allow, "egress-allow", allow, "comma-separated `list` of what may be connected to beyond public addresses: CIDR, address, host, host:port, loopback or private (AGENTD_EGRESS_ALLOW)")
	if err := fs.Parse(args); err != nil {
		return Config{}, err
	}
	if fs.NArg() > 0 {
		return Config{}, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if c.ShowVersion {
		return c, nil
	}
	c.ControlPlane, c.Persist = split(control), configclient.PersistSecrets(persist)
	policy, err := egress.ParsePolicy(split(allow)...)
	if err != nil {
		return Config{}, fmt.Errorf("--egress-allow: %w", err)
	}
	if c.Egress = policy.For(c.Namespace); c.ModelBaseURL != "" {
		c.Egress = c.Egress.WithURL(c.ModelBaseURL)
	}
	if c.StateDir == "" {
		c.StateDir = filepath.Join(c.dataDir, "agentd", c.Namespace, c.Agent)
	}
	return c, c.Validate()
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch {
	case c.Agent == "":
		fault("AGENT_NAME: must name the agent to run")
	case !spec.ValidName(c.Agent):
		fault("AGENT_NAME: %q is no name (letters, digits, - _ . inside, at most 64)", c.Agent)
	}
	if !spec.ValidName(c.Namespace) {
		fault("AGENT_NAMESPACE: %q is no name (letters, digits, - _ . inside, at most 64)", c.Namespace)
	}
	if len(c.ControlPlane) == 0 {
		fault("CONTROL_PLANE: must hold at least one host:port")
	}
	if err := rpc.RequireLoopback(c.Listen); err != nil && c.TLSCert == "" {
		fault("--listen: %w (--tls-cert and --tls-key)", err)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		fault("--tls-cert and --tls-key: one is no use without the other")
	}
	if c.PprofAddr != "" {
		if err := rpc.RequireLoopback(c.PprofAddr); err != nil {
			fault("--pprof-addr: %w", err)
		}
	}
	if c.StateDir == "" {
		fault("--state-dir: must not be empty")
	}
	if c.Persist != configclient.PersistSealed && c.Persist != configclient.PersistNone {
		fault("--persist-secrets: %q (sealed or none)", c.Persist)
	}
	if c.ApplyDeadline <= 0 {
		fault("--apply-deadline: %s (above 0)", c.ApplyDeadline)
	}
	if c.BeatInterval < 100*time.Millisecond || c.BeatInterval > 30*time.Second {
		fault("AGENTD_BEAT_INTERVAL: must be a duration from 100ms to 30s")
	}
	if c.DrainTimeout < 0 {
		fault("--drain-timeout: %s (not negative)", c.DrainTimeout)
	}
	if err := c.Identity.Proof.Check(); err != nil {
		faults = append(faults, err)
	}
	if u, err := url.Parse(c.ModelBaseURL); c.ModelBaseURL != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		fault("--model-base-url: %q (an http or https URL)", c.ModelBaseURL)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		fault("--log-level: %q (debug, info, warn or error)", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		fault("--log-format: %q (text or json)", c.LogFormat)
	}
	return errors.Join(faults...)
}
