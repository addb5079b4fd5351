package fleet

import (
	"cmp"
	"slices"
	"strings"
)

// LatencyBuckets is how many buckets a latency histogram has; their bounds are fixed by push.proto.
const LatencyBuckets = 13

// Bounds of what is counted: an instance may send anything.
const (
	maxConfigsCounted = 8      // per agent; what the oldest counted goes on under the config ""
	maxAgentsCounted  = 20_000 // further agents are not counted
)

// Usage counts requests that ended.
type Usage struct {
	Requests     uint64
	Errors       uint64
	Latency      [LatencyBuckets]uint64
	InputTokens  uint64
	OutputTokens uint64
	CostUSD      float64
}

// ConfigUsage is what a beat counted since the last one, for one config such as "8-3f2a91c4".
type ConfigUsage struct {
	Config string
	Usage
}

// AgentUsage is what all instances of an agent counted with one config since this replica started, in beats to this replica: the sum
// over the replicas is the fleet's. Config "" holds what was counted with configs older than the last eight.
type AgentUsage struct {
	AgentKey

	Config string
	Usage
}

// counted is one agent's counters; the config that counted last stands last.
type counted struct {
	older   Usage
	hasOld  bool
	configs []ConfigUsage
}

func (u *Usage) add(o Usage) {
	u.Requests += o.Requests
	u.Errors += o.Errors
	u.InputTokens += o.InputTokens
	u.OutputTokens += o.OutputTokens
	u.CostUSD += o.CostUSD
	for i := range u.Latency {
		u.Latency[i] += o.Latency[i]
	}
}

// Used adds what a beat counted.
func (t *Table) Used(k Key, inFlight uint32, told []ConfigUsage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.live(k)
	if e == nil {
		return
	}
	e.inst.InFlight = inFlight
	t.tell(e)
	if len(told) == 0 {
		return
	}
	key := keyOf(k.ID.Namespace, k.ID.Agent)
	c := t.usage[key]
	if c == nil && len(t.usage) < maxAgentsCounted {
		c = &counted{}
		t.usage[key] = c
	}
	for _, u := range told {
		e.inst.Requests += u.Requests
		e.inst.Errors += u.Errors
		if c != nil {
			c.add(u)
		}
	}
}

func (c *counted) add(u ConfigUsage) {
	if u.Config == "" {
		c.older.add(u.Usage)
		c.hasOld = true
		return
	}
	at := slices.IndexFunc(c.configs, func(o ConfigUsage) bool { return o.Config == u.Config })
	if at >= 0 {
		sum := c.configs[at]
		sum.add(u.Usage)
		c.configs = append(slices.Delete(c.configs, at, at+1), sum)
		return
	}
	if len(c.configs) == maxConfigsCounted {
		c.older.add(c.configs[0].Usage)
		c.hasOld = true
		c.configs = slices.Delete(c.configs, 0, 1)
	}
	c.configs = append(c.configs, u)
}

// Usage gives the counters, sorted by namespace, agent and config. They outlive the instances.
func (t *Table) Usage() []AgentUsage {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []AgentUsage
	for key, c := range t.usage {
		if c.hasOld {
			out = append(out, AgentUsage{AgentKey: key, Usage: c.older})
		}
		for _, u := range c.configs {
			out = append(out, AgentUsage{AgentKey: key, Config: u.Config, Usage: u.Usage})
		}
	}
	slices.SortFunc(out, func(a, b AgentUsage) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(a.Config, b.Config))
	})
	return out
}

// Drifted records that an instance was found running something else than what it acknowledged.
func (t *Table) Drifted(k Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.live(k); e != nil {
		e.inst.Drifts++
		t.touch(e)
	}
}
