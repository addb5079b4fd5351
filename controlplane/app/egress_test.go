package app

import (
	"bytes"
	"strings"
	"testing"

	"github.com/agentry/agentry/controlplane/probe"
	"github.com/agentry/agentry/internal/phase"
)

// A probe goes where its namespace may go, by the flag or the environment.
func TestProbesAreGuarded(t *testing.T) {
	cfg, err := ParseConfig([]string{"--egress-allow", "team-a=loopback, 10.0.0.0/8"}, env("AGENTRY_EGRESS_ALLOW", "loopback"), &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	look := guardedProbe(cfg.Egress)
	for namespace, want := range map[string]phase.Code{"team-a": phase.Unreachable, "team-b": phase.Invalid} {
		got := look(t.Context(), probe.Target{Name: "tools", Namespace: namespace, Endpoints: []string{"http://127.0.0.1:1/mcp"}})
		if got.Code != want || (want == phase.Invalid) != strings.Contains(got.Message, "--egress-allow 127.0.0.1") {
			t.Errorf("%s: %+v", namespace, got)
		}
	}
	if _, err := ParseConfig(nil, env("AGENTRY_EGRESS_ALLOW", "10.0.0.0/99"), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "10.0.0.0/99") {
		t.Errorf("%v", err)
	}
}
