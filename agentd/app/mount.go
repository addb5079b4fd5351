package app

import (
	"net/http"

	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/door/mcpdoor"
	"github.com/agentry/agentry/agentd/door/restdoor"
	"github.com/agentry/agentry/internal/version"
)

// mount puts the REST and the MCP door behind the front.
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
	return nil
}
