package app

import (
	"flag"
	"fmt"
	"strings"

	"github.com/agentry/agentry/controlplane/store/etcdstore"
)

// Cluster says of which cluster the embedded etcd is a member. Everything but Name is the same at every control plane.
type Cluster struct {
	// Members are all of them; none: the embedded etcd is alone.
	Members []etcdstore.ClusterMember
	// Name is this one's.
	Name string
	// CA, Cert and Key are the files of mutual TLS among the members. They may be missing where all are on the loopback.
	CA, Cert, Key string
}

func (c *Cluster) flags(fs *flag.FlagSet) {
	fs.Func("cluster", "comma-separated `members` (NAME=HOST:PORT) whose embedded etcds keep one store together, the same at each; three as a rule", func(text string) error {
		c.Members = nil
		for m := range strings.SplitSeq(text, ",") {
			if m = strings.TrimSpace(m); m == "" {
				continue
			}
			name, addr, ok := strings.Cut(m, "=")
			if !ok {
				return fmt.Errorf("%q (NAME=HOST:PORT)", m)
			}
			c.Members = append(c.Members, etcdstore.ClusterMember{Name: name, Address: addr})
		}
		return nil
	})
	fs.StringVar(&c.Name, "cluster-name", "", "this member's `name` in --cluster")
	fs.StringVar(&c.CA, "cluster-ca", "", "CA `file` that the members' certificates come from")
	fs.StringVar(&c.Cert, "cluster-cert", "", "certificate `file` of this member towards the others, for both sides of a connection")
	fs.StringVar(&c.Key, "cluster-key", "", "key `file` of the member's certificate")
}

func (c Cluster) on() bool { return len(c.Members) > 0 }

// check finds what belongs together; the list itself is checked where it is used.
func (c Cluster) check(of Config, fault func(string, ...any)) {
	switch {
	case !c.on() && c.Name+c.CA+c.Cert+c.Key != "":
		fault("--cluster-name, --cluster-ca, --cluster-cert and --cluster-key need --cluster")
	case !c.on():
		return
	case len(of.EtcdEndpoints) > 0:
		fault("--cluster: the embedded etcd isn't used with --etcd-endpoints; leave one of them out")
	case of.KEKFile == "":
		fault("--cluster: the members seal with one key, so each needs --kek-file with the same content (make it once: umask 077; head -c 32 /dev/urandom | base64 > FILE)")
	}
	if err := c.store(etcdstore.EmbeddedConfig{}).Check(); err != nil {
		fault("--cluster: %w", err)
	}
}

// store gives the adapter's settings.
func (c Cluster) store(in etcdstore.EmbeddedConfig) etcdstore.ClusterConfig {
	return etcdstore.ClusterConfig{EmbeddedConfig: in, Name: c.Name, Members: c.Members, CAFile: c.CA, CertFile: c.Cert, KeyFile: c.Key}
}
