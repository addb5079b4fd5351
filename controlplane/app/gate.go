package app

import "github.com/agentry/agentry/controlplane/gate"

// newGate makes the people door's guard.
func newGate(in parts) (*gate.Gate, error) {
	return gate.New(gate.Config{Logger: in.log, Auth: in.directory, Labels: in.view, Audit: in.trail.queue, Redact: in.redact})
}
