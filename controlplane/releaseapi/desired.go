package releaseapi

import (
	"errors"
	"sync"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/phase"
)

// desired remembers the config that each agent is meant to run, or why there is none, until a change touches the agent: resolving it for every
// agent at every look would cost more than all the rest of a status.
type desired struct {
	resolve func(namespace, agent string) (fleet.Ref, error)
	changes *view.Subscription // as long as the process

	mu      sync.Mutex                 // guards configs, and orders looking at changes before resolving
	configs map[view.AgentKey]resolved // at most one per agent
}

// resolved is one of the two: config is "" where the spec doesn't resolve.
type resolved struct {
	config string
	broken *phase.Fault
}

func newDesired(cfg Config) *desired {
	return &desired{resolve: cfg.Desired, changes: cfg.View.Subscribe(), configs: map[view.AgentKey]resolved{}}
}

// of names what an agent is meant to run, or says why that doesn't resolve.
func (d *desired) of(namespace, agent string) resolved {
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
	var c resolved
	if ref, err := d.resolve(namespace, agent); err != nil {
		c.broken = brokenBy(agent, err)
	} else {
		c.config = ref.Config()
	}
	d.configs[k] = c
	return c
}

// brokenBy is the fault of an agent whose config can't be built. Its instances keep what they run and can't know of it.
func brokenBy(agent string, err error) *phase.Fault {
	f := &phase.Fault{Resource: "agent/" + agent, Code: phase.Invalid, Severity: phase.Error, Message: "config can't be built: " + err.Error()}
	var dangling *snapshot.DanglingError
	if errors.As(err, &dangling) {
		f.Field, f.Message = dangling.Field, "config can't be built: "+dangling.Resource+" "+dangling.Reason
	}
	return f
}

// broken gives why an agent's config can't be built; nil where it can.
func (s *Service) broken(namespace string, head view.AgentHead) *phase.Fault {
	if head.Deleted {
		return nil
	}
	if r := s.desired.of(namespace, head.Name); r.broken != nil {
		return r.broken
	}
	// What is meant for all resolves; what is offered to some of them may not, such as stable beside a candidate.
	if note := s.cfg.Note(namespace, head.Name); note != "" {
		return brokenBy(head.Name, errors.New(note))
	}
	return nil
}
