package app

import (
	"context"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/gate"
)

// newGate makes the people door's guard.
func newGate(in parts) (*gate.Gate, error) {
	return gate.New(gate.Config{Logger: in.log, Auth: tokenFile{guard: in.guard}, Labels: in.view, Audit: in.trail.queue, Redact: in.redact})
}

// tokenFile lets the bearer of the token file in.
type tokenFile struct{ guard *access.Guard }

// Authenticate knows one token.
func (t tokenFile) Authenticate(_ context.Context, bearer string) (access.Principal, error) {
	return t.guard.Bearer(bearer)
}
