package app

import (
	"net/http"
	"strings"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/door/mcpdoor"
	"github.com/agentry/agentry/agentd/door/restdoor"
	"github.com/agentry/agentry/agentd/task/intask"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/version"
)

// mount puts the REST, the MCP and the A2A door behind the front; the agent's card stands before it.
func (d *daemon) mount(mux *http.ServeMux, guard *front.Front) error {
	rest, err := restdoor.New(restdoor.Config{Runner: d.runner, Propagator: d.tracing.Propagator})
	if err != nil {
		return err
	}
	for _, p := range restdoor.Patterns() {
		mux.Handle(p, d.open(guard, rest, restdoor.Refuse))
	}
	mcp, err := mcpdoor.New(mcpdoor.Config{Runner: d.runner, Agent: d.cfg.Agent, Version: version.String(), Propagator: d.tracing.Propagator})
	if err != nil {
		return err
	}
	mux.Handle(mcpdoor.Path, d.open(guard, mcp, mcpdoor.Refuse))
	for _, p := range a2adoor.Guarded() {
		mux.Handle(p, d.open(guard, d.a2a, d.a2a.Refuse))
	}
	for _, p := range a2adoor.Open() {
		mux.Handle(p, d.a2a)
	}
	return nil
}

// newA2A makes the A2A door, which looks after its tasks beside answering.
func (d *daemon) newA2A() (*a2adoor.Door, error) {
	policy := d.cfg.Egress
	if !d.cfg.InternalPush {
		policy = nil // what may be connected to by the spec's word may not be by a caller's
	}
	d.tasks = intask.New(intask.Config{})
	var names func(host string) bool
	if d.cfg.TLSCert != "" {
		names = d.names
	}
	return a2adoor.New(a2adoor.Config{
		Runner: d.runner, Store: d.tasks, Base: d.base, Names: names, Guard: egress.New(egress.Config{Policy: policy}),
		Propagator: d.tracing.Propagator, Log: d.log,
	})
}

// base is the address that the card shows: the one that others are told, or "", which is the one that was asked.
func (d *daemon) base() string {
	address := d.cfg.Advertise
	switch {
	case address == "" || strings.Contains(address, "://"):
		return address
	case d.cfg.TLSCert != "":
		return "https://" + address
	default:
		return "http://" + address
	}
}
