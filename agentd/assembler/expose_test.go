package assembler

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
)

// A key that can't sign the card is a warning: the config serves, and says so.
func TestAKeyThatCantSign(t *testing.T) {
	for name, wrong := range map[string]error{"wrong": errors.New("the signing key is no PEM"), "right": nil} {
		_, a := newWorld(t, func(cfg *Config) { cfg.SigningKey = func(secret.Value) error { return wrong } })
		d := newDraft()
		d.agent.Expose = &spec.Expose{A2A: json.RawMessage(`{"signingKey": {"credentialRef": "key"}}`)}
		var want []phase.Fault
		if wrong != nil {
			want = []phase.Fault{{
				Resource: "agent/helper", Field: "expose.a2a.signingKey", Code: phase.Invalid, Severity: phase.Warning, Message: "the card is not signed: the signing key is no PEM",
			}}
		}
		v := a.Apply(t.Context(), d.update(t))
		if diff := cmp.Diff(want, v.Faults); v.Phase != phase.Applied || diff != "" {
			t.Errorf("%s: %s\n%s", name, v.Phase, diff)
		}
	}
}
