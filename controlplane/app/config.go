package app

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/version"
)

// Config is what a user sets. Flags win over AGENTRY_* variables of the same name, those over the defaults.
type Config struct {
	// DataDir holds the embedded etcd, the token file and, without KEKFile, the key file.
	DataDir string
	// PeopleAddr and RuntimeAddr are host:port; port 0 chooses one (see InfoFile).
	PeopleAddr  string
	RuntimeAddr string
	// Advertise is where others reach the doors.
	Advertise Advertise
	// PeopleTLS lets the people door be reached from elsewhere.
	PeopleTLS PeopleTLS
	// EtcdEndpoints replaces the embedded etcd. The three files are for TLS towards it.
	EtcdEndpoints []string
	EtcdCA        string
	EtcdCert      string
	EtcdKey       string
	// Cluster makes the embedded etcd one of several members.
	Cluster Cluster
	// KEKFile is the key-encryption key; empty: "kek" in DataDir, made at the first start.
	KEKFile   string
	LogLevel  string // debug, info (default), warn, error
	LogFormat string // text (default) or json
	// InfoFile, when set, gets {"people","runtime","pid"}, and "tokenFile" where that counts, once the doors are open.
	InfoFile string
	// PprofAddr, when set, is the loopback host:port on which Go's profiles are served.
	PprofAddr string
	// Egress is what may be connected to beyond public addresses; nil: nothing.
	Egress *egress.Policy
	// Access is how people prove who they are.
	Access Access
	// Identity is how instances prove who they are.
	Identity Identity
	// Rates bound what is asked at the people door.
	Rates Rates
	// Audit says where audit entries go beside the store.
	Audit AuditConfig
	// Timing is for tests.
	Timing Timing
	// Version is what Info answers.
	Version string
}

// Default gives the defaults under an environment.
func Default(env func(string) string) Config {
	return Config{
		DataDir:     defaultDataDir(env),
		PeopleAddr:  "127.0.0.1:7700",
		RuntimeAddr: "127.0.0.1:7701",
		LogLevel:    "info",
		LogFormat:   "text",
		Access:      accessDefaults(),
		Identity:    defaultIdentity(),
		Rates:       defaultRates(),
		Timing:      timing(env),
		Version:     version.String(),
	}
}

func defaultDataDir(env func(string) string) string {
	if state := env("XDG_STATE_HOME"); state != "" {
		return filepath.Join(state, "agentry")
	}
	return filepath.Join(env("HOME"), ".local", "state", "agentry")
}

// ParseConfig reads arguments and environment. flag.ErrHelp means that help was asked for and printed to out.
func ParseConfig(args []string, env func(string) string, out io.Writer) (Config, error) {
	c := Default(env)
	var endpoints string
	fs := flag.NewFlagSet("controlplane", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.StringVar(&c.DataDir, "data-dir", c.DataDir, "`directory` of the embedded etcd, the token and the key file")
	fs.StringVar(&c.PeopleAddr, "people-addr", c.PeopleAddr, "`address` of the people door: API for agentctl, browsers, curl")
	c.PeopleTLS.flags(fs)
	c.Advertise.flags(fs)
	fs.StringVar(&c.RuntimeAddr, "runtime-addr", c.RuntimeAddr, "`address` of the runtime door: streams of agentd")
	fs.StringVar(&endpoints, "etcd-endpoints", "", "comma-separated `URLs` of an etcd to use instead of the embedded one")
	fs.StringVar(&c.EtcdCA, "etcd-ca", "", "CA `file` for the etcd endpoints")
	fs.StringVar(&c.EtcdCert, "etcd-cert", "", "client certificate `file` for the etcd endpoints")
	fs.StringVar(&c.EtcdKey, "etcd-key", "", "client key `file` for the etcd endpoints")
	c.Cluster.flags(fs)
	fs.StringVar(&c.KEKFile, "kek-file", "", "key `file` (0600) that sealed secrets need; default: kek in the data directory, made at the first start")
	fs.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
	fs.StringVar(&c.LogFormat, "log-format", c.LogFormat, "text or json")
	fs.StringVar(&c.PprofAddr, "pprof-addr", "", "loopback `address` that serves Go's profiles to whoever asks; default: none")
	fs.StringVar(&c.InfoFile, "info-file", "", "`file` that gets the chosen addresses as JSON once the doors are open")
	egressFlags(fs, &c.Egress)
	accessFlags(fs, &c.Access)
	rateFlags(fs, &c.Rates)
	auditFlags(fs, &c.Audit, env)
	identityFlags(fs, &c.Identity)
	var envErr error
	fs.VisitAll(func(f *flag.Flag) {
		name := "AGENTRY_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v := env(name); v != "" {
			if err := fs.Set(f.Name, v); err != nil {
				envErr = errors.Join(envErr, fmt.Errorf("%s: %w", name, err))
			}
		}
	})
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(out)
		_, _ = fmt.Fprint(out, "controlplane keeps agent specs and streams them to instances of agentd.\n\nFlags (each also as AGENTRY_<NAME>, such as AGENTRY_DATA_DIR):\n")
		fs.PrintDefaults()
	}
	if err != nil {
		return Config{}, err
	}
	if envErr != nil {
		return Config{}, envErr
	}
	if fs.NArg() > 0 {
		return Config{}, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	for e := range strings.SplitSeq(endpoints, ",") {
		if e = strings.TrimSpace(e); e != "" {
			c.EtcdEndpoints = append(c.EtcdEndpoints, e)
		}
	}
	return c, c.Validate()
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.DataDir == "" {
		fault("--data-dir: must not be empty")
	}
	c.PeopleTLS.check(c.PeopleAddr, fault)
	c.Advertise.check(fault)
	if _, port, err := net.SplitHostPort(c.RuntimeAddr); err != nil || port == "" {
		fault("--runtime-addr: %q (host:port)", c.RuntimeAddr)
	}
	if c.PprofAddr != "" {
		checkLoopback("--pprof-addr", c.PprofAddr, fault)
	}
	if c.PeopleAddr == c.RuntimeAddr && !strings.HasSuffix(c.PeopleAddr, ":0") {
		fault("--runtime-addr: %s is the people door's address too", c.RuntimeAddr)
	}
	if len(c.EtcdEndpoints) == 0 && c.EtcdCA+c.EtcdCert+c.EtcdKey != "" {
		fault("--etcd-ca, --etcd-cert and --etcd-key need --etcd-endpoints")
	}
	if (c.EtcdCert == "") != (c.EtcdKey == "") {
		fault("--etcd-cert and --etcd-key belong together")
	}
	c.Cluster.check(c, fault)
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		fault("--log-level: %q (debug, info, warn or error)", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		fault("--log-format: %q (text or json)", c.LogFormat)
	}
	c.Access.check(fault)
	c.Rates.check(fault)
	faults = append(faults, c.Identity.faults()...)
	return errors.Join(append(faults, c.Timing.faults()...)...)
}

// checkLoopback holds semantics.md 13: a door without TLS binds the loopback only.
func checkLoopback(flagName, addr string, fault func(string, ...any)) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		fault("%s: %q (host:port)", flagName, addr)
		return
	}
	if host == "localhost" {
		return
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.IsLoopback() {
		fault("%s: %s is not a loopback address, and without TLS only the loopback may be bound (127.0.0.1, [::1] or localhost)", flagName, addr)
	}
}

// Env reads the process environment.
func Env(name string) string { return os.Getenv(name) }
