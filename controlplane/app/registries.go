package app

import (
	"time"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/registryapi"
	releases "github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/releaseapi"
	"github.com/agentry/agentry/controlplane/reseal"
	"github.com/agentry/agentry/controlplane/specapi"
	"github.com/agentry/agentry/gen/agentry/registry/v1/registryv1connect"
	"github.com/agentry/agentry/gen/agentry/release/v1/releasev1connect"
)

// mountRegistries puts the services on the people door with which people move shared heads and steer releases.
func mountRegistries(p *people, in parts, specs *specapi.Service, status *releaseapi.Service, table *fleet.Table) error {
	anew, err := reseal.New(reseal.Config{Store: in.store, View: in.view, Vault: in.vault, Others: []reseal.Source{in.authority}})
	if err != nil {
		return err
	}
	registries, err := registryapi.New(registryapi.Config{
		Store: in.store, View: in.view, Vault: in.vault, Reseal: anew, Fleet: table, Probe: guardedProbe(in.cfg.Egress), Audit: in.trail.queue, Now: time.Now, Logger: in.log,
	})
	if err != nil {
		return err
	}
	rollouts, err := specapi.NewRollouts(specs, status.Rollout)
	if err != nil {
		return err
	}
	p.handle(registryv1connect.NewPromptServiceHandler(registries, p.opts...))
	p.handle(registryv1connect.NewMcpServiceHandler(registries, p.opts...))
	p.handle(registryv1connect.NewCredentialServiceHandler(registries, p.opts...))
	p.handle(releasev1connect.NewRolloutServiceHandler(rollouts, p.opts...))
	return nil
}

// progressOf asks the releaser, which is made after those who ask.
func progressOf(p *process) func(namespace, agent string, now time.Time) (releases.Progress, bool) {
	return func(namespace, agent string, now time.Time) (releases.Progress, bool) {
		return p.releaser.Progress(namespace, agent, now)
	}
}
