package netns

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// table is the one that holds a host's rules.
const table = "agentry"

// Way is what of a host's packets a rule is about.
type Way string

// The ways.
const (
	In   Way = "in"   // what comes from the peers
	Out  Way = "out"  // what goes to them
	Both Way = "both" // either
)

// Cut drops every packet between a host and peers, one way or both. Connections stay, and nothing comes through. It takes the place of
// the host's rules before.
func (h *Host) Cut(ctx context.Context, w Way, peers ...*Host) error {
	return h.rules(ctx, w, "", peers)
}

// Lose drops a percentage of the packets between a host and peers, at random. It takes the place of the host's rules before.
func (h *Host) Lose(ctx context.Context, percent int, w Way, peers ...*Host) error {
	return h.rules(ctx, w, fmt.Sprintf("numgen random mod 100 < %d ", percent), peers)
}

func (h *Host) rules(ctx context.Context, w Way, which string, peers []*Host) error {
	var ips []string
	for _, p := range peers {
		if p != h {
			ips = append(ips, p.IP)
		}
	}
	if len(ips) == 0 {
		return nil
	}
	set := "{ " + strings.Join(ips, ", ") + " }"
	rule := func(on bool, field string) string {
		if !on {
			return ""
		}
		return "ip " + field + " " + set + " " + which + "counter drop"
	}
	text := fmt.Sprintf(`
table ip %[1]s
delete table ip %[1]s
table ip %[1]s {
	chain come { type filter hook input priority 0; policy accept; %[2]s
	}
	chain go { type filter hook output priority 0; policy accept; %[3]s
	}
}
`, table, rule(w != Out, "saddr"), rule(w != In, "daddr"))
	_, err := output(ctx, text, "ip", "netns", "exec", h.ns, "nft", "-f", "-")
	return err
}

// Heal takes the host's rules away and tells how many packets they dropped.
func (h *Host) Heal(ctx context.Context) (dropped int64, err error) {
	out, err := output(ctx, "", "ip", "netns", "exec", h.ns, "nft", "-j", "list", "table", "ip", table)
	if err != nil {
		return 0, err
	}
	if dropped, err = counted(out); err != nil {
		return 0, err
	}
	return dropped, run(ctx, "ip", "netns", "exec", h.ns, "nft", "delete", "table", "ip", table)
}

// counted sums the counters of what nft shows as JSON.
func counted(out []byte) (int64, error) {
	var shown struct {
		Items []struct {
			Rule struct {
				Expr []struct {
					Counter struct {
						Packets int64 `json:"packets"`
					} `json:"counter"`
				} `json:"expr"`
			} `json:"rule"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(out, &shown); err != nil {
		return 0, fmt.Errorf("what nft shows: %w", err)
	}
	var sum int64
	for _, item := range shown.Items {
		for _, e := range item.Rule.Expr {
			sum += e.Counter.Packets
		}
	}
	return sum, nil
}
