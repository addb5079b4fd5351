package app

import (
	"context"
	"flag"
	"strings"

	"github.com/agentry/agentry/controlplane/probe"
	"github.com/agentry/agentry/internal/egress"
)

// egressFlags adds what the control plane may connect to beyond public addresses.
func egressFlags(fs *flag.FlagSet, policy **egress.Policy) {
	fs.Func("egress-allow", "comma-separated `list` of what probes may connect to beyond public addresses: CIDR, address, host, host:port, "+
		"loopback or private, each with an optional NAMESPACE= before it", func(list string) error {
		p, err := parseEgress(list)
		if err == nil {
			*policy = p
		}
		return err
	})
}

func parseEgress(list string) (*egress.Policy, error) {
	var items []string
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return egress.ParsePolicy(items...)
}

// guardedProbe looks at servers as far as the namespace whose probe it is may go.
func guardedProbe(policy *egress.Policy) func(context.Context, probe.Target) probe.Result {
	return func(ctx context.Context, t probe.Target) probe.Result {
		t.Egress = egress.New(egress.Config{Policy: policy.For(t.Namespace)})
		return probe.Run(ctx, t)
	}
}
