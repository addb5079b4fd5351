package releaseapi

import (
	"sync"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/view"
)

// desired remembers the config that each agent is meant to run until a change touches the agent: resolving it for every
// agent at every look would cost more than all the rest of a status.
type desired struct {
	resolve func(namespace, agent string) (fleet.Ref, error)
	changes *view.Subscription // as long as the process

	mu      sync.Mutex               // guards configs, and orders looking at changes before resolving
	configs map[view.AgentKey]string // at most one per agent
}

func newDesired(cfg Config) *desired {
	return &desired{resolve: cfg.Desired, changes: cfg.View.Subscribe(), configs: map[view.AgentKey]string{}}
}

// config names what an agent is meant to run; "" where that doesn't resolve.
func (d *desired) config(namespace, agent string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.changes.C:
		touched, _ := d.changes.Take()
		for _, k := range touched {
			delete(d.configs, k)
		}
	default:
	}
	k := view.AgentKey{Namespace: namespace, Name: agent}
	if c, ok := d.configs[k]; ok {
		return c
	}
	c := ""
	if ref, err := d.resolve(namespace, agent); err == nil {
		c = ref.Config()
	}
	d.configs[k] = c
	return c
}
